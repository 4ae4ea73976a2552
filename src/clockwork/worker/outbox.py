"""What a worker asks its shell to do: tasks to start and results to send.

Here is the only place where a result is made from a task that ends, so that every task has exactly
one, and none if its controller is gone.
"""

from typing import Final

from clockwork.messages.actions import (
    Action,
    ActionFailed,
    ActionType,
    ClearCache,
    EvictWeights,
    GetWorkerState,
    Infer,
    LoadModel,
    LoadWeights,
    Result,
    UnloadModel,
)
from clockwork.messages.ids import TaskId
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import BeginUpload, EndUpload, StoreChunk
from clockwork.messages.worker_io import SendResult, StartTask, Task, WorkerEffect
from clockwork.units import format_duration
from clockwork.worker.tasks import TOO_LATE, ActionTask, TaskState

_TYPES: Final[dict[type[Action], ActionType]] = {
    LoadModel: ActionType.LOAD_MODEL,
    UnloadModel: ActionType.UNLOAD_MODEL,
    LoadWeights: ActionType.LOAD_WEIGHTS,
    EvictWeights: ActionType.EVICT_WEIGHTS,
    Infer: ActionType.INFER,
    ClearCache: ActionType.CLEAR_CACHE,
    GetWorkerState: ActionType.GET_WORKER_STATE,
    BeginUpload: ActionType.UPLOAD_MODEL,
    StoreChunk: ActionType.UPLOAD_MODEL,
    EndUpload: ActionType.UPLOAD_MODEL,
}


class Outbox:
    """Effects of the current step, and the tasks that the shell runs."""

    __slots__ = ("effects", "now_ns", "running")

    def __init__(self) -> None:
        self.now_ns = 0
        self.effects: list[WorkerEffect] = []
        # Tasks in state RUNNING that the shell has been told to start.
        self.running: dict[TaskId, ActionTask] = {}

    def begin_step(self, now_ns: int) -> list[WorkerEffect]:
        """Return the list that effects go to from now on."""
        assert now_ns >= self.now_ns, f"time went back from {self.now_ns} to {now_ns}"
        self.now_ns = now_ns
        self.effects = []
        return self.effects

    def start(self, task: ActionTask, order: Task) -> None:
        """Have the shell start a RUNNING task."""
        self.running[task.task_id] = task
        self.effects.append(StartTask(task=order))

    def take_ended(self, task_id: TaskId) -> ActionTask:
        """Return a task that the shell has run; it must be one that was started."""
        task = self.running.pop(task_id, None)
        assert task is not None, f"task {task_id} ended, but it does not run"
        return task

    def succeed(self, task: ActionTask, result: Result, payloads: tuple[Payload, ...] = ()) -> None:
        """End a RUNNING task with its result."""
        task.advance(TaskState.SUCCEEDED)
        if not task.is_orphan:
            self.effects.append(SendResult(message=result, payloads=payloads))

    def refuse(self, task: ActionTask, status: ActionStatus, text: str) -> None:
        """End a task that was not, or not well, carried out."""
        self._end(task, TaskState.FAILED, status, text)

    def expire(self, task: ActionTask) -> None:
        """End a WAITING task whose window has closed."""
        late_ns = self.now_ns - task.action.latest_ns
        text = f"the latest start passed {format_duration(late_ns)} ago"
        self._end(task, TaskState.EXPIRED, TOO_LATE[type(task.action)], text)

    def cancel(self, task: ActionTask) -> None:
        """End a WAITING task that nobody wants any more."""
        self._end(task, TaskState.CANCELLED, ActionStatus.CANCELLED, "Action cancelled")

    def fail(self, action: Action, status: ActionStatus, text: str, *, received_at_ns: int) -> None:
        """Answer an action that never became a task."""
        result = ActionFailed(
            action_id=action.action_id,
            action_type=_TYPES[type(action)],
            status=status,
            message=text,
            received_at_ns=received_at_ns,
            sent_at_ns=self.now_ns,
        )
        self.effects.append(SendResult(message=result, payloads=()))

    def _end(self, task: ActionTask, state: TaskState, status: ActionStatus, text: str) -> None:
        task.advance(state)
        # Kept alive by queues that skip ended tasks only when they reach them.
        task.payload = b""
        if not task.is_orphan:
            self.fail(task.action, status, text, received_at_ns=task.received_at_ns)
