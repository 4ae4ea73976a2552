"""Judges of actions: one result each, inside their windows, one task at a time per executor.

Watched at the workers' borders: with the controller (actions, results) and with the devices
(tasks). All instants are in the worker's own clock, so there is nothing to tolerate.
"""

from collections.abc import Mapping
from typing import Final

from clockwork.messages.actions import (
    Action,
    ActionFailed,
    EvictWeights,
    EvictWeightsDone,
    Infer,
    InferDone,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    LoadWeightsDone,
)
from clockwork.messages.ids import ActionId, TaskId
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    ActionArrived,
    ControllerLost,
    InferTask,
    InferTaskDone,
    LoadModelTask,
    LoadModelTaskDone,
    LoadWeightsTask,
    LoadWeightsTaskDone,
    SendResult,
    StartTask,
    Task,
    TaskDone,
    TaskFailed,
)
from clockwork.sim.checkers import Handler, Subject, Violation
from clockwork.sim.host import AnyHost, Kind

ONE_RESULT: Final = "exactly one result per action, or its worker left"
WINDOW: Final = "no task starts outside its window"
ONE_AT_A_TIME: Final = "one task at a time per executor"
BOUNDED: Final = "no queue grows without bound"

OPEN_MAX: Final = 512
"""Actions that one worker may owe per GPU. A GPU is filled 10 ms ahead, and up to 10 ms of lag are
forgiven: some 60 of the shortest models that a swarm draws (chosen: several times that)."""
TOO_LATE: Final = frozenset(
    {
        ActionStatus.COULD_NOT_START_IN_TIME,
        ActionStatus.LOAD_WEIGHTS_TOO_LATE,
        ActionStatus.EVICT_WEIGHTS_TOO_LATE,
        ActionStatus.EXEC_TOO_LATE,
    }
)


class Actions:
    """What each worker owes and runs."""

    def __init__(self, *, gpus_per_worker: int) -> None:
        self._open_max = OPEN_MAX * gpus_per_worker
        # By worker: actions without a result.
        self.open: dict[int, dict[ActionId, Action]] = {}
        # By worker: running tasks by executor, and executors by running task.
        self.running: dict[int, dict[tuple[str, int], Task]] = {}
        self._executors: dict[int, dict[TaskId, tuple[str, int]]] = {}

    def handlers(self) -> Mapping[type, Handler]:
        """Watch actions, tasks and results."""
        return {
            ActionArrived: self._on_action,
            SendResult: self._on_result,
            StartTask: self._on_start,
            ControllerLost: self._on_controller_lost,
            **dict.fromkeys(
                (LoadModelTaskDone, LoadWeightsTaskDone, InferTaskDone, TaskFailed), self._on_done
            ),
        }

    def on_begin(self, host: AnyHost) -> None:
        """A new worker owes nothing."""
        if host.kind is Kind.WORKER:
            self.open[host.index] = {}
            self.running[host.index] = {}
            self._executors[host.index] = {}

    def on_end(self, host: AnyHost) -> None:
        """A worker that left owes nothing."""
        self.on_begin(host)

    def check_all_done(self) -> None:
        """Raise if an action is open or a task runs."""
        for worker, actions in self.open.items():
            for action_id, action in actions.items():
                text = f"worker {worker} never answered {action}"
                raise Violation(ONE_RESULT, text, Subject(action_id=action_id))
        for worker, tasks in self.running.items():
            assert not tasks, f"worker {worker} still runs {tasks}"

    def _on_action(self, host: AnyHost, event: ActionArrived, now_ns: int) -> None:
        action, actions = event.message, self.open[host.index]
        subject = Subject(action_id=action.action_id)
        if action.action_id in actions:
            raise Violation(ONE_RESULT, f"{host!r} got action {action.action_id} twice", subject)
        actions[action.action_id] = action
        if len(actions) > self._open_max:
            text = f"{host!r} owes {len(actions)} results, {self._open_max} allowed"
            raise Violation(BOUNDED, text, subject)

    def _on_result(self, host: AnyHost, effect: SendResult, now_ns: int) -> None:
        result = effect.message
        action = self.open[host.index].pop(result.action_id, None)
        if action is None:
            subject = Subject(action_id=result.action_id)
            raise Violation(ONE_RESULT, f"{host!r}: one too many: {result}", subject)
        if not isinstance(action, Infer | LoadWeights | EvictWeights | LoadModel):
            return
        subject = Subject(action_id=result.action_id, model_id=action.model_id)
        begin_ns = _begin_ns(result)
        if begin_ns is not None and not action.earliest_ns <= begin_ns <= action.latest_ns:
            raise Violation(WINDOW, f"{host!r} began {action} at {begin_ns}", subject)
        is_given_up = isinstance(result, ActionFailed) and result.status in TOO_LATE
        if is_given_up and now_ns <= action.latest_ns:
            raise Violation(WINDOW, f"{host!r} gave {action} up at {now_ns}", subject)

    def _on_start(self, host: AnyHost, effect: StartTask, now_ns: int) -> None:
        task = effect.task
        executor = _executor_of(task)
        subject = Subject(task_id=task.task_id)
        running = self.running[host.index]
        if executor in running:
            text = f"{host!r} starts {task} beside {running[executor]}"
            raise Violation(ONE_AT_A_TIME, text, subject)
        running[executor] = task
        self._executors[host.index][task.task_id] = executor

    def _on_done(self, host: AnyHost, event: TaskDone, now_ns: int) -> None:
        executor = self._executors[host.index].pop(event.task_id)
        del self.running[host.index][executor]

    def _on_controller_lost(self, host: AnyHost, event: ControllerLost, now_ns: int) -> None:
        self.open[host.index].clear()


def _executor_of(task: Task) -> tuple[str, int]:
    if isinstance(task, LoadModelTask):
        return "models", 0
    if isinstance(task, LoadWeightsTask):
        return "weights", task.gpu_id
    assert isinstance(task, InferTask)
    return "infers", task.gpu_id


def _begin_ns(result: object) -> int | None:
    """Return when the task of a successful action began."""
    if isinstance(result, InferDone):
        return result.copy_input.begin_ns
    if isinstance(result, LoadWeightsDone | EvictWeightsDone | LoadModelDone):
        return result.timing.begin_ns
    return None
