"""The worker role against simple models: executors, caches, and one result for each action."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from worker_stage import (
    Stage,
    clear_cache,
    done,
    evict,
    infer,
    instant,
    load_model,
    load_weights,
    profile,
    statuses,
    unload,
)

from clockwork.messages.actions import Action
from clockwork.messages.ids import TaskId
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    ControllerLost,
    LoadModelTask,
    LoadModelTaskDone,
    Shutdown,
    Task,
    TaskDone,
    TaskFailed,
    WorkerEffect,
)
from clockwork.worker.executor import Executor
from clockwork.worker.tasks import ActionTask, TaskState

MODELS = 4
GPUS = 2
PAGES = 5
# How far windows and steps reach: small, so that they meet often.
SPAN_NS = 12


class ExecutorMachine(RuleBasedStateMachine):
    """An executor against a sorted list."""

    def __init__(self) -> None:
        super().__init__()
        self.executor = Executor("test")
        self.waiting: list[tuple[int, int, ActionTask]] = []
        self.running: ActionTask | None = None
        self.count = 0

    @rule(earliest=st.integers(0, 5))
    def put(self, earliest: int) -> None:
        """A new task finds its place."""
        self.count += 1
        task = ActionTask(
            task_id=TaskId(self.count),
            action=infer(earliest=earliest),
            payload=b"",
            received_at_ns=0,
        )
        self.executor.put(task)
        self.waiting.append((earliest, self.count, task))
        self.waiting.sort()

    @precondition(lambda self: self.waiting and self.running is None)
    @rule()
    def begin(self) -> None:
        """The first one runs."""
        task = self.executor.head()
        assert task is not None
        self.executor.begin(task)
        assert self.waiting.pop(0)[2] is task
        self.running = task

    @precondition(lambda self: self.running is not None)
    @rule()
    def end(self) -> None:
        """The running one ends."""
        assert self.running is not None
        self.executor.end(self.running)
        self.running.advance(TaskState.SUCCEEDED)
        self.running = None

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """Any waiting one may end early."""
        entry = data.draw(st.sampled_from(self.waiting))
        entry[2].advance(TaskState.EXPIRED)
        self.waiting.remove(entry)

    @rule()
    def drain(self) -> None:
        """All leave in the order of their turns."""
        assert self.executor.drain() == [task for _, _, task in self.waiting]
        self.waiting.clear()

    @invariant()
    def agrees(self) -> None:
        """Head and running task are the model's."""
        self.executor.check()
        assert self.executor.running is self.running
        assert self.executor.head() is (self.waiting[0][2] if self.waiting else None)


models = st.integers(-1, MODELS)
gpus = st.integers(-1, GPUS)
offsets = st.integers(-2, SPAN_NS)


