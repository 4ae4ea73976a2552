"""The judge of weights: what really lies in which page, and who believes what about it.

It keeps, for each worker, what the devices were told: which pages were written with which model's
weights, which are being read, which models are warm. From that it knows whether an infer ran on the
right weights, whether pages got lost, and whether the controller believes the truth.

What a worker does after it lost its controller is not reported to anybody: until it reports its
state to the next one, what is warm there is not known, and not judged.
"""

from collections.abc import Mapping
from typing import Final

from clockwork.controller.cluster import InstanceState
from clockwork.messages.actions import (
    ActionFailed,
    ClearCacheDone,
    EvictWeights,
    EvictWeightsDone,
    LoadModelDone,
    LoadWeights,
    LoadWeightsDone,
    Result,
    UnloadModel,
    UnloadModelDone,
    WorkerStateDone,
)
from clockwork.messages.ids import CodeId, GpuId, ModelId
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    ControllerLost,
    InferTask,
    InferTaskDone,
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
from clockwork.sim.judge_actions import Actions
from clockwork.sim.links import HasBelief
from clockwork.sim.world import World

PAGES: Final = "pages used plus free are all, and a running model's pages stay"
WEIGHTS: Final = "an infer reads its own model's weights"
BELIEF: Final = "what is believed WARM is there, or what is in flight explains it"


class GpuTruth:
    """One GPU's pages."""

    def __init__(self) -> None:
        # What was written last into each page: whose weights, and which page of them.
        self.contents: dict[int, tuple[CodeId, int] | None] = {}
        # Pages of the running load and of the running infer.
        self.written: tuple[int, ...] = ()
        self.read: tuple[int, ...] = ()
        # Pages of each warm model.
        self.warm: dict[ModelId, int] = {}


class WorkerTruth:
    """One worker process."""

    def __init__(self, gpu_count: int) -> None:
        self.gpus = [GpuTruth() for _ in range(gpu_count)]
        # Pages that each loaded model needs.
        self.pages: dict[ModelId, int] = {}
        # False from the loss of a controller until the next report.
        self.is_known = True
        # Loads and infers that run, by task id.
        self.tasks: dict[int, LoadWeightsTask | InferTask] = {}


