"""An asyncio client that sends at random instants, whatever is answered, and counts what was kept.

Run: ``python examples/ask_many.py [HOST:PORT]`` beside a running ``clockwork serve models`` (``-h``
explains its options).
"""

import argparse
import asyncio
import random
from collections import Counter

import numpy as np

import clockwork

SEED = 1


async def ask(options: argparse.Namespace) -> None:
    """Send Poisson arrivals to one model, and print how many were answered in time."""
    rng = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    latencies_ms: list[float] = []
    async with await clockwork.AsyncClient.connect(options.address) as client:
        model = await client.model(options.model)
        inputs = {each.name: np.zeros(each.shape, each.dtype) for each in model.inputs}

        async def one() -> None:
            try:
                answer = await model.infer(inputs, slo_ms=options.slo_ms)
            except clockwork.DeadlineError as error:
                # RejectedError or TimedOutError. Anything else is a mistake, and ends the program.
                outcomes[type(error).__name__] += 1
            else:
                outcomes["in time" if answer.latency_ms <= options.slo_ms else "late"] += 1
                latencies_ms.append(answer.latency_ms)

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as requests:
            due_s = loop.time()
            end_s = due_s + options.seconds
            while (due_s := due_s + rng.expovariate(options.rate)) < end_s:
                # Due by the schedule, not by the last answer: a slow server gets no relief.
                await asyncio.sleep(due_s - loop.time())
                requests.create_task(one())
    print(f"{options.model}: {sum(outcomes.values())} requests, {dict(outcomes)}")
    if latencies_ms:
        print(f"latency p50 {np.median(latencies_ms):.1f} ms, max {max(latencies_ms):.1f} ms")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", default="localhost:12346")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--slo-ms", type=float, default=100.0)
    asyncio.run(ask(parser.parse_args()))


if __name__ == "__main__":
    main()
