"""Which models there are: LoadModel, UnloadModel, Evict and LS of clients, and late workers.

A LoadModel goes to every worker that is connected. It succeeds if all of them succeed and agree;
otherwise what was loaded is unloaded again and the client learns the first reason, so that nothing
is left behind.

UnloadModel lets the model's open requests finish, takes no new ones, then removes it everywhere.

Source: clockwork 3.2, 3.4. The original knows one phase of loading and crashes when workers
disagree.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from clockwork.controller.cluster import Cluster, InstanceState, Model, Worker
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.load_jobs import (
    LoadJob,
    LoadQueues,
    are_alike,
    disagreement,
    explain,
    problem_of,
)
from clockwork.controller.notebook import Notebook
from clockwork.controller.policy import Policy
from clockwork.controller.profiler import Profiler
from clockwork.controller.underway import PendingOrder
from clockwork.messages.actions import ActionFailed, LoadModelDone, Result, UnloadModel
from clockwork.messages.controller_io import Say, ToClient
from clockwork.messages.ids import ClientId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.remembered import Remembered
from clockwork.messages.requests import (
    DoneResponse,
    EvictRequest,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    UnloadModelRequest,
)
from clockwork.messages.status import Status
from clockwork.parts.timers import Timers
from clockwork.units import SECOND

RETRY_NS: Final = 1 * SECOND
"""Pause before a worker that could not load a model which others have tries again (chosen)."""


class _UnloadJob(Struct, eq=False):
    """An UnloadModel under way."""

    client_id: ClientId
    user_request_id: int
    model: Model
    # Workers that have not answered; None while open requests are awaited.
    open: set[WorkerId] | None = None


class _Rollback(Struct, eq=False):
    """An UnloadModel whose outcome nobody waits for."""


class Catalogue:
    """Registers and removes models."""

    def __init__(
        self,
        *,
        config: ControllerConfig,
        cluster: Cluster,
        ledger: Ledger,
        policy: Policy,
        notebook: Notebook,
        profiler: Profiler,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._ledger = ledger
        self._policy = policy
        self._notebook = notebook
        self._profiler = profiler
        self._next_id = 0
        # Models that were unloaded, by id, as far as they are known: those below the first number
        # that the last controller did not leave behind, and those of this one's own time.
        self._old_ids_end = 0
        self._removed: set[ModelId] = set()
        self._queues = LoadQueues(config, ledger)
        self._unloads: list[_UnloadJob] = []
        # Client loads that have not been answered.
        self._open_loads = 0
        # Models that a late worker could not load, with the worker, until the next try.
        self._retries: Timers[tuple[WorkerId, Iterable[ModelId]]] = Timers()
        # Why late workers could not load the last model that they could not load.
        self._told: dict[WorkerId, str] = {}

    @property
    def is_idle(self) -> bool:
        """True if no load is under way."""
        return not self._open_loads and self._queues.is_idle

    @property
    def wakeup_ns(self) -> int | None:
        """When a worker is to try again to load a model that others have."""
        return self._retries.next_ns

    @property
    def is_settled(self) -> bool:
        """True if every client has the answer to its LoadModel or UnloadModel."""
        return not self._open_loads and not self._unloads

    def restore(self, remembered: Remembered) -> None:
        """Offer the models of the last controller, under their ids."""
        for info in remembered.models:
            self._register(info)
        self._next_id = self._old_ids_end = remembered.next_model_id

    def load(self, client_id: ClientId, request: LoadModelRequest) -> None:
        """Begin a client's LoadModel; it is answered when all workers have answered."""
        workers = {worker.worker_id for worker in self._cluster.workers if worker.is_ready}
        problem = problem_of(request, workers)
        if problem is not None:
            response = LoadModelResponse(request.user_request_id, Status.ERROR, problem, 0, None)
            self._ledger.effects.append(ToClient(client_id, response, b""))
            return
        job = LoadJob(
            client_id=client_id,
            user_request_id=request.user_request_id,
            path=request.path,
            model_id=ModelId(self._next_id),
            copies=request.copies,
            open=workers,
            done={},
        )
        self._next_id += request.copies
        self._open_loads += 1
        for worker_id in sorted(workers):
            self._queues.put(worker_id, job)

    def unload(self, client_id: ClientId, request: UnloadModelRequest) -> None:
        """Begin a client's UnloadModel."""
        model = self._known(request.model_id)
        if model is None:
            self._answer(client_id, request.user_request_id, Status.ERROR, request.model_id)
            return
        model.is_unloading = True
        self._unloads.append(_UnloadJob(client_id, request.user_request_id, model))

    def evict(self, client_id: ClientId, request: EvictRequest, now_ns: int) -> None:
        """Evict a model from every GPU."""
        model = self._known(request.model_id)
        if model is None:
            self._answer(client_id, request.user_request_id, Status.ERROR, request.model_id)
            return
        for gpu in list(self._cluster.gpus_in(model.warm_mask)):
            self._policy.evict(model.on(gpu), now_ns)
        self._answer(client_id, request.user_request_id, Status.SUCCESS, None)

    def ls(self, client_id: ClientId, request: LsRequest) -> None:
        """List all models by id."""
        models = tuple(
            model.info
            for _, model in sorted(self._cluster.models.items())
            if not model.is_unloading
        )
        response = LsResponse(request.user_request_id, Status.SUCCESS, "", models)
        self._ledger.effects.append(ToClient(client_id, response, b""))

    def plan(self, now_ns: int) -> None:
        """Go on with unloads whose models have no open requests any more."""
        for job in self._unloads:
            model = job.model
            is_loading = model.resident_mask != model.warm_mask
            if job.open is None and not model.open_count and not is_loading:
                self._remove_everywhere(job, now_ns)
        self._unloads = [job for job in self._unloads if job.open is None or job.open]
        while (retry := self._retries.pop_due(now_ns)) is not None:
            self._bring(*retry)

    def on_result(self, pending: PendingOrder, result: Result, now_ns: int) -> None:
        """Take in the result of a LoadModel or UnloadModel action."""
        owner = pending.owner
        if isinstance(owner, LoadJob):
            self._queues.ended(pending.worker_id)
            self._note_load(owner, pending.worker_id, result)
            if owner.client_id is None and isinstance(result, ActionFailed):
                self._try_again_later(owner, pending.worker_id, result.message, now_ns)
        elif isinstance(owner, _UnloadJob):
            assert owner.open is not None
            owner.open.discard(pending.worker_id)
            self._answer_unload_if_done(owner)

    def worker_joined(self, worker: Worker, models: tuple[ModelInfo, ...]) -> None:
        """Take over a worker's models, remove foreign ones, load those that it lacks."""
        new = []
        for info in models:
            self._next_id = max(self._next_id, info.model_id + 1)
            known = self._cluster.models.get(info.model_id)
            if known is None and not self._was_removed(info.model_id):
                known = self._note(self._register(info))
                new.append(info.model_id)
            if known and known.info.source == info.source and not known.is_unloading:
                self._found_on(known, worker)
            else:
                self._unload_on(worker.worker_id, info.model_id)
        self._bring(worker.worker_id, sorted(self._cluster.models))
        for other in self._cluster.workers:
            # It reported before, and knew nothing of them.
            self._bring(other.worker_id, new)

    def worker_lost(self, worker_id: WorkerId) -> None:
        """Forget the loads that wait for a worker: nobody is going to carry them out."""
        for job in self._queues.drop(worker_id):
            self._note_load(job, worker_id, None)

    def _known(self, model_id: ModelId) -> Model | None:
        model = self._cluster.models.get(model_id)
        return None if model is None or model.is_unloading else model

    def _note_load(self, job: LoadJob, worker_id: WorkerId, result: Result | None) -> None:
        """Count a worker's answer; None: the worker left and does not count."""
        job.open.discard(worker_id)
        is_there = self._cluster.workers[worker_id].is_ready
        if isinstance(result, LoadModelDone):
            job.done[worker_id] = result.profile
        elif isinstance(result, ActionFailed) and is_there and job.failure is None:
            job.failure = explain(job, worker_id, result)
        if not job.open:
            self._finish_load(job)

    def _finish_load(self, job: LoadJob) -> None:
        """Register a model that all workers have, or roll it back and say why."""
        failure = job.failure or disagreement(job, self._cluster)
        if job.client_id is None:
            self._finish_late(job, is_good=failure is None)
        elif failure is not None or not self._is_measured_first(job):
            self._answer_job(job, job.client_id, failure)

    def _is_measured_first(self, job: LoadJob) -> bool:
        """Have a model measured before it is registered; return False if there is no need."""
        model = self._model(ModelInfo(job.model_id, job.path, next(iter(job.done.values()))))
        if not self._profiler.has_traffic or not self._profiler.wants(model):
            return False
        self._profiler.add(model, job.done, lambda model: self._on_measured(job, model))
        return True

    def _on_measured(self, job: LoadJob, model: Model) -> None:
        """Go on with a LoadModel with the workers that are still there."""
        assert job.client_id is not None, "late workers load what is measured already"
        workers = self._cluster.workers
        job.done = {id_: model.profile for id_ in job.done if workers[id_].is_ready}
        self._answer_job(job, job.client_id, disagreement(job, self._cluster))

    def note_measured(self, model: Model) -> None:
        """Have a registered model used with its measurements; nobody has asked for it yet."""
        self._policy.on_model(model)
        self._note(model)

    def _answer_job(self, job: LoadJob, client_id: ClientId, failure: str | None) -> None:
        """Register a model, or have the workers forget it; tell the client."""
        self._open_loads -= 1
        number = job.user_request_id
        if failure is None:
            self._register_copies(job)
            info = self._cluster.models[job.model_id].info
            response = LoadModelResponse(number, Status.SUCCESS, "", job.copies, info)
        else:
            for worker_id in job.done:
                for model_id in job.model_ids:
                    self._unload_on(worker_id, ModelId(model_id))
            if self._next_id == job.model_ids.stop:
                self._next_id = job.model_id
            response = LoadModelResponse(number, Status.ERROR, failure, 0, None)
        self._ledger.effects.append(ToClient(client_id, response, b""))

    def _finish_late(self, job: LoadJob, *, is_good: bool) -> None:
        """Use what a late worker has loaded, as far as others still have the same."""
        for worker_id, profile in job.done.items():
            for model_id in map(ModelId, job.model_ids):
                model = self._known(model_id)
                if is_good and model is not None and are_alike(profile, model.profile):
                    self._found_on(model, self._cluster.workers[worker_id])
                else:
                    self._unload_on(worker_id, model_id)

    def _try_again_later(
        self, job: LoadJob, worker_id: WorkerId, message: str, now_ns: int
    ) -> None:
        """Have a late worker try again to load what it could not load; say so once."""
        if not self._cluster.workers[worker_id].is_ready:
            return
        self._retries.set(now_ns + RETRY_NS, (worker_id, tuple(map(ModelId, job.model_ids))))
        text = f"Worker {worker_id} cannot load {job.path}, trying again: {message}"
        if self._told.get(worker_id) != text:
            self._told[worker_id] = text
            self._ledger.effects.append(Say(text))

    def _register_copies(self, job: LoadJob) -> None:
        profile = next(iter(job.done.values()))
        for model_id in map(ModelId, job.model_ids):
            model = self._cluster.models.get(model_id)
            if model is None:
                model = self._note(self._register(ModelInfo(model_id, job.path, profile)))
            for worker_id in job.done:
                self._found_on(model, self._cluster.workers[worker_id])
        for worker in self._cluster.workers:
            # Those that connected after the load was begun.
            self._bring(worker.worker_id, map(ModelId, job.model_ids))

    def _register(self, info: ModelInfo) -> Model:
        model = self._model(info)
        self._cluster.models[info.model_id] = model
        self._notebook.restore_load(model)
        self._policy.on_model(model)
        return model

    def _model(self, info: ModelInfo) -> Model:
        config = self._config
        return Model(info, batch_max=config.max_batch, exec_max_ns=config.max_exec_ns)

    def _note(self, model: Model) -> Model:
        """Have a new model remembered, and return it."""
        self._notebook.note_model(model, self._next_id)
        return model

    def _was_removed(self, model_id: ModelId) -> bool:
        """Return whether a model that is not there was there once."""
        return model_id < self._old_ids_end or model_id in self._removed

    def _found_on(self, model: Model, worker: Worker) -> None:
        """A worker has a model in host memory: its GPUs with enough pages can take it."""
        worker.models.add(model.model_id)
        for gpu in worker.gpus:
            if gpu.pages >= model.pages:
                model.on_workers_mask |= gpu.bit
        self._policy.on_place(model)

    def _bring(self, worker_id: WorkerId, model_ids: Iterable[ModelId]) -> None:
        """Have a connected worker load those of some models, ascending, that it lacks."""
        worker, models = self._cluster.workers[worker_id], self._cluster.models
        job: LoadJob | None = None
        for model_id in model_ids if worker.is_ready else ():
            model = models.get(model_id)
            if model is None or model.is_unloading or model_id in worker.models:
                continue
            # Copies that are loaded together share code and host memory.
            if job and job.path == model.info.source and job.model_ids.stop == model_id:
                job.copies += 1
                continue
            if job is not None:
                self._queues.put(worker_id, job)
            job = LoadJob(None, 0, model.info.source, model_id, 1, {worker_id}, {})
        if job is not None:
            self._queues.put(worker_id, job)

    def _unload_on(self, worker_id: WorkerId, model_id: ModelId) -> None:
        action_id = self._ledger.next_action_id()
        self._ledger.send(
            PendingOrder(action_id, worker_id, _Rollback()), UnloadModel(action_id, model_id)
        )

    def _remove_everywhere(self, job: _UnloadJob, now_ns: int) -> None:
        """Remove a model without open requests from belief and from all workers."""
        model = job.model
        job.open = set()
        self._policy.drop_model(model, now_ns)
        for gpu in list(self._cluster.gpus_in(model.warm_mask)):
            model.on(gpu).advance(InstanceState.COLD)
            self._policy.on_pages_freed(gpu)
        del self._cluster.models[model.model_id]
        self._removed.add(model.model_id)
        self._notebook.note_removal(model.model_id, self._next_id)
        for worker in self._cluster.workers:
            if model.model_id in worker.models:
                worker.models.discard(model.model_id)
                job.open.add(worker.worker_id)
                action_id = self._ledger.next_action_id()
                self._ledger.send(
                    PendingOrder(action_id, worker.worker_id, job),
                    UnloadModel(action_id, model.model_id),
                )
        self._answer_unload_if_done(job)

    def _answer_unload_if_done(self, job: _UnloadJob) -> None:
        if job.open is not None and not job.open:
            self._answer(job.client_id, job.user_request_id, Status.SUCCESS, None)

    def _answer(
        self, client_id: ClientId, user_request_id: int, status: Status, unknown: ModelId | None
    ) -> None:
        """Answer an UnloadModel or Evict; `unknown` is a model that there is not."""
        message = "" if unknown is None else f"Invalid model ID {unknown}: LS lists the models"
        response = DoneResponse(user_request_id, status, message)
        self._ledger.effects.append(ToClient(client_id, response, b""))
