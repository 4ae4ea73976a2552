"""Measures how many simulated requests a second of wall time holds.

The load: 12 GPUs on 6 workers, 4,000 models of the published table, a synthetic Azure-like trace
at 8,000 requests/s on average (all are options). Counted are requests answered from the first one
on, without startup, on one core, with and without the digest. ``make fast`` first is as intended.

Nothing fails and all durations are as predicted, so no request that succeeds may be late: the exit
code is 1 if one is. ``--seconds 3600 --digest without`` watches that for an hour.

Prints the share of the wall time that each function takes with ``--profile``.
"""

import argparse
import cProfile
import gc
import json
import pstats
import sys
from pathlib import Path
from time import perf_counter, process_time

from build import how_built
from msgspec import Struct, to_builtins

from clockwork.sim.digest import Digest
from clockwork.sim.presets import azure_workload, rack
from clockwork.sim.run import Run
from clockwork.sim.scenario import Hardware, Scenario
from clockwork.units import SECOND

TARGET_PER_S = 30_000
"""What must be reached (DESIGN 6)."""


class Result(Struct, frozen=True):
    """One measurement."""

    with_digest: bool
    requests: int
    simulated_s: float
    wall_s: float
    requests_per_wall_s: int
    # Entries of the agenda per request.
    steps_per_request: float
    mean_batch: float
    goodput_share: float
    late: int
    digest: str


def scenario(options: argparse.Namespace) -> Scenario:
    """Return what is simulated."""
    duration_ns = int(options.seconds * SECOND)
    workload = azure_workload(
        models=options.models, rate_per_s=options.rate, duration_ns=duration_ns, seed=options.seed
    )
    hardware = Hardware(workers=options.gpus // 2, gpus_per_worker=2)
    return rack(
        "benchmark", workload, hardware=hardware, duration_ns=duration_ns, seed=options.seed
    )


def measure(made: Scenario, *, with_digest: bool) -> Result:
    """Run a scenario and count."""
    digest = Digest(has_payloads=made.sends_inputs)
    run = Run(made, taps=[digest] if with_digest else [])
    while not run.totals.requests and run.advance():
        pass
    gc.collect()
    gc.freeze()
    gc.disable()
    begun_with, steps = run.totals.requests, run.world.loop.step_count
    begin, begin_ns = process_time(), run.world.loop.now_ns
    while run.advance():
        pass
    wall_s = process_time() - begin
    gc.enable()
    totals = run.totals
    requests = totals.requests - begun_with
    return Result(
        with_digest=with_digest,
        requests=requests,
        simulated_s=(run.world.loop.now_ns - begin_ns) / SECOND,
        wall_s=wall_s,
        requests_per_wall_s=int(requests / wall_s),
        steps_per_request=(run.world.loop.step_count - steps) / requests,
        mean_batch=totals.succeeded / max(totals.batches, 1),
        goodput_share=(totals.succeeded - totals.late) / totals.requests,
        late=totals.late,
        digest=digest.hex,
    )


def show(result: Result) -> None:
    """Print a measurement as one line."""
    print(
        f"{'with' if result.with_digest else 'without'} digest: "
        f"{result.requests:,} requests of {result.simulated_s:.0f} s in {result.wall_s:.1f} s: "
        f"{result.requests_per_wall_s:,} per second "
        f"({result.requests_per_wall_s / TARGET_PER_S:.2f} of the target); "
        f"{result.steps_per_request:.2f} steps each, mean batch {result.mean_batch:.2f}, "
        f"goodput {result.goodput_share:.2%}, {result.late} accepted ones late",
        flush=True,
    )


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=12)
    parser.add_argument("--models", type=int, default=4_000)
    parser.add_argument("--rate", type=float, default=8_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--digest", choices=("without", "with", "both"), default="both")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    begin = perf_counter()
    made = scenario(options)
    print(f"{how_built()}; made the scenario in {perf_counter() - begin:.1f} s")
    if options.profile:
        profile = cProfile.Profile()
        show(profile.runcall(measure, made, with_digest=False))
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return 0
    results = []
    for with_digest in {"without": [False], "with": [True]}.get(options.digest, [False, True]):
        results.append(measure(made, with_digest=with_digest))
        show(results[-1])
    if options.json:
        options.json.write_text(json.dumps([to_builtins(each) for each in results], indent=1))
    return int(any(result.late for result in results))


if __name__ == "__main__":
    sys.exit(main())