class WorkerMachine(RuleBasedStateMachine):
    """A worker under any actions, with devices that end tasks at any time.

    The stage calls `check()` after every step; the model here counts results and starts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(gpus=GPUS, pages=PAGES, may_lack_inputs=True)
        self.action_count = 0
        # Actions of the present controller that have no result yet.
        self.owed: set[int] = set()
        self.answered: Counter[int] = Counter()
        self.is_shutting_down = False
        for model in range(MODELS - 1):
            self.stage.loaded(model, pages=model + 1)

    @rule(model=models, gpu=gpus, earliest=offsets, latest=offsets, batch=st.integers(-1, 5))
    def infer(self, model: int, gpu: int, earliest: int, latest: int, batch: int) -> None:
        """Send an Infer that may be nonsense."""
        now_ns = self.stage.now_ns
        self._send(
            infer(
                model,
                action=self._next_id(),
                gpu=gpu,
                batch=batch,
                earliest=now_ns + earliest,
                latest=now_ns + latest,
            )
        )

    @rule(model=models, gpu=gpus, earliest=offsets, latest=offsets)
    def load_weights(self, model: int, gpu: int, earliest: int, latest: int) -> None:
        """Send a LoadWeights."""
        now_ns = self.stage.now_ns
        self._send(
            load_weights(
                model,
                action=self._next_id(),
                gpu=gpu,
                earliest=now_ns + earliest,
                latest=now_ns + latest,
            )
        )

    @rule(model=models, gpu=gpus, latest=offsets)
    def evict(self, model: int, gpu: int, latest: int) -> None:
        """Send an EvictWeights."""
        latest_ns = self.stage.now_ns + latest
        self._send(evict(model, action=self._next_id(), gpu=gpu, latest=latest_ns))

    @rule(model=models, copies=st.integers(0, 2))
    def load_model(self, model: int, copies: int) -> None:
        """Send a LoadModel."""
        self._send(load_model(model, action=self._next_id(), copies=copies))

    @rule(model=models)
    def unload(self, model: int) -> None:
        """Send an UnloadModel."""
        self._send(unload(model, action=self._next_id()))

    @rule()
    def clear_cache(self) -> None:
        """Send a ClearCache."""
        self._send(clear_cache(action=self._next_id()))

    @precondition(lambda self: self.stage.running)
    @rule(data=st.data(), is_success=st.booleans())
    def end_task(self, data: st.DataObject, is_success: bool) -> None:
        """A running task ends, well or badly."""
        task = data.draw(st.sampled_from(self.stage.running))
        self.stage.running.remove(task)
        self._note(self.stage.handle(self._end_of(task, is_success=is_success)))

    @rule(step_ns=st.integers(0, SPAN_NS))
    def pass_time(self, step_ns: int) -> None:
        """Time passes; the role was woken in between if it wanted to."""
        until_ns = self.stage.now_ns + step_ns
        while (wakeup_ns := self.stage.role.wakeup_ns) is not None and wakeup_ns <= until_ns:
            assert wakeup_ns >= self.stage.now_ns
            self._note(self.stage.at(wakeup_ns))
        self._note(self.stage.at(until_ns))

    @rule()
    def lose_controller(self) -> None:
        """The controller goes; nobody is owed anything any more."""
        self.owed.clear()
        assert statuses(self.stage.handle(ControllerLost())) == []

    @precondition(lambda self: self.action_count > 20)
    @rule()
    def shut_down(self) -> None:
        """The process is to end."""
        self.is_shutting_down = True
        self._note(self.stage.handle(Shutdown()))

    @invariant()
    def results_are_owed_only_for_what_waits_or_runs(self) -> None:
        """No action has two results, and none is forgotten."""
        assert all(count == 1 for count in self.answered.values())
        outbox = self.stage.role._outbox
        alive = {task.action.action_id for task in outbox.running.values() if not task.is_orphan}
        for executor in self.stage.role._executors():
            alive |= {task.action.action_id for task in executor.waiting()}
        leaving = {each.result.action_id for each in self.stage.role._farewells._waiting}
        assert self.owed <= alive | leaving
        assert alive <= self.owed

    @invariant()
    def pages_in_use_do_not_change_hands(self) -> None:
        """No page is read and written at the same time."""
        for gpu_id in range(GPUS):
            pages = [
                page
                for task in self.stage.running
                if not isinstance(task, LoadModelTask) and task.gpu_id == gpu_id
                for page in task.pages
            ]
            assert len(set(pages)) == len(pages)

    @invariant()
    def executors_run_one_task_each(self) -> None:
        """Per GPU one infer and one load; one model is read."""
        kinds = Counter((type(task), getattr(task, "gpu_id", 0)) for task in self.stage.running)
        assert all(count == 1 for count in kinds.values())

    def teardown(self) -> None:
        """In the end every action has its result."""
        while self.stage.running:
            task = self.stage.running.pop()
            self._note(self.stage.handle(self._end_of(task, is_success=True)))
        self._note(self.stage.at(self.stage.now_ns + 2 * SPAN_NS))
        while self.stage.running:
            task = self.stage.running.pop()
            self._note(self.stage.handle(self._end_of(task, is_success=True)))
        assert self.owed == set()

    def _next_id(self) -> int:
        self.action_count += 1
        return self.action_count

    def _send(self, action: Action) -> None:
        self.owed.add(action.action_id)
        effects = self.stage.send(action)
        if self.is_shutting_down:
            assert statuses(effects) == [(action.action_id, ActionStatus.SHUTTING_DOWN)]
        self._note(effects)

    def _note(self, effects: list[WorkerEffect]) -> None:
        for action_id, _ in statuses(effects):
            assert action_id in self.owed, f"nobody waits for {action_id}"
            self.owed.remove(action_id)
            self.answered[action_id] += 1

    def _end_of(self, task: Task, *, is_success: bool) -> TaskDone:
        if not is_success:
            return TaskFailed(task.task_id, ActionStatus.RUNTIME_ERROR, "broken")
        return _success(task, self.stage.now_ns)


def _success(task: Task, now_ns: int) -> TaskDone:
    if isinstance(task, LoadModelTask):
        pages = max(1, task.code_id + 1)
        return LoadModelTaskDone(task.task_id, instant(now_ns), profile(pages=pages))
    return done(task, now_ns)


TestExecutor = ExecutorMachine.TestCase
TestWorker = WorkerMachine.TestCase
TestWorker.settings = settings(stateful_step_count=60)
