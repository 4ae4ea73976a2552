"""How long a compiled model takes on this machine, measured on the engine that will serve it.

What is stored is the 90th percentile of a few dozen runs: a first estimate that is too low costs
broken promises, one that is too high only some rejected requests, and the controller replaces it
with its own measurements soon. Maxima would store one hiccup of the machine for ever.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from clockwork.engines.engine import EngineError
from clockwork.engines.memory import available_bytes
from clockwork.engines.onnx import OnnxConfig, OnnxEngine
from clockwork.errors import ModelError
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask
from clockwork.models.format import Measurement, ModelFile, read_model_file, write_model_file
from clockwork.models.hardware import device_kind
from clockwork.units import FOREVER_NS, GIB, MIB, MS

_PERCENTILE: Final = 0.9
_RUNS_MIN: Final = 3
_RUNS_MAX: Final = 40
# Chosen: five batch sizes of a model of ordinary size then take a few seconds.
_BUDGET_NS: Final = 400 * MS
_PAGE_BYTES: Final = 2 * MIB
_CODE: Final = CodeId(0)
_GPU: Final = GpuId(0)
_TASK: Final = TaskId(0)
_BATCH_MAX: Final = 2**31


def measure_model(
    directory: Path, *, cores: int = 1, progress: Callable[[str], None] | None = None
) -> ModelFile:
    """Measure a model on a device of `cores` cores, store that in its ``model.json``, return it.

    Raises:
        ModelError: the directory cannot be used, or the model does not run.
    """
    model = read_model_file(directory)
    try:
        with _Bench(directory, model, cores=cores) as bench:
            measured = _measure(bench, model.batch_sizes, progress or _say_nothing)
    except EngineError as error:
        raise ModelError(f"{directory} cannot be measured: {error}") from None
    measurements = {**model.measurements, device_kind(cores): measured}
    model = msgspec.structs.replace(model, measurements=measurements)
    write_model_file(directory, model)
    return model


class _Bench:
    """An engine that holds one model twice, so that loads go to changing pages."""

    def __init__(self, directory: Path, model: ModelFile, *, cores: int) -> None:
        sizes = [tensor.size_bytes for tensor in (*model.inputs, *model.outputs)]
        io_bytes = max(model.batch_sizes) * sum(sizes) + 64 * len(sizes) + 64
        codes = [code.weights_bytes for code in (model.code, *model.tuned.values()) if code]
        self._page_count = max(1, -(-max(codes, default=1) // _PAGE_BYTES))
        config = OnnxConfig(
            cores=cores,
            cache_bytes=2 * self._page_count * _PAGE_BYTES,
            page_bytes=_PAGE_BYTES,
            io_pool_bytes=io_bytes,
            # It is touched only as far as the model needs it.
            workspace_bytes=(available_bytes() or GIB) // 2,
        )
        self._engine = OnnxEngine(config, now_ns=time.monotonic_ns)
        self._directory = directory
        self._half = 0
        self._pages: tuple[int, ...] = ()

    def __enter__(self) -> "_Bench":
        task = LoadModelTask(_TASK, _CODE, str(self._directory), _BATCH_MAX, FOREVER_NS)
        self._engine.load_model(task)
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.release(_CODE)
        self._engine.close(_GPU)

    def load(self) -> int:
        """Load into the half of the cache that was not used last; return the ns it took."""
        self._half = 1 - self._half
        start = self._half * self._page_count
        self._pages = tuple(range(start, start + self._page_count))
        begin_ns = time.monotonic_ns()
        self._engine.load_weights(LoadWeightsTask(_TASK, _GPU, _CODE, self._pages))
        return time.monotonic_ns() - begin_ns

    def execute(self, batch_size: int) -> int:
        """Run a batch of made-up inputs; return the ns that the execution took."""
        task = InferTask(
            task_id=_TASK,
            gpu_id=_GPU,
            code_id=_CODE,
            pages=self._pages,
            batch_size=batch_size,
            padded_size=batch_size,
            payload=b"",
            input_sizes=(),
        )
        return self._engine.infer(task).exec.duration_ns

    def time(self, run: Callable[[], int], *, cold_runs: int) -> int:
        """Return the 90th percentile of what `run` returns, the first runs left out."""
        for _ in range(cold_runs):
            run()
        durations: list[int] = []
        while len(durations) < _RUNS_MAX and (
            len(durations) < _RUNS_MIN or sum(durations) < _BUDGET_NS
        ):
            durations.append(run())
        return sorted(durations)[int(_PERCENTILE * (len(durations) - 1) + 0.5)]


def _measure(bench: _Bench, batch_sizes: Sequence[int], say: Callable[[str], None]) -> Measurement:
    load_ns = bench.time(bench.load, cold_runs=3)
    say(f"LoadWeights {load_ns / MS:.2f} ms")
    exec_ns = {}
    for size in batch_sizes:
        exec_ns[size] = bench.time(partial(bench.execute, size), cold_runs=1)
        say(f"batch size {size}: {exec_ns[size] / MS:.2f} ms")
    return Measurement(exec_ns=exec_ns, load_ns=load_ns)


def _say_nothing(_: str) -> None:
    pass
