"""Workers coming and going: what they hold is read when they connect, and used.

A worker that connects is asked for its state (GetWorkerState) and is of use from the answer on.
Models and warm weights that it has are taken over; models that it lacks are loaded in the
background; a model under an id of ours that came from another path is removed there.

A worker that is lost fails all its actions at once, so that requests inside them can run
elsewhere. One that leaves in order gets nothing new, finishes what it was given, and is dismissed
when it owes nothing any more. The GPUs of both keep their indexes for when they come back.

Workers that nobody named before may join at any time; their GPUs are used up to `max_gpus`.

Not here: LoadModel requests of clients (``catalogue.py``).
"""

from collections.abc import Sequence

from clockwork.controller.catalogue import Catalogue
from clockwork.controller.cluster import Cluster, Gpu, InstanceState, Worker
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.notebook import Notebook
from clockwork.controller.policy import Policy
from clockwork.controller.results import OrderResults
from clockwork.controller.underway import PendingEvict, PendingInfer, PendingLoad, PendingOrder
from clockwork.messages.actions import (
    ActionFailed,
    ActionType,
    GetWorkerState,
    Result,
    WorkerStateDone,
)
from clockwork.messages.controller_io import Dismiss, Say
from clockwork.messages.ids import WorkerId
from clockwork.messages.models import GpuState, WorkerState
from clockwork.messages.status import ActionStatus


