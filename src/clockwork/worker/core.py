"""The worker role: carries out actions, one at a time per executor, inside their windows.

One executor loads models into host memory (CPU). Each GPU has two: one for its weights (loads and
evictions, so that their order is kept) and one for its infers. An action is queued when it
arrives, waits for `earliest`, starts when its executor is idle, and is refused as soon as `latest`
has passed. Whether it *can* be done is judged when its turn comes, since what came before it may
change the answer. Every action gets exactly one result, while its controller is there.

An eviction (and a load of weights that are warm already) waits, and blocks its executor, while an
infer of that model runs on that GPU: pages in use are neither written nor given away. The
original evicts under the running infer and then reports 84.

UnloadModel, ClearCache and GetWorkerState do not queue. The first two answer when the last task
that used what they dropped has ended. Nor do the steps of uploads, which use no device.

Results do not depend on how the events of an instant are cut into batches: each is followed by all
that it makes possible. After an infer the weights executor looks first, so that an eviction waits
for one infer at most.

Source: SPEC 5.1, 5.2, 5.9. Cost: O(log queued) per action; the budget is 15 us per Infer.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from clockwork.messages.actions import (
    Action,
    ClearCache,
    GetWorkerState,
    Infer,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    UnloadModel,
    WorkerStateDone,
)
from clockwork.messages.ids import CodeId, TaskId
from clockwork.messages.models import GpuState, WorkerState
from clockwork.messages.role import Wakeup
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import BeginUpload, EndUpload, StoreChunk, UploadStored
from clockwork.messages.worker_io import (
    ActionArrived,
    ControllerLost,
    InferTaskDone,
    LoadModelTask,
    LoadModelTaskDone,
    LoadWeightsTaskDone,
    SendResult,
    Shutdown,
    TaskFailed,
    WorkerEffect,
    WorkerEvent,
)
from clockwork.worker.checks import check_load_model
from clockwork.worker.executor import QUEUE_MAX, Executor, Windows
from clockwork.worker.farewells import Farewells
from clockwork.worker.gpu import Gpu
from clockwork.worker.outbox import Outbox
from clockwork.worker.store import ModelStore
from clockwork.worker.tasks import ActionTask, TaskState, TimedAction
from clockwork.worker.uploads import Uploads

_AtOnce = UnloadModel | ClearCache | GetWorkerState


class WorkerRole:
    """One worker; see the module. Tasks are started by effects and end by events."""

    def __init__(
        self, *, page_bytes: int, gpus: Sequence[GpuState], may_lack_inputs: bool = False
    ) -> None:
        """Begin with nothing loaded.

        Args:
            page_bytes: size of a page of the weights caches.
            gpus: sizes of the GPUs, in the order of their ids, which begin at 0.
            may_lack_inputs: run requests without input (`allow_zero_size_inputs`).
        """
        for index, gpu in enumerate(gpus):
            assert gpu.gpu_id == index, f"GPU {gpu.gpu_id} is at place {index}"
        self._page_bytes = page_bytes
        self._store = ModelStore()
        self._outbox = Outbox()
        self._cpu = Executor("CPU")
        self._gpus = [
            Gpu(gpu, store=self._store, outbox=self._outbox, may_lack_inputs=may_lack_inputs)
            for gpu in gpus
        ]
        self._windows = Windows()
        # Tasks ever made.
        self._task_count = 0
        self._uploads = Uploads(self._outbox)
        self._farewells = Farewells(store=self._store, gpus=self._gpus, outbox=self._outbox)
        self._is_shutting_down = False

    @property
    def wakeup_ns(self) -> int | None:
        """The next instant at which a window that matters opens or has closed."""
        return self._windows.next_ns

    def handle(self, batch: Sequence[WorkerEvent], now_ns: int) -> list[WorkerEffect]:
        """Take in events that happened by `now_ns`; return results to send and tasks to start."""
        effects = self._outbox.begin_step(now_ns)
        # First, so that it makes no difference which event of an instant comes in which batch.
        self._look_at_windows()
        for event in batch:
            _HANDLERS[type(event)](self, event)
        self._windows.skip_ended()
        return effects

    def check(self) -> None:
        """Assert every invariant."""
        self._store.check()
        for gpu in self._gpus:
            gpu.check()
        self._cpu.check()
        on_executors = [each.running for each in self._executors() if each.running is not None]
        assert sorted(task.task_id for task in on_executors) == sorted(self._outbox.running), (
            f"{on_executors!r} run, the shell runs {self._outbox.running!r}"
        )
        self._farewells.check()
        for executor in self._executors():
            for task in executor.waiting():
                assert task.action.latest_ns >= self._outbox.now_ns, f"{task!r} is overdue"

    # Arrival.

    def _on_action(self, event: ActionArrived) -> None:
        action = event.message
        if self._is_shutting_down:
            text = "the worker is shutting down"
            self._fail(action, ActionStatus.SHUTTING_DOWN, text, event.at_ns)
        elif isinstance(action, UnloadModel | ClearCache | GetWorkerState):
            self._on_action_at_once(action, event.at_ns)
        elif isinstance(action, BeginUpload | StoreChunk | EndUpload):
            self._uploads.begin(self._next_task_id(), action, event.payload, event.at_ns)
        else:
            executor = self._executor_of(action)
            if executor is None:
                text = f"this worker has {len(self._gpus)} GPUs, numbered from 0: {action}"
                self._fail(action, ActionStatus.INVALID_GPU, text, event.at_ns)
            elif executor.is_full:
                text = f"{QUEUE_MAX} actions wait for {executor.name} already"
                self._fail(action, ActionStatus.RUNTIME_ERROR, text, event.at_ns)
            else:
                self._queue(action, executor, event)

    def _executor_of(self, action: TimedAction) -> Executor | None:
        """Return where an action runs; None if there is no such GPU."""
        if isinstance(action, LoadModel):
            return self._cpu
        if not 0 <= action.gpu_id < len(self._gpus):
            return None
        gpu = self._gpus[action.gpu_id]
        return gpu.infers if isinstance(action, Infer) else gpu.weights

    def _queue(self, action: TimedAction, executor: Executor, event: ActionArrived) -> None:
        task = ActionTask(
            task_id=self._next_task_id(),
            action=action,
            payload=event.payload,
            received_at_ns=event.at_ns,
        )
        executor.put(task)
        self._run(executor)
        if task.state is not TaskState.WAITING:
            return
        if action.latest_ns < self._outbox.now_ns:
            self._outbox.expire(task)
        else:
            self._windows.await_closing(task)

    def _next_task_id(self) -> TaskId:
        self._task_count += 1
        return TaskId(self._task_count)

    def _fail(self, action: Action, status: ActionStatus, text: str, received_at_ns: int) -> None:
        self._outbox.fail(action, status, text, received_at_ns=received_at_ns)

    # Turns.

    def _run(self, executor: Executor) -> None:
        """Take tasks in order until one runs, or the next must wait, or none is left."""
        now_ns = self._outbox.now_ns
        while executor.running is None:
            task = executor.head()
            if task is None:
                return
            action = task.action
            if action.earliest_ns > now_ns:
                self._windows.await_opening(task)
                return
            if action.latest_ns < now_ns:
                self._outbox.expire(task)
            elif not self._start(task):
                return

    def _start(self, task: ActionTask) -> bool:
        """Start or refuse `task`; False if it must wait."""
        action = task.action
        if isinstance(action, LoadModel):
            return self._start_load_model(task, action)
        gpu = self._gpus[action.gpu_id]
        if isinstance(action, Infer):
            return gpu.start_infer(task)
        if isinstance(action, LoadWeights):
            return gpu.start_load_weights(task)
        return gpu.start_evict_weights(task)

    def _start_load_model(self, task: ActionTask, action: LoadModel) -> bool:
        refusal = check_load_model(action, self._store)
        if refusal is not None:
            self._outbox.refuse(task, *refusal)
            return True
        self._cpu.begin(task)
        self._outbox.start(
            task,
            LoadModelTask(
                task_id=task.task_id,
                code_id=CodeId(action.model_id),
                path=action.path,
                batch_max=action.batch_max,
                exec_max_ns=action.exec_max_ns,
            ),
        )
        return True

    def _look_at_windows(self) -> None:
        """Start what may start now, and refuse what can no longer start."""
        now_ns = self._outbox.now_ns
        while True:
            task = self._windows.pop_due(now_ns)
            if task is None:
                return
            if task.action.latest_ns < now_ns:
                self._outbox.expire(task)
            executor = self._executor_of(task.action)
            assert executor is not None, f"{task!r} waits for no executor"
            self._run(executor)

    # Ends.

    def _on_load_model_done(self, event: LoadModelTaskDone) -> None:
        task = self._outbox.take_ended(event.task_id)
        action = task.action
        assert isinstance(action, LoadModel)
        self._cpu.end(task)
        self._store.add(
            action.model_id, copies=action.copies, source=action.path, profile=event.profile
        )
        self._outbox.succeed(
            task,
            LoadModelDone(
                action_id=action.action_id,
                profile=event.profile,
                copies=action.copies,
                timing=event.timing,
                received_at_ns=task.received_at_ns,
                sent_at_ns=self._outbox.now_ns,
            ),
        )
        self._run(self._cpu)

    def _on_load_weights_done(self, event: LoadWeightsTaskDone) -> None:
        task = self._outbox.take_ended(event.task_id)
        gpu = self._gpu_of(task)
        gpu.end_load_weights(task, event)
        self._farewells.settle()
        self._run(gpu.weights)

    def _on_infer_done(self, event: InferTaskDone) -> None:
        task = self._outbox.take_ended(event.task_id)
        gpu = self._gpu_of(task)
        gpu.end_infer(task, event)
        self._farewells.settle()
        self._run(gpu.weights)
        self._run(gpu.infers)

    def _on_upload_stored(self, event: UploadStored) -> None:
        self._uploads.end(event)

    def _on_task_failed(self, event: TaskFailed) -> None:
        task = self._outbox.take_ended(event.task_id)
        if isinstance(task.action, LoadModel):
            self._cpu.end(task)
            self._outbox.refuse(task, event.status, event.message)
            self._run(self._cpu)
            return
        gpu = self._gpu_of(task)
        gpu.end_failed(task, event)
        self._farewells.settle()
        self._run(gpu.weights)
        self._run(gpu.infers)

    def _gpu_of(self, task: ActionTask) -> Gpu:
        assert not isinstance(task.action, LoadModel), f"{task!r} ran on no GPU"
        return self._gpus[task.action.gpu_id]

    # What does not queue.

    def _on_action_at_once(self, action: _AtOnce, at_ns: int) -> None:
        if isinstance(action, GetWorkerState):
            self._report_state(action, at_ns)
            return
        if isinstance(action, ClearCache):
            self._farewells.clear(action, received_at_ns=at_ns)
        elif action.model_id in self._store.models:
            self._farewells.unload(action, received_at_ns=at_ns)
        else:
            text = f"this worker has no model {action.model_id}"
            self._fail(action, ActionStatus.UNKNOWN_MODEL, text, at_ns)
        # What waited for an infer of a model that is gone now waits no longer.
        for gpu in self._gpus:
            self._run(gpu.weights)

    def _report_state(self, action: GetWorkerState, at_ns: int) -> None:
        result = WorkerStateDone(
            action_id=action.action_id,
            state=WorkerState(
                page_bytes=self._page_bytes,
                gpus=tuple(gpu.report() for gpu in self._gpus),
                models=self._store.infos(),
            ),
            received_at_ns=at_ns,
            sent_at_ns=self._outbox.now_ns,
        )
        self._outbox.effects.append(SendResult(message=result, payloads=()))

    # The controller and the process.

    def _on_controller_lost(self, event: ControllerLost) -> None:
        for executor in self._executors():
            for task in executor.drain():
                task.is_orphan = True
                self._outbox.cancel(task)
            if executor.running is not None:
                executor.running.is_orphan = True
        self._farewells.forget_controller()
        self._uploads.forget_controller()

    def _on_shutdown(self, event: Shutdown) -> None:
        self._is_shutting_down = True
        for executor in self._executors():
            for task in executor.drain():
                self._outbox.cancel(task)

    def _on_wakeup(self, event: Wakeup) -> None:
        """Time is looked at after every batch."""

    def _executors(self) -> Iterator[Executor]:
        yield self._cpu
        for gpu in self._gpus:
            yield gpu.weights
            yield gpu.infers


_HANDLERS: Final[dict[type[WorkerEvent], Callable[..., None]]] = {
    ActionArrived: WorkerRole._on_action,
    ControllerLost: WorkerRole._on_controller_lost,
    LoadModelTaskDone: WorkerRole._on_load_model_done,
    LoadWeightsTaskDone: WorkerRole._on_load_weights_done,
    InferTaskDone: WorkerRole._on_infer_done,
    TaskFailed: WorkerRole._on_task_failed,
    UploadStored: WorkerRole._on_upload_stored,
    Shutdown: WorkerRole._on_shutdown,
    Wakeup: WorkerRole._on_wakeup,
}
