"""Events, effects and tasks of the worker role.

A task is a step of an action that takes time on a device. The role starts a task only when its
executor is idle and its window is open, and learns the end from the shell.
"""

from msgspec import Struct

from clockwork.messages.actions import Action, Result, Timing
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.models import ModelProfile
from clockwork.messages.role import Payload, Wakeup
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import DropUploads, StoreUpload, UploadStored


class LoadModelTask(Struct, frozen=True):
    """Read a model directory and keep it in host memory as `code_id`. One at a time."""

    task_id: TaskId
    code_id: CodeId
    path: str
    batch_max: int
    exec_max_ns: int


class LoadWeightsTask(Struct, frozen=True):
    """Copy weights of `code_id` into `pages` of a GPU's weights cache. One at a time per GPU."""

    task_id: TaskId
    gpu_id: GpuId
    code_id: CodeId
    # Indices of pages, in the order in which the model's page table uses them.
    pages: tuple[int, ...]


class InferTask(Struct, frozen=True):
    """Copy inputs in, execute, hand outputs out. One at a time per GPU."""

    task_id: TaskId
    gpu_id: GpuId
    code_id: CodeId
    # Where this instance's weights lie.
    pages: tuple[int, ...]
    # Requests in the batch, and the supported size that it runs at.
    batch_size: int
    padded_size: int
    # Inputs of the requests, one after the other; empty: the device makes up its inputs.
    payload: Payload
    # Bytes of each request's input in `payload`; empty: all have the model's input size. Another
    # size than that (or 0) is that of an LZ4 block.
    input_sizes: tuple[int, ...]


Task = LoadModelTask | LoadWeightsTask | InferTask


class ActionArrived(Struct, frozen=True, gc=False):
    """The controller sent an action. `at_ns` is when its last byte was read."""

    message: Action
    payload: Payload
    at_ns: int


class ControllerLost(Struct, frozen=True, gc=False):
    """The controller's connection closed: nobody waits for results any more."""


class LoadModelTaskDone(Struct, frozen=True):
    """A model directory was read."""

    task_id: TaskId
    timing: Timing
    profile: ModelProfile


class LoadWeightsTaskDone(Struct, frozen=True, gc=False):
    """Weights were copied."""

    task_id: TaskId
    timing: Timing


class InferTaskDone(Struct, frozen=True, gc=False):
    """A batch ran. `outputs` hold `batch_size` requests' outputs, one after the other."""

    task_id: TaskId
    copy_input: Timing
    exec: Timing
    copy_output: Timing
    clock_before_mhz: int
    clock_mhz: int
    outputs: tuple[Payload, ...]


class TaskFailed(Struct, frozen=True):
    """A task did not succeed, and why."""

    task_id: TaskId
    status: ActionStatus
    message: str


TaskDone = LoadModelTaskDone | LoadWeightsTaskDone | InferTaskDone | TaskFailed


class Shutdown(Struct, frozen=True, gc=False):
    """The process was asked to end: queued actions are cancelled, running tasks finish."""


WorkerEvent = ActionArrived | ControllerLost | TaskDone | UploadStored | Shutdown | Wakeup


class StartTask(Struct, frozen=True, gc=False):
    """Start a task on its executor now. Exactly one `TaskDone` answers."""

    task: Task


class ReleaseModel(Struct, frozen=True, gc=False):
    """Drop the code and host weights of `code_id`; no task of it is running."""

    code_id: CodeId


class SendResult(Struct, frozen=True, gc=False):
    """Send a result to the controller. The payload on the wire is `payloads` joined."""

    message: Result
    payloads: tuple[Payload, ...]


class WorkerSay(Struct, frozen=True, gc=False):
    """Print a line on the console."""

    text: str


WorkerEffect = StartTask | ReleaseModel | StoreUpload | DropUploads | SendResult | WorkerSay
