"""A worker role on a stage: actions go in by name, time is set by hand, tasks end when told to.

`check()` runs after every step, so every test is also a test of the invariants.
"""

from collections.abc import Sequence
from typing import TypeVar

from clockwork.messages.actions import (
    Action,
    ActionFailed,
    ClearCache,
    EvictWeights,
    GetWorkerState,
    Infer,
    LoadModel,
    LoadWeights,
    Result,
    Timing,
    UnloadModel,
)
from clockwork.messages.ids import ActionId, GpuId, ModelId
from clockwork.messages.models import GpuState, ModelProfile, TensorSpec
from clockwork.messages.role import WAKEUP, Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    ActionArrived,
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
    WorkerEffect,
    WorkerEvent,
)
from clockwork.units import FOREVER_NS, MIB
from clockwork.worker.core import WorkerRole

T = TypeVar("T")
PAGE_BYTES = 16 * MIB
INPUT_BYTES = 16
OUTPUT_BYTES = 8


def profile(*, pages: int = 2, batch_sizes: tuple[int, ...] = (1, 2, 4)) -> ModelProfile:
    """Return a model with inputs of 16 and outputs of 8 bytes that takes b ms for a batch of b."""
    return ModelProfile(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(4,), item_bytes=4),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(2,), item_bytes=4),),
        batch_sizes=batch_sizes,
        exec_ns=tuple(size * 1_000_000 for size in batch_sizes),
        load_ns=8_000_000,
        weights_bytes=pages * PAGE_BYTES,
        weights_pages=pages,
    )


def gpu_states(count: int, pages: int) -> list[GpuState]:
    """Return GPUs with caches of `pages` pages."""
    return [
        GpuState(GpuId(index), pages * PAGE_BYTES, pages, 512 * MIB, 512 * MIB, ())
        for index in range(count)
    ]


def load_model(
    model: int = 0, *, action: int = 0, copies: int = 1, earliest: int = 0, latest: int = FOREVER_NS
) -> LoadModel:
    """Return a LoadModel."""
    return LoadModel(
        action_id=ActionId(action),
        model_id=ModelId(model),
        path=f"model-{model}",
        earliest_ns=earliest,
        latest_ns=latest,
        copies=copies,
        batch_max=16,
        exec_max_ns=1_000_000_000,
    )


def load_weights(
    model: int = 0, *, action: int = 0, gpu: int = 0, earliest: int = 0, latest: int = FOREVER_NS
) -> LoadWeights:
    """Return a LoadWeights."""
    return LoadWeights(ActionId(action), ModelId(model), GpuId(gpu), earliest, latest, 0)


def evict(
    model: int = 0, *, action: int = 0, gpu: int = 0, earliest: int = 0, latest: int = FOREVER_NS
) -> EvictWeights:
    """Return an EvictWeights."""
    return EvictWeights(ActionId(action), ModelId(model), GpuId(gpu), earliest, latest)


def infer(
    model: int = 0,
    *,
    action: int = 0,
    gpu: int = 0,
    batch: int = 1,
    sizes: tuple[int, ...] = (),
    earliest: int = 0,
    latest: int = FOREVER_NS,
) -> Infer:
    """Return an Infer."""
    ids = ActionId(action), ModelId(model), GpuId(gpu)
    return Infer(*ids, earliest, latest, 0, batch, sizes)


def unload(model: int = 0, *, action: int = 0) -> UnloadModel:
    """Return an UnloadModel."""
    return UnloadModel(ActionId(action), ModelId(model))


def clear_cache(*, action: int = 0) -> ClearCache:
    """Return a ClearCache."""
    return ClearCache(ActionId(action))


def get_state(*, action: int = 0) -> GetWorkerState:
    """Return a GetWorkerState."""
    return GetWorkerState(ActionId(action))