class Fleet:
    """Connects, reads, and gives up workers."""

    def __init__(
        self,
        *,
        config: ControllerConfig,
        cluster: Cluster,
        ledger: Ledger,
        policy: Policy,
        catalogue: Catalogue,
        notebook: Notebook,
        results: OrderResults,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._ledger = ledger
        self._policy = policy
        self._catalogue = catalogue
        self._notebook = notebook
        self._results = results
        # GPUs that may still be taken into use.
        self._gpus_left = config.max_gpus
        # Workers of the controller's own list whose state was never read: they share what is left.
        self._unread = {worker.worker_id for worker in cluster.workers}
        # Workers that finish what they were given.
        self._leaving: set[WorkerId] = set()

    @property
    def is_complete(self) -> bool:
        """True if there are workers, and every one has reported its state."""
        workers = self._cluster.workers
        return bool(workers) and all(worker.is_ready for worker in workers)

    def expect(self, worker_ids: Sequence[WorkerId]) -> None:
        """Know of workers that had joined the last controller: they will come back."""
        for worker_id in worker_ids:
            self._cluster.make_place_for(worker_id)

    def connected(self, worker_id: WorkerId) -> None:
        """Ask a worker that connected for its state."""
        self._cluster.make_place_for(worker_id)
        action_id = self._ledger.next_action_id()
        self._ledger.send(PendingOrder(action_id, worker_id, self), GetWorkerState(action_id))

    def on_result(self, pending: PendingOrder, result: Result) -> None:
        """Take in a worker's state."""
        worker = self._cluster.workers[pending.worker_id]
        if worker.worker_id in self._leaving:
            return
        if not isinstance(result, WorkerStateDone):
            reason = result.message if isinstance(result, ActionFailed) else "a wrong answer"
            self._say(f"Worker {worker.worker_id} did not report its state: {reason}")
            return
        other = next((item for item in self._cluster.workers if item.is_ready), None)
        if other is not None and other.page_bytes != result.state.page_bytes:
            self._say(
                f"Worker {worker.worker_id} is not used: its page size is "
                f"{result.state.page_bytes} bytes, that of worker {other.worker_id} "
                f"{other.page_bytes}; start all workers with the same page size"
            )
            return
        self._take_over(worker, result.state)

    def lost(self, worker_id: WorkerId, reason: str, now_ns: int) -> None:
        """Fail everything that a worker owes and stop using its GPUs."""
        self._leaving.discard(worker_id)
        self._stop_using(worker_id, now_ns)
        self._fail_pending(worker_id, reason, now_ns)

    def leaving(self, worker_id: WorkerId, reason: str, now_ns: int) -> None:
        """Give a worker nothing new, and let it finish what it has."""
        self._say(f"Worker {worker_id} is leaving: {reason}")
        self._leaving.add(worker_id)
        self._stop_using(worker_id, now_ns)

    def plan(self) -> None:
        """Dismiss the workers that are leaving and owe nothing. O(actions under way) if any is."""
        if self._leaving:
            owing = {pending.worker_id for pending in self._ledger.pending.values()}
            for worker_id in sorted(self._leaving - owing):
                self._leaving.discard(worker_id)
                self._ledger.effects.append(Dismiss(worker_id))

    def _stop_using(self, worker_id: WorkerId, now_ns: int) -> None:
        """Plan nothing on a worker's GPUs any more, and expect no weights there."""
        worker = self._cluster.workers[worker_id]
        self._cluster.up_mask &= ~worker.mask
        for model_id in worker.models:
            model = self._cluster.models.get(model_id)
            if model is not None:
                model.on_workers_mask &= ~worker.mask
        worker.models.clear()
        worker.is_ready = False
        for gpu in worker.gpus:
            self._policy.on_gpu_down(gpu)
        self._catalogue.worker_lost(worker_id)
        for gpu in worker.gpus:
            self._forget_weights(gpu, now_ns)

    def _take_over(self, worker: Worker, state: WorkerState) -> None:
        """Use what a worker has."""
        worker.page_bytes = state.page_bytes
        self._make_gpus(worker, state)
        worker.is_ready = True
        reported = {gpu_state.gpu_id: gpu_state for gpu_state in state.gpus}
        gpus = [gpu for gpu in worker.gpus if gpu.gpu_id in reported]
        for gpu in gpus:
            gpu.pages = gpu.free_pages = reported[gpu.gpu_id].cache_pages
            self._cluster.up_mask |= gpu.bit
        self._catalogue.worker_joined(worker, state.models)
        self._notebook.restore_worker(worker)
        for gpu in gpus:
            self._take_warm(gpu, reported[gpu.gpu_id])
            self._policy.on_gpu_up(gpu)

    def _make_gpus(self, worker: Worker, state: WorkerState) -> None:
        """Take a worker's GPUs into use, its share of those that the options allow (SPEC 4.3)."""
        known = {gpu.gpu_id for gpu in worker.gpus}
        new = [item for item in state.gpus if item.gpu_id not in known]
        new.sort(key=lambda item: item.gpu_id)
        self._unread.discard(worker.worker_id)
        count = min(len(new), self._gpus_left // (len(self._unread) + 1))
        self._gpus_left -= count
        for gpu_state in new[:count]:
            gpu = Gpu(
                index=len(self._cluster.gpus),
                worker=worker,
                gpu_id=gpu_state.gpu_id,
                pages=gpu_state.cache_pages,
                lag_ns=self._config.lag_ns,
            )
            worker.gpus.append(gpu)
            self._cluster.gpus.append(gpu)
        if not worker.gpus:
            self._say(
                f"Worker {worker.worker_id} is not used: {self._config.max_gpus} GPUs are all "
                "that --max-gpus allows"
            )

    def _take_warm(self, gpu: Gpu, state: GpuState) -> None:
        """Take over the weights that are in a GPU's cache already."""
        for model_id in state.warm:
            model = self._cluster.models.get(model_id)
            if model is None or model.is_unloading or model.pages > gpu.free_pages:
                continue
            instance = model.on(gpu)
            instance.advance(InstanceState.WARM)
            self._policy.on_warm(instance)

    def _fail_pending(self, worker_id: WorkerId, reason: str, now_ns: int) -> None:
        for pending in self._ledger.pending_on(worker_id):
            del self._ledger.pending[pending.action_id]
            failed = ActionFailed(
                pending.action_id,
                ActionType.GET_WORKER_STATE,
                ActionStatus.CANCELLED,
                f"worker {worker_id} was lost: {reason}",
                now_ns,
                now_ns,
            )
            if isinstance(pending, PendingInfer):
                self._policy.on_infer_failed(pending, failed, received_ns=now_ns, now_ns=now_ns)
            elif isinstance(pending, PendingLoad):
                self._policy.on_load_failed(pending, failed, received_ns=now_ns, now_ns=now_ns)
            elif isinstance(pending, PendingEvict):
                self._policy.on_evict(pending, failed, received_ns=now_ns, now_ns=now_ns)
            elif pending.owner is not self:
                self._results.give(pending, failed, now_ns)

    def _forget_weights(self, gpu: Gpu, now_ns: int) -> None:
        for instance in list(gpu.lru.values()):
            instance.advance(InstanceState.COLD)
            if not instance.model.resident_mask:
                self._policy.on_cold(instance.model, now_ns)

    def _say(self, text: str) -> None:
        self._ledger.effects.append(Say(text))