class Memory:
    """Knows the truth about weights, and compares."""

    def __init__(self, actions: Actions, *, gpus_per_worker: int, cache_pages: int) -> None:
        """Begin with nothing loaded anywhere.

        Args:
            actions: the judge that knows the open actions; it is shown each record after this one.
        """
        self._actions = actions
        self._gpu_count = gpus_per_worker
        self._cache_pages = cache_pages
        self.workers: dict[int, WorkerTruth] = {}

    def handlers(self) -> Mapping[type, Handler]:
        """Watch tasks and results."""
        return {
            StartTask: self._on_start,
            SendResult: self._on_result,
            ControllerLost: self._on_controller_lost,
            **dict.fromkeys((LoadWeightsTaskDone, InferTaskDone, TaskFailed), self._on_done),
        }

    def on_begin(self, host: AnyHost) -> None:
        """A new worker has nothing."""
        if host.kind is Kind.WORKER:
            self.workers[host.index] = WorkerTruth(self._gpu_count)

    def on_end(self, host: AnyHost) -> None:
        """What a dead worker had is gone."""
        self.on_begin(host)

    def compare(self, world: World) -> None:
        """Compare belief and truth where nothing is in flight that explains a difference."""
        host = world.controller.host
        if host is None or host.inbox_size:
            return
        role = host.role
        assert isinstance(role, HasBelief), f"{role!r} has no belief to look at"
        cluster = role.cluster
        for worker in cluster.workers:
            link = world.controller.workers[worker.worker_id]
            truth = self.workers[worker.worker_id]
            is_quiet = (
                link is not None
                and not link.under_way
                and world.workers[worker.worker_id].link is link
            )
            if not worker.is_ready or not is_quiet or not truth.is_known:
                continue
            open_actions = self._actions.open[worker.worker_id].values()
            for gpu in worker.gpus:
                believed = {
                    model_id
                    for model_id, instance in gpu.lru.items()
                    if instance.state is InstanceState.WARM
                }
                changing = {
                    action.model_id
                    for action in open_actions
                    if isinstance(action, LoadWeights | EvictWeights)
                    and action.gpu_id == gpu.gpu_id
                } | {a.model_id for a in open_actions if isinstance(a, UnloadModel)}
                self._compare_gpu(worker.worker_id, gpu.gpu_id, believed, changing)

    def _compare_gpu(
        self, worker: int, gpu_id: GpuId, believed: set[ModelId], changing: set[ModelId]
    ) -> None:
        true = set(self.workers[worker].gpus[gpu_id].warm)
        for model_id in sorted((believed ^ true) - changing):
            where = f"model {model_id} on GPU {gpu_id} of worker {worker}"
            what = "is believed warm" if model_id in believed else "is warm and nobody knows"
            raise Violation(BELIEF, f"{where} {what}", Subject(model_id=model_id))

    # Tasks.

    def _on_start(self, host: AnyHost, effect: StartTask, now_ns: int) -> None:
        task: Task = effect.task
        if not isinstance(task, LoadWeightsTask | InferTask):
            return
        worker = self.workers[host.index]
        worker.tasks[task.task_id] = task
        gpu = worker.gpus[task.gpu_id]
        subject = Subject(task_id=task.task_id, code_id=task.code_id)
        if isinstance(task, LoadWeightsTask):
            if set(task.pages) & set(gpu.read) or len(set(task.pages)) != len(task.pages):
                raise Violation(PAGES, f"{host!r} writes into pages in use: {task}", subject)
            gpu.written = task.pages
            gpu.contents.update(dict.fromkeys(task.pages))
            return
        if set(task.pages) & set(gpu.written):
            raise Violation(PAGES, f"{host!r} reads what is being written: {task}", subject)
        held = [gpu.contents.get(page) for page in task.pages]
        if held != [(task.code_id, place) for place in range(len(task.pages))]:
            raise Violation(WEIGHTS, f"{host!r} runs {task} on {held}", subject)
        gpu.read = task.pages

    def _on_done(self, host: AnyHost, event: TaskDone, now_ns: int) -> None:
        worker = self.workers[host.index]
        task = worker.tasks.pop(event.task_id, None)
        if task is None:
            return
        gpu = worker.gpus[task.gpu_id]
        if isinstance(task, InferTask):
            gpu.read = ()
            return
        gpu.written = ()
        if isinstance(event, LoadWeightsTaskDone):
            for place, page in enumerate(task.pages):
                gpu.contents[page] = (task.code_id, place)

    # Results.

    def _on_result(self, host: AnyHost, effect: SendResult, now_ns: int) -> None:
        worker, result = self.workers[host.index], effect.message
        action = self._actions.open[host.index].get(result.action_id)
        if isinstance(result, LoadModelDone):
            first = getattr(action, "model_id", 0)
            for model_id in range(first, first + result.copies):
                worker.pages[ModelId(model_id)] = result.profile.weights_pages
        elif isinstance(result, WorkerStateDone):
            self._take_report(worker, result)
        elif isinstance(result, ActionFailed):
            self._on_failure(host, worker, action, result)
        else:
            self._note(worker, action, result)

    def _note(self, worker: WorkerTruth, action: object, result: Result) -> None:
        """Note what a successful result says about warm models."""
        if isinstance(result, LoadWeightsDone) and isinstance(action, LoadWeights):
            warm = worker.gpus[action.gpu_id].warm
            warm[action.model_id] = worker.pages[action.model_id]
        elif isinstance(result, EvictWeightsDone) and isinstance(action, EvictWeights):
            worker.gpus[action.gpu_id].warm.pop(action.model_id, None)
        elif isinstance(result, UnloadModelDone) and isinstance(action, UnloadModel):
            worker.pages.pop(action.model_id, None)
            for gpu in worker.gpus:
                gpu.warm.pop(action.model_id, None)
        elif isinstance(result, ClearCacheDone):
            for gpu in worker.gpus:
                gpu.warm.clear()

    def _on_failure(
        self, host: AnyHost, worker: WorkerTruth, action: object, result: ActionFailed
    ) -> None:
        if not isinstance(action, LoadWeights):
            return
        gpu = worker.gpus[action.gpu_id]
        if result.status is not ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE:
            if result.status is not ActionStatus.LOAD_WEIGHTS_TOO_LATE:
                gpu.warm.pop(action.model_id, None)
            return
        used = sum(gpu.warm.values()) + len(gpu.written) + len(gpu.read)
        needed = worker.pages.get(action.model_id, 0)
        if worker.is_known and used + needed <= self._cache_pages:
            text = f"{host!r}: {used} of {self._cache_pages} pages used, but: {result.message}"
            subject = Subject(action_id=action.action_id, model_id=action.model_id)
            raise Violation(PAGES, text, subject)

    def _take_report(self, worker: WorkerTruth, result: WorkerStateDone) -> None:
        worker.is_known = True
        worker.pages = {info.model_id: info.profile.weights_pages for info in result.state.models}
        for state in result.state.gpus:
            worker.gpus[state.gpu_id].warm = {
                model_id: worker.pages[model_id] for model_id in state.warm
            }

    def _on_controller_lost(self, host: AnyHost, event: ControllerLost, now_ns: int) -> None:
        self.workers[host.index].is_known = False
