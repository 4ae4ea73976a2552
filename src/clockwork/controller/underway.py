"""Requests and actions that are under way: what is known of each until it has its answer.

State of a request::

    QUEUED   --put into an Infer-->        ASSIGNED
    QUEUED   --cannot make it-->           TIMED_OUT (status 4), REJECTED (7, 8)
    QUEUED   --model unloaded, ...-->      FAILED (1)
    ASSIGNED --result-->                   SUCCEEDED (0)
    ASSIGNED --its action failed-->        QUEUED again while there is time, else one of
                                           TIMED_OUT, REJECTED, FAILED

The four last states are final: the response has been given and the request is forgotten.

Requests are `msgspec.Struct`s and not plain classes: building one takes 0.2 us instead of 1.1 us,
and there is one per client request.

Not here: who may change them (``ledger.py``).
"""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from clockwork.controller.cluster import Instance, Model
from clockwork.messages.ids import ActionId, ClientId, RequestId, WorkerId
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload


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


class Request(Struct, gc=False, eq=False):
    """A client's wish for one inference, from admission to its response."""

    request_id: RequestId
    client: Client
    # What the client sent.
    message: InferRequest
    payload: Payload
    model: Model
    arrived_at_ns: int
    # The promise to the client.
    deadline_ns: int
    # What is planned for: the promise minus the buffer.
    internal_deadline_ns: int
    # See `parts.demand.Claim`.
    exec_demand: int
    load_demand: int
    load_expires_at_ns: int
    # GPUs that held the model at arrival.
    arrival_count: int
    state: RequestState = QUEUED
    # Actions that it has been part of.
    attempts: int = 0
    # Set after a batch failed, so that one bad input fails alone.
    must_run_alone: bool = False


class PendingInfer(Struct, gc=False, eq=False):
    """An Infer action that has no result yet."""

    action_id: ActionId
    # The worker that owes the result.
    worker_id: WorkerId
    instance: Instance
    requests: list[Request]
    size_index: int
    expected_ns: int
    # Predicted start, and latest start.
    start_ns: int
    latest_ns: int
    sent_at_ns: int
    # Bytes that travel with it.
    sent_bytes: int
    queued_after: int
    copies_loaded: int


class PendingLoad(Struct, gc=False, eq=False):
    """A LoadWeights action that has no result yet."""

    action_id: ActionId
    # The worker that owes the result.
    worker_id: WorkerId
    instance: Instance
    expected_ns: int
    start_ns: int
    latest_ns: int
    sent_at_ns: int
    copies_loaded: int


class PendingEvict(Struct, gc=False, eq=False):
    """An EvictWeights action that has no result yet."""

    action_id: ActionId
    # The worker that owes the result.
    worker_id: WorkerId
    instance: Instance
    sent_at_ns: int
    copies_loaded: int


class PendingOrder(Struct, eq=False):
    """An action that is not about one GPU: LoadModel, UnloadModel, GetWorkerState, ..."""

    action_id: ActionId
    worker_id: WorkerId
    # Whom the result concerns: an object known to the part of the role that sent it.
    owner: object


Pending = PendingInfer | PendingLoad | PendingEvict | PendingOrder
