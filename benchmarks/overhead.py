"""Measures what the whole system adds to the bare engine, one request at a time.

The same inputs run in turns, in one run: on the engine in this process; through client, controller
and worker with the asynchronous client; and with the ordinary one, whose caller waits on another
thread. `inside` is how long the worker's engine took for the requests that came through the system,
by the action log, and `way` the rest of each of those requests. On a machine that has other things
to do, `way` is the steadier figure: `added` compares turns, `way` both parts of the same request.

    python benchmarks/overhead.py [--requests 2000] [--model digits ...] [--json FILE]
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import polars as pl
import uvloop
from msgspec import Struct, to_builtins
from numpy.typing import NDArray
from rig import Rig, RigConfig, parse_cores, pin

import clockwork
from clockwork.engines.onnx import OnnxConfig, OnnxEngine
from clockwork.messages.actions import ActionType
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask
from clockwork.models.verify import made_up_inputs
from clockwork.models.zoo.build import build
from clockwork.models.zoo.catalogue import DIGITS
from clockwork.telemetry.rows import ACTION_LOG
from clockwork.units import FOREVER_NS, GIB, MS

IMAGE_SIZE: Final = 112
SLO_MS: Final = 5_000
PER_TURN: Final = 50
WARM_UP: Final = 100
TASK: Final = TaskId(0)


class Latency(Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float


class Row(Struct, frozen=True):
    """What was measured for one model."""

    model: str
    requests: int
    # The engine alone, in this process.
    engine: Latency
    # From call to answer.
    asynchronous: Latency
    synchronous: Latency
    # The worker's engine during the two, and all but that engine, request by request.
    inside: Latency
    way: Latency
    # `asynchronous` and `synchronous` minus `engine`.
    added: Latency
    added_synchronous: Latency


class Bare:
    """An engine with one model that is warm."""

    def __init__(self, directory: Path) -> None:
        """Load the model and its weights."""
        self._engine = OnnxEngine(OnnxConfig(cache_bytes=GIB), now_ns=time.monotonic_ns)
        load = LoadModelTask(TASK, CodeId(0), str(directory), 1, FOREVER_NS)
        self._pages = tuple(range(self._engine.load_model(load).weights_pages))
        self._engine.load_weights(LoadWeightsTask(TASK, GpuId(0), CodeId(0), self._pages))

    def infer(self, payload: bytes) -> int:
        """Run one request; return the nanoseconds from inputs to outputs."""
        begin_ns = time.perf_counter_ns()
        task = InferTask(TASK, GpuId(0), CodeId(0), self._pages, 1, 1, payload, ())
        b"".join(self._engine.infer(task).outputs)
        return time.perf_counter_ns() - begin_ns

    def close(self) -> None:
        """Give the memory back."""
        self._engine.release(CodeId(0))
        self._engine.close(GpuId(0))


def measure(name: str, directory: Path, requests: int) -> Row:
    """Return what one model takes on the engine and through the system."""
    bare = Bare(directory)
    with TemporaryDirectory(prefix="clockwork-overhead-") as text:
        folder = Path(text)
        config = RigConfig(is_emulated=False, worker_arguments=("--weights-cache-size=1GiB",))
        with Rig(config, folder) as rig:
            samples = uvloop.run(_in_turns(bare, f"127.0.0.1:{rig.port}", directory, requests))
        inside_ns = _exec_durations(folder, 2 * len(samples[0]))
    bare.close()
    engine, asynchronous, synchronous = (_latency(each) for each in samples)
    way_ns = np.subtract(_in_order(*samples[1:]), inside_ns)
    return Row(
        model=name,
        requests=len(samples[0]),
        engine=engine,
        asynchronous=asynchronous,
        synchronous=synchronous,
        inside=_latency(inside_ns),
        way=_latency(way_ns),
        added=_difference(asynchronous, engine),
        added_synchronous=_difference(synchronous, engine),
    )


async def _in_turns(
    bare: Bare, address: str, directory: Path, requests: int
) -> tuple[list[int], list[int], list[int]]:
    """Return nanoseconds per request on the engine, and with both clients."""
    async with await clockwork.AsyncClient.connect(address) as client:
        model = await client.load_model(str(directory))
        image = made_up_inputs(model.inputs, 1)[model.inputs[0].name][0]
        with await asyncio.to_thread(clockwork.connect, address) as ordinary:
            other = await asyncio.to_thread(ordinary.model, model.model_id)
            samples: tuple[list[int], list[int], list[int]] = ([], [], [])
            for turn in range(-WARM_UP // PER_TURN, requests // PER_TURN):
                engine = [bare.infer(image.tobytes()) for _ in range(PER_TURN)]
                asynchronous = [await _ask(model, image) for _ in range(PER_TURN)]
                # This loop sleeps meanwhile, as it would in a program without it.
                synchronous = await asyncio.to_thread(_ask_in_a_row, other, image)
                if turn >= 0:
                    for sample, more in zip(
                        samples, (engine, asynchronous, synchronous), strict=True
                    ):
                        sample += more
            return samples


def _in_order(asynchronous: Sequence[int], synchronous: Sequence[int]) -> list[int]:
    """Return the durations of both clients in the order in which they were measured."""
    merged: list[int] = []
    for begin in range(0, len(asynchronous), PER_TURN):
        merged += asynchronous[begin : begin + PER_TURN]
        merged += synchronous[begin : begin + PER_TURN]
    return merged


async def _ask(model: "clockwork.live.async_client.AsyncModel", image: Any) -> int:
    begin_ns = time.perf_counter_ns()
    await model.infer(image, slo_ms=SLO_MS)
    return time.perf_counter_ns() - begin_ns


def _ask_in_a_row(model: clockwork.Model, image: Any) -> list[int]:
    durations = []
    for _ in range(PER_TURN):
        begin_ns = time.perf_counter_ns()
        model.infer(image, slo_ms=SLO_MS)
        durations.append(time.perf_counter_ns() - begin_ns)
    return durations


def _exec_durations(folder: Path, last: int) -> list[int]:
    """Return how long the last Infers ran on the worker, in nanoseconds."""
    frame = pl.read_csv(folder / ACTION_LOG, separator="\t")
    infers = frame.filter(pl.col("action_type") == int(ActionType.INFER)).tail(last)
    return infers["worker_exec_duration"].to_list()


def _latency(durations_ns: Sequence[int] | NDArray[np.int64]) -> Latency:
    p50, p99 = np.percentile(durations_ns, (50, 99)) / MS
    return Latency(round(float(p50), 4), round(float(p99), 4))


def _difference(one: Latency, other: Latency) -> Latency:
    return Latency(round(one.p50 - other.p50, 4), round(one.p99 - other.p99, 4))


def show(row: Row) -> str:
    """Return the lines about a model."""
    lines = [f"{row.model}, {row.requests} requests, ms:{'p50':>17} {'p99':>9}"]
    for text, latency in (
        ("engine alone", row.engine),
        ("engine inside the system", row.inside),
        ("system without that engine", row.way),
        ("whole system, AsyncClient", row.asynchronous),
        ("whole system, Client", row.synchronous),
        ("added, AsyncClient", row.added),
        ("added, Client", row.added_synchronous),
    ):
        lines.append(f"  {text:<32} {latency.p50:9.3f} {latency.p99:9.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000, help="per model and kind of client")
    parser.add_argument("--model", action="append", help="of the zoo; may be repeated")
    parser.add_argument("--cores", type=parse_cores, default=None, help="run on these: 0,1")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if options.cores:
        pin(options.cores)
    rows = []
    with TemporaryDirectory(prefix="clockwork-overhead-models-") as folder:
        for name in options.model or (DIGITS, "resnet18_v1"):
            size = None if name == DIGITS else IMAGE_SIZE
            directory = build(name, Path(folder), image_size=size)
            rows.append(measure(name, directory, options.requests))
            print(show(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(to_builtins(rows), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
