"""Checks one model on this machine: sizes, and how predictable its times are.

Percentiles stand beside means because promises are made of them: a model whose p99 is twice its
p50 needs twice the slack.

Source: SPEC 1.8 (the lines and their order); the spreads behind the means are ours.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from clockwork.engines.engine import EngineError
from clockwork.engines.onnx import OnnxConfig, OnnxEngine
from clockwork.errors import ConfigurationError, ModelError
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.models import ModelProfile
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask
from clockwork.models.format import read_model_file
from clockwork.models.verify import made_up_inputs
from clockwork.units import FOREVER_NS, GIB, MIB, MS

WARM_UPS: Final = 10
"""Runs before the measured ones; the original's."""

_CODE: Final = CodeId(0)
_GPU: Final = GpuId(0)
_TASK: Final = TaskId(0)
_WORKSPACE_BYTES: Final = 2 * GIB
_BATCH_MAX: Final = 2**31


class CheckOptions(Struct, frozen=True, kw_only=True):
    """What to check and how."""

    directory: Path
    iterations: int
    cores: int
    page_bytes: int
    # One request's input; absent: random.
    payload: bytes | None


class Spread(Struct, frozen=True):
    """Durations of a number of equal runs, in ms."""

    mean: float
    p50: float
    p99: float
    max: float

    def __str__(self) -> str:
        """Return the mean, and behind it how far the others are from it."""
        return f"{self.mean:.2f} ms  (p50 {self.p50:.2f}, p99 {self.p99:.2f}, max {self.max:.2f})"


def check_model(options: CheckOptions) -> Iterator[str]:
    """Yield the lines of the check; each takes as long as its measuring.

    Raises:
        ModelError: the model is broken, or cannot be run here.
        ConfigurationError: the input has the wrong size.
    """
    model = read_model_file(options.directory)
    if model.code is None:
        raise ModelError(
            f"{options.directory} is for emulated devices only: it has no code to check"
        )
    try:
        yield from _Check(options).lines()
    except EngineError as error:
        raise ModelError(f"{options.directory} does not run here: {error}") from None


class _Check:
    def __init__(self, options: CheckOptions) -> None:
        self._options = options
        self._pages: tuple[int, ...] = ()

    def lines(self) -> Iterator[str]:
        """Load the model, then yield line by line."""
        engine, profile = self._open()
        payload = self._payload(profile)
        self._pages = tuple(range(profile.weights_pages))
        paged = profile.weights_pages * self._options.page_bytes
        try:
            yield f"  input_size:  {profile.input_bytes}"
            yield f"  output_size: {profile.output_bytes}"
            yield f"  workspace:   shared by all models, at most {_WORKSPACE_BYTES}"
            yield (
                f"  weights size paged (non-paged) [num_pages]: {paged} "
                f"({profile.weights_bytes}) [{profile.weights_pages}]"
            )
            load = self._spread(lambda: self._load(engine))
            yield f"  weights transfer latency: {load}"
            yield "  execution latency:"
            for size in profile.batch_sizes:
                spread = self._spread(partial(self._execute, engine, payload, size))
                yield f"    b{size}: {spread}"
            if self._options.payload is not None:
                yield from self._best(engine, payload)
        finally:
            engine.release(_CODE)
            engine.close(_GPU)

    def _open(self) -> tuple[OnnxEngine, ModelProfile]:
        options = self._options
        model = read_model_file(options.directory)
        sizes = [tensor.size_bytes for tensor in (*model.inputs, *model.outputs)]
        page = options.page_bytes
        config = OnnxConfig(
            cores=options.cores,
            # Room for code tuned to this processor, whose weights may be padded.
            cache_bytes=(2 * model.weights_bytes // page + 4) * page,
            page_bytes=page,
            io_pool_bytes=max(model.batch_sizes) * sum(sizes) + MIB,
            workspace_bytes=_WORKSPACE_BYTES,
        )
        engine = OnnxEngine(config, now_ns=time.monotonic_ns)
        task = LoadModelTask(_TASK, _CODE, str(options.directory), _BATCH_MAX, FOREVER_NS)
        return engine, engine.load_model(task)

    def _payload(self, profile: ModelProfile) -> bytes:
        given = self._options.payload
        if given is None:
            arrays = made_up_inputs(profile.inputs, 1)
            return b"".join(arrays[tensor.name].tobytes() for tensor in profile.inputs)
        if len(given) != profile.input_bytes:
            raise ConfigurationError(
                f"the input has {len(given)} bytes, the model takes {profile.input_bytes}"
            )
        return given

    def _load(self, engine: OnnxEngine) -> int:
        begin_ns = time.monotonic_ns()
        engine.load_weights(LoadWeightsTask(_TASK, _GPU, _CODE, self._pages))
        return time.monotonic_ns() - begin_ns

    def _execute(self, engine: OnnxEngine, payload: bytes, size: int) -> int:
        return engine.infer(self._task(payload, size)).exec.duration_ns

    def _task(self, payload: bytes, size: int) -> InferTask:
        return InferTask(
            task_id=_TASK,
            gpu_id=_GPU,
            code_id=_CODE,
            pages=self._pages,
            batch_size=size,
            padded_size=size,
            payload=payload * size,
            input_sizes=(len(payload),) * size,
        )

    def _spread(self, run: Callable[[], int]) -> Spread:
        for _ in range(WARM_UPS):
            run()
        times_ms = np.array([run() for _ in range(self._options.iterations)]) / MS
        p50, p99 = np.percentile(times_ms, [50, 99])
        return Spread(float(times_ms.mean()), float(p50), float(p99), float(times_ms.max()))

    def _best(self, engine: OnnxEngine, payload: bytes) -> Iterator[str]:
        """Yield the five largest numbers of the first output."""
        outputs = engine.infer(self._task(payload, 1)).outputs
        first = read_model_file(self._options.directory).outputs[0]
        data = b"".join(bytes(part) for part in outputs)[: first.size_bytes]
        values: NDArray[Any] = np.frombuffer(data, dtype=first.dtype)
        yield f"  largest values of {first.name}:"
        for index in np.argsort(-values.astype(np.float64), kind="stable")[:5]:
            yield f"    {index} = {values[index]}"
