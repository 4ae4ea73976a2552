"""What a device that really computes looks like to the shell that drives it."""

from typing import Protocol

from msgspec import Struct

from clockwork.messages.actions import Timing
from clockwork.messages.ids import CodeId, GpuId
from clockwork.messages.models import GpuState, ModelProfile
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask


class EngineError(Exception):
    """A task failed for a reason that the controller should see."""

    def __init__(self, status: ActionStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Inference(Struct, frozen=True, gc=False):
    """What one InferTask gave: three timings in this process's clock, and the outputs."""

    copy_input: Timing
    exec: Timing
    copy_output: Timing
    # Buffers that hold `batch_size` requests' outputs, one request after the other. They belong
    # to the caller: the engine never writes to them again.
    outputs: tuple[Payload, ...]
    clock_before_mhz: int = 0
    clock_mhz: int = 0


class Engine(Protocol):
    """One worker's devices. Calls block; each GPU's calls come from that GPU's own thread.

    `load_weights` and `infer` of one GPU may run at the same time in two threads, on pages that
    do not overlap. `load_model` and `release` come from a third thread.
    """

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of the weights caches."""

    def gpus(self) -> list[GpuState]:
        """Return the GPUs and their sizes, as GetWorkerState reports them; nothing warm."""

    def load_model(self, task: LoadModelTask) -> ModelProfile:
        """Read a model directory and keep its code and weights in host memory.

        Raises:
            EngineError: the path is not allowed, or the directory is missing or broken.
        """

    def load_weights(self, task: LoadWeightsTask) -> None:
        """Copy a model's weights into pages.

        Raises:
            EngineError: the copy failed.
        """

    def infer(self, task: InferTask) -> Inference:
        """Run one batch.

        Raises:
            EngineError: the input has the wrong size, a limit is exceeded, or execution failed.
        """

    def release(self, code_id: CodeId) -> None:
        """Drop a model's code and host weights."""

    def close(self, gpu_id: GpuId) -> None:
        """Release what a GPU's thread holds; called once from that thread at the end."""
