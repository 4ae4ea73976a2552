"""Actions of the controller and results of workers (SPEC 2.5).

Instants are in the clock of the role that holds the record: shells translate on the way
(SPEC 2.8). Every action gets exactly one result. Records that travel with each batch are encoded
as arrays, which costs a third less than maps.
"""

from enum import IntEnum

from msgspec import Struct

from clockwork.messages.ids import ActionId, GpuId, ModelId
from clockwork.messages.models import ModelProfile, WorkerState
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import UploadAction, UploadDone


class ActionType(IntEnum):
    """Kinds of actions, with the numbers that the action log shows (SPEC 2.5)."""

    LOAD_MODEL = 0
    LOAD_WEIGHTS = 1
    INFER = 2
    EVICT_WEIGHTS = 3
    CLEAR_CACHE = 4
    GET_WORKER_STATE = 5
    UNLOAD_MODEL = 6
    UPLOAD_MODEL = 7


class LoadModel(Struct, frozen=True):
    """LoadModelFromDisk: read a model directory, keep its code and weights in host memory."""

    action_id: ActionId
    # The id of the first copy; copies get consecutive ids.
    model_id: ModelId
    path: str
    earliest_ns: int
    latest_ns: int
    copies: int
    # Batch sizes above this, and those above 1 that run longer than `exec_max_ns`, are left out.
    batch_max: int
    exec_max_ns: int


class UnloadModel(Struct, frozen=True):
    """Forget one model (one copy): its weights leave every cache, its code leaves memory."""

    action_id: ActionId
    model_id: ModelId


class LoadWeights(Struct, frozen=True, array_like=True, gc=False):
    """Copy a model's weights from host memory into pages of a GPU's weights cache."""

    action_id: ActionId
    model_id: ModelId
    gpu_id: GpuId
    earliest_ns: int
    latest_ns: int
    expected_ns: int


class EvictWeights(Struct, frozen=True, array_like=True, gc=False):
    """Give back the pages that hold a model's weights on a GPU."""

    action_id: ActionId
    model_id: ModelId
    gpu_id: GpuId
    earliest_ns: int
    latest_ns: int


class Infer(Struct, frozen=True, array_like=True, gc=False):
    """Run one batch. The payload is the inputs of its requests, one after the other."""

    action_id: ActionId
    model_id: ModelId
    gpu_id: GpuId
    earliest_ns: int
    latest_ns: int
    expected_ns: int
    # Requests in the batch; the worker pads up to the next supported size.
    batch_size: int
    # Bytes of each request's input in the payload; 0 for a request without input. A size other
    # than the model's is that of an LZ4 block (SPEC 5.2).
    input_sizes: tuple[int, ...]


class ClearCache(Struct, frozen=True):
    """Evict everything from every GPU."""

    action_id: ActionId


class GetWorkerState(Struct, frozen=True):
    """Report all GPUs and models."""

    action_id: ActionId


Action = (
    LoadModel
    | UnloadModel
    | LoadWeights
    | EvictWeights
    | Infer
    | ClearCache
    | GetWorkerState
    | UploadAction
)


class Timing(Struct, frozen=True, array_like=True, gc=False):
    """When a task ran. `duration_ns` may be shorter than end minus begin (device time)."""

    begin_ns: int
    end_ns: int
    duration_ns: int


class ActionFailed(Struct, frozen=True):
    """An action that was not carried out, and why."""

    action_id: ActionId
    action_type: ActionType
    status: ActionStatus
    message: str
    received_at_ns: int
    sent_at_ns: int


class LoadModelDone(Struct, frozen=True):
    """A model is in host memory, under `copies` consecutive ids."""

    action_id: ActionId
    profile: ModelProfile
    copies: int
    timing: Timing
    received_at_ns: int
    sent_at_ns: int


class UnloadModelDone(Struct, frozen=True):
    """A model is gone."""

    action_id: ActionId
    received_at_ns: int
    sent_at_ns: int


class LoadWeightsDone(Struct, frozen=True, array_like=True, gc=False):
    """A model is warm."""

    action_id: ActionId
    timing: Timing
    received_at_ns: int
    sent_at_ns: int


class EvictWeightsDone(Struct, frozen=True, array_like=True, gc=False):
    """A model's pages are free."""

    action_id: ActionId
    timing: Timing
    received_at_ns: int
    sent_at_ns: int


class InferDone(Struct, frozen=True, array_like=True, gc=False):
    """A batch has run. The payload is the outputs of its requests, one after the other."""

    action_id: ActionId
    copy_input: Timing
    exec: Timing
    copy_output: Timing
    gpu_id: GpuId
    # MHz; 0 where the device has no such thing.
    clock_before_mhz: int
    clock_mhz: int
    received_at_ns: int
    sent_at_ns: int


class ClearCacheDone(Struct, frozen=True):
    """Every cache is empty."""

    action_id: ActionId
    received_at_ns: int
    sent_at_ns: int


class WorkerStateDone(Struct, frozen=True):
    """The answer to GetWorkerState."""

    action_id: ActionId
    state: WorkerState
    received_at_ns: int
    sent_at_ns: int


Result = (
    ActionFailed
    | LoadModelDone
    | UnloadModelDone
    | LoadWeightsDone
    | EvictWeightsDone
    | InferDone
    | ClearCacheDone
    | WorkerStateDone
    | UploadDone
)
