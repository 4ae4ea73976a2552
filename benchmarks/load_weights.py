"""LoadWeights of the real engine as a share of plain memcpy, measured in turns in one run.

Both copy the same number of bytes between the same kinds of memory, from four sources to changing
places, so that neither finds its data in a cache that the other one does not have. *In place*:
pages that followed one another already; *scattered*: pages from all over the cache, other ones at
every load, as after many evictions.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from msgspec import Struct, to_builtins
from onnx import TensorProto, helper, numpy_helper

from clockwork.engines import memory
from clockwork.engines.onnx import OnnxConfig, OnnxEngine
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.worker_io import LoadModelTask, LoadWeightsTask
from clockwork.models.compile import compile_model
from clockwork.units import FOREVER_NS, MIB

PAGE_BYTES = 16 * MIB
SOURCE_COUNT = 4
# Bytes and tensors of models that people know.
SHAPES = {
    "ResNet-18": (46_800_000, 42),
    "ResNet-50": (102_100_000, 107),
    "BERT-base": (438_000_000, 199),
}


class Row(Struct, frozen=True):
    """What was measured for one model."""

    model: str
    weights_bytes: int
    tensors: int
    # GB/s, medians.
    memcpy: float
    in_place: float
    scattered: float

    @property
    def shares(self) -> tuple[float, float]:
        """Speed of both kinds of loads over that of memcpy."""
        return self.in_place / self.memcpy, self.scattered / self.memcpy


class Bench:
    """An engine with one model under several ids, and memory for plain copies."""

    def __init__(self, directories: Sequence[Path]) -> None:
        sizes = OnnxConfig(cache_bytes=PAGE_BYTES, page_bytes=PAGE_BYTES)
        engine = OnnxEngine(sizes, now_ns=time.monotonic_ns)
        self.weights_bytes, count = _load_models(engine, directories[:1])
        engine.close(GpuId(0))
        self._page_count = count
        cache_bytes = 4 * SOURCE_COUNT * count * PAGE_BYTES
        config = OnnxConfig(cache_bytes=cache_bytes, page_bytes=PAGE_BYTES)
        self.engine = OnnxEngine(config, now_ns=time.monotonic_ns)
        _load_models(self.engine, directories)
        self._blocks = [memory.Block(self.weights_bytes) for _ in range(2 * SOURCE_COUNT)]
        for block in self._blocks:
            memory.populate(block.address, block.size_bytes)
        # One half of the cache for each kind of load.
        half = 2 * SOURCE_COUNT * count
        self._in_place = [tuple(range(i, i + count)) for i in range(0, half, count)]
        self._others = np.arange(half, 2 * half)
        self._rng = np.random.default_rng(0)

    def memcpy(self, turn: int) -> None:
        """Copy as many bytes as the model has from one block to another."""
        source = self._blocks[turn % SOURCE_COUNT]
        target = self._blocks[SOURCE_COUNT + turn % SOURCE_COUNT]
        memory.copy(target.address, source.address, self.weights_bytes)

    def load_in_place(self, turn: int) -> None:
        """Load into pages that were joined before."""
        self._load(turn, self._in_place[turn % len(self._in_place)])

    def load_scattered(self, turn: int) -> None:
        """Load into pages that were never joined."""
        self._load(turn, self.next_scattered)

    def shuffle(self) -> None:
        """Choose the pages of the next scattered load."""
        pages = self._rng.choice(self._others, self._page_count, replace=False)
        self.next_scattered: tuple[int, ...] = tuple(pages.tolist())

    def _load(self, turn: int, pages: tuple[int, ...]) -> None:
        code_id = CodeId(turn % SOURCE_COUNT)
        self.engine.load_weights(LoadWeightsTask(TaskId(0), GpuId(0), code_id, pages))


def measure(name: str, directories: Sequence[Path], *, turns: int) -> Row:
    """Return the speeds for copies of one model."""
    bench = Bench(directories)
    kinds: list[Callable[[int], None]] = [bench.memcpy, bench.load_in_place, bench.load_scattered]
    durations: list[list[int]] = [[] for _ in kinds]
    for turn in range(turns):
        for kind, found in zip(kinds, durations, strict=True):
            bench.shuffle()
            begin_ns = time.perf_counter_ns()
            kind(turn)
            found.append(time.perf_counter_ns() - begin_ns)
    speeds = [bench.weights_bytes / statistics.median(found) for found in durations]
    bench.engine.close(GpuId(0))
    return Row(name, bench.weights_bytes, len_weights(directories[0]), *speeds)


def len_weights(directory: Path) -> int:
    """Return how many tensors a model directory lists."""
    model: dict[str, Any] = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    return len(model["code"]["weights"])


def build(folder: Path, name: str) -> list[Path]:
    """Write and compile copies of a model of the size and tensor count of `name`."""
    total_bytes, count = SHAPES[name]
    rows = total_bytes // count // 4 // 64
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((rows, 64), dtype=np.float32), f"w{i}")
        for i in range(count)
    ]
    products = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(count)]
    total = helper.make_node("Sum", [f"y{i}" for i in range(count)], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", rows])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])]
    graph = helper.make_graph([*products, total], "bench", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(folder / "m.onnx"))
    directories = [folder / f"copy{i}" for i in range(SOURCE_COUNT)]
    for directory in directories:
        compile_model(folder / "m.onnx", directory, batch_sizes=(1,), measure=False)
    return directories


def _load_models(engine: OnnxEngine, directories: Sequence[Path]) -> tuple[int, int]:
    for code_id, directory in enumerate(directories):
        task = LoadModelTask(TaskId(0), CodeId(code_id), str(directory), 16, FOREVER_NS)
        profile = engine.load_model(task)
    return profile.weights_bytes, profile.weights_pages


@click.command(help=__doc__)
@click.option(
    "--model", "names", multiple=True, type=click.Choice(list(SHAPES)), help="which sizes"
)
@click.option("--turns", default=40, show_default=True, help="copies of each kind")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="also write figures here"
)
def main(names: tuple[str, ...], turns: int, json_path: Path | None) -> None:
    """Measure, print a table, and write JSON if asked to."""
    rows = []
    click.echo(f"{'':10} {'MB':>6} {'tensors':>7} {'memcpy':>8} {'in place':>16} {'scattered':>16}")
    for name in names or ("ResNet-18", "ResNet-50"):
        with tempfile.TemporaryDirectory() as folder:
            row = measure(name, build(Path(folder), name), turns=turns)
        rows.append(row)
        in_place, scattered = row.shares
        click.echo(
            f"{row.model:10} {row.weights_bytes / 1e6:6.1f} {row.tensors:7} "
            f"{row.memcpy:5.1f}GB/s {row.in_place:5.1f}GB/s ({in_place:4.0%}) "
            f"{row.scattered:5.1f}GB/s ({scattered:4.0%})"
        )
    if json_path is not None:
        json_path.write_text(json.dumps(to_builtins(rows), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
