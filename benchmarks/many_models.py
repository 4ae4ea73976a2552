"""Measures how long thousands of emulated models take to load, and the memory that they cost.

In one run with copies, as workloads load them (64 LoadModels with many copies each), in another
with a LoadModel per model. The time is that of a client, from its first LoadModel to the answer to
LS that lists all models, with the end of the load phase in it (the default, 1 s without activity).
Afterwards each model is asked once, since a controller learns more about models that are used.

    python benchmarks/many_models.py [--models 4000] [--gpus 8] [--json FILE]
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvloop
from msgspec import Struct, to_builtins
from rig import Rig, RigConfig, make_zoo, parse_cores, pin

import clockwork
from clockwork.live.async_client import AsyncModel
from clockwork.units import MIB

LOADS_AT_ONCE: Final = 256
REQUESTS_AT_ONCE: Final = 64
SLO_MS: Final = 60_000


class Row(Struct, frozen=True, kw_only=True):
    """What was measured in one of the two ways."""

    way: str
    models: int
    gpus: int
    # From the first LoadModel to the list of all models.
    load_s: float
    # Resident memory of the controller: before, with all models, after a request to each.
    controller_start_mib: float
    controller_loaded_mib: float
    controller_used_mib: float
    worker_loaded_mib: float
    # Requests of those to each model that succeeded.
    answered: int


def measure(zoo: Path, *, models: int, gpus: int, has_copies: bool) -> Row:
    """Return what loading `models` models took."""
    paths = sorted(path for path in zoo.iterdir() if path.is_dir())
    if has_copies:
        offers = [(path, models // len(paths)) for path in paths]
        offers = [
            (path, copies + (index < models % len(paths)))
            for index, (path, copies) in enumerate(offers)
        ]
    else:
        offers = [(paths[index % len(paths)], 1) for index in range(models)]
    with (
        TemporaryDirectory(prefix="clockwork-many-models-") as folder,
        Rig(RigConfig(gpus=(gpus,)), Path(folder)) as rig,
    ):
        return uvloop.run(_run(rig, offers, gpus=gpus, has_copies=has_copies))


async def _run(rig: Rig, offers: list[tuple[Path, int]], *, gpus: int, has_copies: bool) -> Row:
    controller, worker = rig.processes
    before = controller.memory_bytes()
    async with await clockwork.AsyncClient.connect(f"127.0.0.1:{rig.port}") as client:
        begin_s = time.monotonic()
        await _load(client, offers)
        loaded = await client.models()
        load_s = time.monotonic() - begin_s
        with_models, at_worker = controller.memory_bytes(), worker.memory_bytes()
        answered = await _ask_each(loaded)
    return Row(
        way="copies" if has_copies else "one by one",
        models=len(loaded),
        gpus=gpus,
        load_s=round(load_s, 2),
        controller_start_mib=_mib(before),
        controller_loaded_mib=_mib(with_models),
        controller_used_mib=_mib(controller.memory_bytes("VmHWM")),
        worker_loaded_mib=_mib(at_worker),
        answered=answered,
    )


async def _load(client: clockwork.AsyncClient, offers: list[tuple[Path, int]]) -> None:
    places = asyncio.Semaphore(LOADS_AT_ONCE)

    async def load(path: Path, copies: int) -> None:
        async with places:
            await client.load_model(str(path), copies)

    await asyncio.gather(*(load(path, copies) for path, copies in offers))


async def _ask_each(models: list[AsyncModel]) -> int:
    """Ask every model once; return how many answers were good."""
    places = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def ask(model: AsyncModel) -> bool:
        async with places:
            try:
                await model.infer(None, slo_ms=SLO_MS)
            except clockwork.RequestError:
                return False
            return True

    return sum(await asyncio.gather(*map(ask, models)))


def _mib(size_bytes: int) -> float:
    return round(size_bytes / MIB, 1)


def show(row: Row) -> str:
    """Return the line about a row."""
    return (
        f"{row.models} models {row.way:<10} on {row.gpus} GPUs: {row.load_s:6.2f} s, controller "
        f"{row.controller_start_mib:.0f} MiB at start, {row.controller_loaded_mib:.0f} MiB with "
        f"models, {row.controller_used_mib:.0f} MiB at most; worker {row.worker_loaded_mib:.0f} "
        f"MiB; {row.answered} of {row.models} answered"
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=4000)
    parser.add_argument("--gpus", type=int, default=8, help="emulated, of one worker")
    parser.add_argument("--cores", type=parse_cores, default=None, help="run on these: 0,1")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if options.cores:
        pin(options.cores)
    rows = []
    with TemporaryDirectory(prefix="clockwork-many-models-zoo-") as folder:
        zoo = make_zoo(Path(folder))
        for has_copies in (True, False):
            row = measure(zoo, models=options.models, gpus=options.gpus, has_copies=has_copies)
            rows.append(row)
            print(show(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(to_builtins(rows), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
