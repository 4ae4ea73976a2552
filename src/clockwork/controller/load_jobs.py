"""LoadModel actions under way: in which order workers get them, and whether their answers agree.

At most `load_models_max` are outstanding per worker; the rest wait in order.

Not here: what becomes of a job that has ended (``catalogue.py``).
"""

from collections import deque
from typing import Final

from msgspec import Struct

from clockwork.controller.cluster import Cluster
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.underway import PendingOrder
from clockwork.messages.actions import ActionFailed, LoadModel
from clockwork.messages.ids import ClientId, ModelId, WorkerId
from clockwork.messages.models import ModelProfile
from clockwork.messages.requests import LoadModelRequest
from clockwork.messages.status import ActionStatus
from clockwork.units import FOREVER_NS

COPIES_MAX: Final = 100_000
"""Copies in one LoadModel (chosen: an order above what any GPU's host memory serves)."""


class LoadJob(Struct, eq=False):
    """A LoadModel under way: a client's, or one that brings a late worker up to date."""

    # None for a late worker.
    client_id: ClientId | None
    user_request_id: int
    path: str
    model_id: ModelId
    copies: int
    # Workers that have not answered, and the answers of those that succeeded.
    open: set[WorkerId]
    done: dict[WorkerId, ModelProfile]
    # The first failure's message.
    failure: str | None = None

    @property
    def model_ids(self) -> range:
        """The ids of all copies."""
        return range(self.model_id, self.model_id + self.copies)


class LoadQueues:
    """Jobs that wait for a place at their workers, and how many each worker has under way."""

    def __init__(self, config: ControllerConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._waiting: dict[WorkerId, deque[LoadJob]] = {}
        self._active: dict[WorkerId, int] = {}

    @property
    def is_idle(self) -> bool:
        """True if no load is under way."""
        return not any(self._active.values())

    def put(self, worker_id: WorkerId, job: LoadJob) -> None:
        """Have a worker carry out a job when its turn comes."""
        self._waiting.setdefault(worker_id, deque()).append(job)
        self._send_next(worker_id)

    def ended(self, worker_id: WorkerId) -> None:
        """A worker's LoadModel has its result: the next one gets the place."""
        self._active[worker_id] -= 1
        self._send_next(worker_id)

    def drop(self, worker_id: WorkerId) -> list[LoadJob]:
        """Remove and return the jobs that wait for a worker."""
        return list(self._waiting.pop(worker_id, ()))

    def _send_next(self, worker_id: WorkerId) -> None:
        """Send a worker its next LoadModel if it has a place for it."""
        queue = self._waiting.get(worker_id)
        active = self._active.setdefault(worker_id, 0)
        if not queue or active >= self._config.load_models_max:
            return
        job = queue.popleft()
        self._active[worker_id] = active + 1
        action_id = self._ledger.next_action_id()
        action = LoadModel(
            action_id=action_id,
            model_id=job.model_id,
            path=job.path,
            earliest_ns=0,
            latest_ns=FOREVER_NS,
            copies=job.copies,
            batch_max=self._config.max_batch,
            exec_max_ns=self._config.max_exec_ns,
        )
        self._ledger.send(PendingOrder(action_id, worker_id, job), action)


def problem_of(request: LoadModelRequest, workers: set[WorkerId]) -> str | None:
    """Return why a LoadModel cannot even begin."""
    if not workers:
        return "no worker is connected; start one, or check the controller's worker list"
    if not 1 <= request.copies <= COPIES_MAX:
        return f"copies={request.copies}: give 1 to {COPIES_MAX}"
    if not request.path:
        return "the path is empty: give the path of a model directory on the workers"
    return None


def explain(job: LoadJob, worker_id: WorkerId, failed: ActionFailed) -> str:
    """Return what a client is told about a worker that could not load its model."""
    text = failed.message or f"worker {worker_id} could not load {job.path}"
    if failed.status is ActionStatus.INVALID_MODEL_PATH:
        text += (
            f" (worker {worker_id}; `clockwork upload DIR HOST:PORT` sends a model directory to "
            "all workers that lack it)"
        )
    return text


def disagreement(job: LoadJob, cluster: Cluster) -> str | None:
    """Return why a model that was loaded cannot be served."""
    if not job.done:
        return "the workers left while they were loading it; try again"
    first, *others = job.done.values()
    if not all(are_alike(profile, first) for profile in others):
        return f"workers hold different models at {job.path}; make them the same"
    pages_max = max((gpu.pages for id_ in job.done for gpu in cluster.workers[id_].gpus), default=0)
    if first.weights_pages > pages_max:
        return (
            f"{job.path} needs {first.weights_pages} pages, the largest weights cache has "
            f"{pages_max}: give the worker a larger cache"
        )
    return None


def are_alike(one: ModelProfile, other: ModelProfile) -> bool:
    """Return whether two workers hold the same model, as far as profiles tell.

    Measured times may differ, and what depends on them (the batch sizes that are of use).
    """
    return (one.inputs, one.outputs, one.weights_pages) == (
        other.inputs,
        other.outputs,
        other.weights_pages,
    )