class Stage:
    """One worker; `now_ns` is set by the test."""

    def __init__(self, *, gpus: int = 1, pages: int = 8, may_lack_inputs: bool = False) -> None:
        self.role = WorkerRole(
            page_bytes=PAGE_BYTES, gpus=gpu_states(gpus, pages), may_lack_inputs=may_lack_inputs
        )
        self.now_ns = 1_000
        # Tasks that were started and have not ended.
        self.running: list[Task] = []

    def handle(self, *events: WorkerEvent) -> list[WorkerEffect]:
        """Hand events over as of now, as one batch."""
        effects = self.role.handle(events, self.now_ns)
        self.role.check()
        self.running += [effect.task for effect in effects if isinstance(effect, StartTask)]
        return effects

    def send(self, *actions: Action, payload: Payload | None = None) -> list[WorkerEffect]:
        """Let actions arrive now; infers have raw inputs unless `payload` says otherwise."""
        return self.handle(*(self._arrival(action, payload) for action in actions))

    def at(self, now_ns: int) -> list[WorkerEffect]:
        """Let time pass until `now_ns`."""
        self.now_ns = now_ns
        return self.handle(WAKEUP)

    def end(self, kind: type[Task]) -> list[WorkerEffect]:
        """Let the first running task of a kind succeed now."""
        return self.handle(done(self.take(kind), self.now_ns))

    def fail(
        self, kind: type[Task], status: ActionStatus = ActionStatus.RUNTIME_ERROR
    ) -> list[WorkerEffect]:
        """Let the first running task of a kind fail now."""
        return self.handle(TaskFailed(self.take(kind).task_id, status, "broken"))

    def take(self, kind: type[T]) -> T:
        """Return the first running task of a kind, which is about to end."""
        task = next(task for task in self.running if isinstance(task, kind))
        self.running.remove(task)  # type: ignore[arg-type]
        return task

    def loaded(self, model: int = 0, *, copies: int = 1, pages: int = 2) -> "Stage":
        """Have a model in host memory."""
        self.send(load_model(model, copies=copies))
        task = self.take(LoadModelTask)
        self.handle(LoadModelTaskDone(task.task_id, instant(self.now_ns), profile(pages=pages)))
        return self

    def warm(self, model: int = 0, *, gpu: int = 0, pages: int = 2) -> "Stage":
        """Have a model's weights on a GPU."""
        if model not in {info.model_id for info in self.state().models}:
            self.loaded(model, pages=pages)
        self.send(load_weights(model, gpu=gpu))
        self.end(LoadWeightsTask)
        return self

    def state(self) -> "WorkerStateView":
        """Return what GetWorkerState reports."""
        return WorkerStateView(self.send(get_state()))

    def _arrival(self, action: Action, payload: Payload | None) -> ActionArrived:
        if payload is None:
            is_infer = isinstance(action, Infer)
            payload = bytes(INPUT_BYTES * max(action.batch_size, 0)) if is_infer else b""
        return ActionArrived(action, payload, self.now_ns)


class WorkerStateView:
    """The answer to GetWorkerState, as plain attributes."""

    def __init__(self, effects: Sequence[WorkerEffect]) -> None:
        (result,) = results(effects)
        self.gpus = result.state.gpus  # type: ignore[union-attr]
        self.models = result.state.models  # type: ignore[union-attr]
        self.warm = [list(gpu.warm) for gpu in self.gpus]


def results(effects: Sequence[WorkerEffect]) -> list[Result]:
    """Return the results that were sent."""
    return [effect.message for effect in effects if isinstance(effect, SendResult)]


def statuses(effects: Sequence[WorkerEffect]) -> list[tuple[int, ActionStatus]]:
    """Return action and status of the results that were sent."""
    return [
        (
            result.action_id,
            result.status if isinstance(result, ActionFailed) else ActionStatus.SUCCESS,
        )
        for result in results(effects)
    ]


def started(effects: Sequence[WorkerEffect]) -> list[Task]:
    """Return the tasks that were started."""
    return [effect.task for effect in effects if isinstance(effect, StartTask)]


def instant(now_ns: int) -> Timing:
    """Return the timing of something that took no time."""
    return Timing(now_ns, now_ns, 0)


def done(task: Task, now_ns: int) -> TaskDone:
    """Return the success of a task that ended now."""
    timing = instant(now_ns)
    if isinstance(task, InferTask):
        outputs = (bytes(OUTPUT_BYTES * task.batch_size),)
        return InferTaskDone(task.task_id, timing, timing, timing, 1380, 1380, outputs)
    if isinstance(task, LoadWeightsTask):
        return LoadWeightsTaskDone(task.task_id, timing)
    return LoadModelTaskDone(task.task_id, timing, profile())
