"""Requests and actions that are under way: what is known of each until it has its answer.

State of a request::

    QUEUED   --put into an Infer-->        ASSIGNED
    QUEUED   --cannot make it-->           TIMED_OUT (status 4), REJECTED (7, 8)
    QUEUED   --model unloaded, ...-->      FAILED (1)
    ASSIGNED --result-->                   SUCCEEDED (0)
    ASSIGNED --its action failed-->        QUEUED again while there is time, else one of
                                           TIMED_OUT, REJECTED, FAILED

The four last states are final: the response has been given and the request is forgotten.

Requests and actions are plain classes and not `msgspec.Struct`s: compiled, a request takes the
controller 11.6 us with them instead of 14.1 us; in plain Python 30.8 us instead of 29.3 us.

Not here: who may change them (``ledger.py``).
"""

from enum import IntEnum
from typing import Final

from clockwork.controller.cluster import Instance, Model
from clockwork.messages.ids import ActionId, ClientId, RequestId, WorkerId
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload
from clockwork.parts.demand import Claim


class RequestState(IntEnum):
    """Where a request is in its life. Ints, because they hash without a call."""

    QUEUED = 0
    ASSIGNED = 1
    SUCCEEDED = 2
    TIMED_OUT = 3
    REJECTED = 4
    FAILED = 5


QUEUED: Final = RequestState.QUEUED
ASSIGNED: Final = RequestState.ASSIGNED

REQUEST_MOVES: Final = frozenset(
    {
        (QUEUED, ASSIGNED),
        (QUEUED, RequestState.TIMED_OUT),
        (QUEUED, RequestState.REJECTED),
        (QUEUED, RequestState.FAILED),
        (ASSIGNED, QUEUED),
        (ASSIGNED, RequestState.SUCCEEDED),
        (ASSIGNED, RequestState.TIMED_OUT),
        (ASSIGNED, RequestState.REJECTED),
        (ASSIGNED, RequestState.FAILED),
    }
)
"""The legal moves."""


class Client:
    """A client's connection."""

    __slots__ = ("client_id", "is_gone", "requests")

    def __init__(self, client_id: ClientId) -> None:
        self.client_id = client_id
        self.is_gone = False
        # Its requests without a response.
        self.requests: dict[RequestId, Request] = {}


class Request(Claim):
    """A client's wish for one inference, from admission to its response."""

    __slots__ = (
        "arrival_count",
        "arrived_at_ns",
        "attempts",
        "client",
        "deadline_ns",
        "internal_deadline_ns",
        "message",
        "model",
        "must_run_alone",
        "payload",
        "request_id",
        "state",
    )

    def __init__(
        self,
        request_id: RequestId,
        client: Client,
        message: InferRequest,
        payload: Payload,
        model: Model,
        arrived_at_ns: int,
        deadline_ns: int,
        internal_deadline_ns: int,
        exec_demand: int,
        load_demand: int,
        load_expires_at_ns: int,
        arrival_count: int,
    ) -> None:
        self.request_id = request_id
        self.client = client
        # What the client sent.
        self.message = message
        self.payload = payload
        self.model = model
        self.arrived_at_ns = arrived_at_ns
        # The promise to the client.
        self.deadline_ns = deadline_ns
        # What is planned for: the promise minus the buffer.
        self.internal_deadline_ns = internal_deadline_ns
        # Without a call of `Claim.__init__`, which takes 0.1 us in plain Python.
        self.exec_demand = exec_demand
        self.load_demand = load_demand
        self.load_expires_at_ns = load_expires_at_ns
        # GPUs that held the model at arrival.
        self.arrival_count = arrival_count
        self.state = QUEUED
        # Actions that it has been part of.
        self.attempts = 0
        # Set after a batch failed, so that one bad input fails alone.
        self.must_run_alone = False


class PendingInfer:
    """An Infer action that has no result yet."""

    __slots__ = (
        "action_id",
        "copies_loaded",
        "expected_ns",
        "instance",
        "latest_ns",
        "queued_after",
        "requests",
        "sent_at_ns",
        "sent_bytes",
        "size_index",
        "start_ns",
        "worker_id",
    )

    def __init__(
        self,
        action_id: ActionId,
        worker_id: WorkerId,
        instance: Instance,
        requests: list[Request],
        size_index: int,
        expected_ns: int,
        start_ns: int,
        latest_ns: int,
        sent_at_ns: int,
        sent_bytes: int,
        queued_after: int,
        copies_loaded: int,
    ) -> None:
        self.action_id = action_id
        # The worker that owes the result.
        self.worker_id = worker_id
        self.instance = instance
        self.requests = requests
        self.size_index = size_index
        self.expected_ns = expected_ns
        # Predicted start, and latest start.
        self.start_ns = start_ns
        self.latest_ns = latest_ns
        self.sent_at_ns = sent_at_ns
        # Bytes that travel with it.
        self.sent_bytes = sent_bytes
        self.queued_after = queued_after
        self.copies_loaded = copies_loaded


class PendingLoad:
    """A LoadWeights action that has no result yet."""

    __slots__ = (
        "action_id",
        "copies_loaded",
        "expected_ns",
        "instance",
        "latest_ns",
        "sent_at_ns",
        "start_ns",
        "worker_id",
    )

    def __init__(
        self,
        action_id: ActionId,
        worker_id: WorkerId,
        instance: Instance,
        expected_ns: int,
        start_ns: int,
        latest_ns: int,
        sent_at_ns: int,
        copies_loaded: int,
    ) -> None:
        self.action_id = action_id
        # The worker that owes the result.
        self.worker_id = worker_id
        self.instance = instance
        self.expected_ns = expected_ns
        self.start_ns = start_ns
        self.latest_ns = latest_ns
        self.sent_at_ns = sent_at_ns
        self.copies_loaded = copies_loaded


class PendingEvict:
    """An EvictWeights action that has no result yet."""

    __slots__ = ("action_id", "copies_loaded", "instance", "sent_at_ns", "worker_id")

    def __init__(
        self,
        action_id: ActionId,
        worker_id: WorkerId,
        instance: Instance,
        sent_at_ns: int,
        copies_loaded: int,
    ) -> None:
        self.action_id = action_id
        # The worker that owes the result.
        self.worker_id = worker_id
        self.instance = instance
        self.sent_at_ns = sent_at_ns
        self.copies_loaded = copies_loaded


class PendingOrder:
    """An action that is not about one GPU: LoadModel, UnloadModel, GetWorkerState, ..."""

    __slots__ = ("action_id", "owner", "worker_id")

    def __init__(self, action_id: ActionId, worker_id: WorkerId, owner: object) -> None:
        self.action_id = action_id
        self.worker_id = worker_id
        # Whom the result concerns: an object known to the part of the role that sent it.
        self.owner = owner


Pending = PendingInfer | PendingLoad | PendingEvict | PendingOrder
