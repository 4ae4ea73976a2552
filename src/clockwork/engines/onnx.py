"""The engine that computes: ONNX Runtime on groups of cores, weights in pages (DESIGN D8).

A GPU here is a number of cores with a weights cache in main memory. Models keep their code (a
session) and a copy of their weights in host memory; LoadWeights copies into pages, an inference
binds addresses. Nothing is allocated per model but that.

Threads: as `engines.engine.Engine` says. Loading and releasing of models share one thread, so the
library needs no lock; the others only look up.

Not here: when and where anything runs (the worker role), and threads (live/devices).
"""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from clockwork.engines.engine import EngineError, Inference
from clockwork.engines.onnx_code import Library, LoadedCode
from clockwork.engines.onnx_device import Device
from clockwork.errors import ConfigurationError, ModelError
from clockwork.messages.actions import Timing
from clockwork.messages.ids import CodeId, GpuId
from clockwork.messages.models import GpuState, ModelProfile
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask
from clockwork.models.folders import ModelFolders
from clockwork.models.format import profile_of
from clockwork.models.hardware import device_kind
from clockwork.models.sessions import limit_workspace
from clockwork.units import GIB, MIB


class OnnxConfig(Struct, frozen=True, kw_only=True):
    """How much of this machine the engine takes."""

    gpu_count: int = 1
    # Cores of each GPU.
    cores: int = 1
    # Of each GPU; rounded down to whole pages.
    cache_bytes: int = GIB
    # A multiple of 4 KiB, better of 2 MiB.
    page_bytes: int = 16 * MIB
    # Inputs and outputs of one batch, of each GPU.
    io_pool_bytes: int = 512 * MIB
    # Intermediate values of one execution, of each GPU.
    workspace_bytes: int = 512 * MIB
    # Model directories must be in one of these; empty: anywhere.
    model_folders: tuple[str, ...] = ()
    # Where uploaded models are; None: there are none.
    upload_folder: Path | None = None


class OnnxEngine:
    """One worker's GPUs. Implements `engines.engine.Engine`."""

    def __init__(self, config: OnnxConfig, *, now_ns: Callable[[], int]) -> None:
        """Take the memory of all weights caches.

        Args:
            now_ns: the clock of the timings.

        Raises:
            ConfigurationError: a size does not suit this machine.
        """
        _check(config)
        self._config = config
        self._now_ns = now_ns
        self._page_count = config.cache_bytes // config.page_bytes
        limit_workspace(config.workspace_bytes * config.gpu_count)
        self._library = Library(cores=config.cores)
        self._devices = [
            Device(
                page_count=self._page_count,
                page_bytes=config.page_bytes,
                io_pool_bytes=config.io_pool_bytes,
                workspace_bytes=config.workspace_bytes,
            )
            for _ in range(config.gpu_count)
        ]
        self._place_of = ModelFolders(config.model_folders, uploads=config.upload_folder)

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of the weights caches."""
        return self._config.page_bytes

    def gpus(self) -> list[GpuState]:
        """Return the GPUs and their sizes, nothing warm."""
        return [
            GpuState(
                gpu_id=GpuId(gpu_id),
                cache_bytes=self._page_count * self._config.page_bytes,
                cache_pages=self._page_count,
                io_pool_bytes=self._config.io_pool_bytes,
                workspace_bytes=self._config.workspace_bytes,
                warm=(),
            )
            for gpu_id in range(self._config.gpu_count)
        ]

    def load_model(self, task: LoadModelTask) -> ModelProfile:
        """Read a model directory and keep its code and weights in host memory.

        Raises:
            EngineError: the path is not allowed, or the directory is missing or broken.
        """
        try:
            code = self._library.load(task.code_id, self._place_of(task.path))
        except ModelError as error:
            raise EngineError(ActionStatus.INVALID_MODEL_PATH, str(error)) from None
        except OSError as error:
            raise EngineError(ActionStatus.RUNTIME_ERROR, str(error)) from None
        return profile_of(
            code.model,
            page_bytes=self._config.page_bytes,
            device_kind=device_kind(self._config.cores),
            batch_max=task.batch_max,
            exec_max_ns=task.exec_max_ns,
            code=code.code,
        )

    def load_weights(self, task: LoadWeightsTask) -> None:
        """Copy a model's weights into pages.

        Raises:
            EngineError: the model or the pages are not there, or the pages are in use.
        """
        self._devices[task.gpu_id].load(task.code_id, self._code(task.code_id), task.pages)

    def infer(self, task: InferTask) -> Inference:
        """Run one batch.

        Raises:
            EngineError: the input has the wrong size, a limit is exceeded, or execution failed.
        """
        device = self._devices[task.gpu_id]
        begin_ns = self._now_ns()
        try:
            batch = device.place_inputs(task)
            placed_ns = self._now_ns()
            device.execute(batch)
            executed_ns = self._now_ns()
        finally:
            device.finish()
        outputs = batch.outputs()
        return Inference(
            copy_input=_timing(begin_ns, placed_ns),
            exec=_timing(placed_ns, executed_ns),
            copy_output=_timing(executed_ns, self._now_ns()),
            outputs=outputs,
        )

    def release(self, code_id: CodeId) -> None:
        """Drop a model's code and host weights."""
        for device in self._devices:
            device.release(code_id)
        self._library.release(code_id)

    def close(self, gpu_id: GpuId) -> None:
        """Give back the weights cache of a GPU."""
        self._devices[gpu_id].close()

    def _code(self, code_id: CodeId) -> LoadedCode:
        code = self._library.find(code_id)
        if code is None:
            raise EngineError(ActionStatus.RUNTIME_ERROR, f"code {code_id} is not in memory")
        return code


def _timing(begin_ns: int, end_ns: int) -> Timing:
    return Timing(begin_ns=begin_ns, end_ns=end_ns, duration_ns=end_ns - begin_ns)


def _check(config: OnnxConfig) -> None:
    for name in ("gpu_count", "cores", "page_bytes", "io_pool_bytes", "workspace_bytes"):
        if getattr(config, name) < 1:
            raise ConfigurationError(f"{name} is {getattr(config, name)}, it must be at least 1")
    if config.cache_bytes < config.page_bytes:
        raise ConfigurationError(
            f"a weights cache of {config.cache_bytes} bytes holds no page of {config.page_bytes}"
        )
