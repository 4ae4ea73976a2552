"""An action on its way through an executor, and the states of its task.

::

    WAITING --> RUNNING --> SUCCEEDED
       |           +------> FAILED
       +--> EXPIRED         the window closed first
       +--> FAILED          refused when its turn came
       +--> CANCELLED       shutdown, or the controller is gone

Each action that takes time has one task, and one result when the task reaches an end state. An
eviction runs too, but ends in the instant in which it starts.

Source: SPEC 5.2. The original has up to three tasks per Infer (input, exec, output); here they
are one, since one thread per GPU does all three and the policy plans them as one.
"""

from enum import IntEnum
from typing import Final

from clockwork.messages.actions import EvictWeights, Infer, LoadModel, LoadWeights
from clockwork.messages.ids import TaskId
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.worker.store import Instance

TimedAction = LoadModel | LoadWeights | EvictWeights | Infer
"""Actions that wait for an executor and a window."""


class TaskState(IntEnum):
    """Where a task is in its life."""

    WAITING = 0
    RUNNING = 1
    SUCCEEDED = 2
    EXPIRED = 3
    FAILED = 4
    CANCELLED = 5


MOVES: Final[dict[TaskState, tuple[TaskState, ...]]] = {
    TaskState.WAITING: (
        TaskState.RUNNING,
        TaskState.EXPIRED,
        TaskState.FAILED,
        TaskState.CANCELLED,
    ),
    TaskState.RUNNING: (TaskState.SUCCEEDED, TaskState.FAILED),
    TaskState.SUCCEEDED: (),
    TaskState.EXPIRED: (),
    TaskState.FAILED: (),
    TaskState.CANCELLED: (),
}
"""The states that may follow each state."""

TOO_LATE: Final[dict[type[TimedAction], ActionStatus]] = {
    LoadModel: ActionStatus.COULD_NOT_START_IN_TIME,
    LoadWeights: ActionStatus.LOAD_WEIGHTS_TOO_LATE,
    EvictWeights: ActionStatus.EVICT_WEIGHTS_TOO_LATE,
    Infer: ActionStatus.EXEC_TOO_LATE,
}
"""What an action is answered whose window closed before its turn came."""


class ActionTask:
    """One action that waits, runs or has ended."""

    __slots__ = (
        "action",
        "instance",
        "is_alarmed",
        "is_orphan",
        "payload",
        "received_at_ns",
        "state",
        "task_id",
    )

    def __init__(
        self, *, task_id: TaskId, action: TimedAction, payload: Payload, received_at_ns: int
    ) -> None:
        self.task_id = task_id
        self.action = action
        # The inputs of an Infer; dropped as soon as the task is handed to the device.
        self.payload = payload
        self.received_at_ns = received_at_ns
        self.state = TaskState.WAITING
        # The model instance that a running load or infer uses; None before and for others.
        self.instance: Instance | None = None
        # True once its controller is gone: its result goes nowhere.
        self.is_orphan = False
        # True once the opening of its window has been asked for.
        self.is_alarmed = False

    def advance(self, state: TaskState) -> None:
        """Move to `state`, which must be one that may follow."""
        assert state in MOVES[self.state], f"task {self!r} cannot become {state.name}"
        self.state = state

    def __repr__(self) -> str:
        return f"{self.task_id} ({self.state.name}) of {self.action!r}"
