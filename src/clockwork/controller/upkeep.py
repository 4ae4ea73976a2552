"""Two requests for people who look after a cluster: how its workers are, and empty caches.

`workers` tells what the controller believes, which costs the workers nothing and is answered at
once in every phase. `clear_cache` forgets all warm weights and has every worker empty its caches;
it is answered when all have. What is being loaded meanwhile, or runs, fails at the worker (54, 84)
and is tried again.

Source: SPEC 2.5 (ClearCache, GetWorkerState); the original has no way to ask for either.
"""

from collections.abc import Sequence

from msgspec import Struct

from clockwork.controller.cluster import Cluster, Gpu, InstanceState, Worker
from clockwork.controller.ledger import Ledger
from clockwork.controller.policy import Policy
from clockwork.controller.underway import PendingOrder
from clockwork.messages.actions import ActionFailed, ClearCache, Result
from clockwork.messages.controller_io import ToClient
from clockwork.messages.ids import ClientId, ModelId, WorkerId
from clockwork.messages.models import GpuReport, WorkerReport
from clockwork.messages.requests import (
    ClearCacheRequest,
    DoneResponse,
    WorkersRequest,
    WorkersResponse,
)
from clockwork.messages.status import Status


class Clearing(Struct, eq=False):
    """A ClearCache under way."""

    client_id: ClientId
    user_request_id: int
    # Workers that have not answered.
    open: set[WorkerId]
    # The first failure's message.
    failure: str | None = None


class Upkeep:
    """Reports on workers, and empties their caches."""

    def __init__(
        self, *, cluster: Cluster, ledger: Ledger, policy: Policy, addresses: Sequence[str]
    ) -> None:
        """Begin.

        Args:
            cluster: belief.
            ledger: takes effects.
            policy: is told about free pages.
            addresses: where the workers are, by id, as far as that is known.
        """
        self._cluster = cluster
        self._ledger = ledger
        self._policy = policy
        self._addresses = addresses

    def workers(self, client_id: ClientId, request: WorkersRequest) -> None:
        """Answer with what is believed about all workers."""
        reports = tuple(self._report(worker) for worker in self._cluster.workers)
        response = WorkersResponse(request.user_request_id, Status.SUCCESS, "", reports)
        self._ledger.effects.append(ToClient(client_id, response, b""))

    def clear_cache(self, client_id: ClientId, request: ClearCacheRequest, now_ns: int) -> None:
        """Evict everything from every GPU."""
        workers = [worker for worker in self._cluster.workers if worker.is_ready]
        job = Clearing(client_id, request.user_request_id, {worker.worker_id for worker in workers})
        for worker in workers:
            for gpu in worker.gpus:
                self._forget_warm(gpu, now_ns)
            action_id = self._ledger.next_action_id()
            self._ledger.send(PendingOrder(action_id, worker.worker_id, job), ClearCache(action_id))
        self._answer_if_done(job)

    def on_result(self, pending: PendingOrder, result: Result, now_ns: int) -> None:
        """Take in that a worker emptied its caches, or failed to, or left."""
        job = pending.owner
        assert isinstance(job, Clearing), f"{job!r} is no clearing"
        job.open.discard(pending.worker_id)
        is_there = self._cluster.workers[pending.worker_id].is_ready
        if isinstance(result, ActionFailed) and is_there and job.failure is None:
            job.failure = f"worker {pending.worker_id}: {result.message}"
        self._answer_if_done(job)

    def _answer_if_done(self, job: Clearing) -> None:
        if not job.open:
            status = Status.SUCCESS if job.failure is None else Status.ERROR
            response = DoneResponse(job.user_request_id, status, job.failure or "")
            self._ledger.effects.append(ToClient(job.client_id, response, b""))

    def _forget_warm(self, gpu: Gpu, now_ns: int) -> None:
        """Believe that no weights are on a GPU but those on their way."""
        for instance in list(gpu.lru.values()):
            if instance.state is InstanceState.WARM:
                instance.advance(InstanceState.COLD)
                if not instance.model.resident_mask:
                    self._policy.on_cold(instance.model, now_ns)
        self._policy.on_pages_freed(gpu)

    def _report(self, worker: Worker) -> WorkerReport:
        known = worker.worker_id < len(self._addresses)
        return WorkerReport(
            worker_id=worker.worker_id,
            address=self._addresses[worker.worker_id] if known else "",
            is_connected=worker.is_ready,
            page_bytes=worker.page_bytes,
            gpus=tuple(map(_report_gpu, worker.gpus)),
            model_count=len(worker.models),
        )


def _report_gpu(gpu: Gpu) -> GpuReport:
    return GpuReport(
        gpu_id=gpu.gpu_id,
        pages=gpu.pages,
        free_pages=gpu.free_pages,
        warm=_models_on(gpu, InstanceState.WARM),
        loading=_models_on(gpu, InstanceState.LOADING),
        open_actions=len(gpu.exec) + len(gpu.loads),
    )


def _models_on(gpu: Gpu, state: InstanceState) -> tuple[ModelId, ...]:
    return tuple(id_ for id_, instance in gpu.lru.items() if instance.state is state)
