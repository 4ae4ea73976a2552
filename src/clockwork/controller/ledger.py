"""The life of every request and action; exactly one answer each.

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

Not here: what is decided about them (``policies/``).
"""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from clockwork.controller.cluster import Gpu, Instance, Model
from clockwork.messages.actions import Action
from clockwork.messages.controller_io import ControllerEffect, ToClient, ToWorker
from clockwork.messages.ids import ActionId, ClientId, RequestId, WorkerId
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import InferRequest, InferResponse
from clockwork.messages.role import Payload
from clockwork.messages.status import Status


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

_FINAL_BY_STATUS: Final = {
    Status.SUCCESS: RequestState.SUCCEEDED,
    Status.TIMEOUT: RequestState.TIMED_OUT,
    Status.SKIPPED: RequestState.REJECTED,
    Status.COULD_NOT_START_IN_TIME: RequestState.REJECTED,
    Status.ERROR: RequestState.FAILED,
}


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


class PendingInfer(Struct, eq=False):
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


class PendingLoad(Struct, eq=False):
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


class PendingEvict(Struct, eq=False):
    """An EvictWeights action that has no result yet."""

    action_id: ActionId
    # The worker that owes the result.
    worker_id: WorkerId
    instance: Instance
    sent_at_ns: int
    copies_loaded: int


Owner = object
"""A name of this module's own: compiled by mypyc, fields cannot be named by a built-in."""


class PendingOrder(Struct, eq=False):
    """An action that is not about one GPU: LoadModel, UnloadModel, GetWorkerState, ..."""

    action_id: ActionId
    worker_id: WorkerId
    # Whom the result concerns: an object known to the part of the role that sent it.
    owner: Owner


Pending = PendingInfer | PendingLoad | PendingEvict | PendingOrder


class Ledger:
    """Open requests and actions, and the effects of the step under way."""

    def __init__(self) -> None:
        # Effects of the current step, in order.
        self.effects: list[ControllerEffect] = []
        # Requests without a response, over all clients.
        self.open_count = 0
        # Actions without a result.
        self.pending: dict[ActionId, Pending] = {}
        self.clients: dict[ClientId, Client] = {}
        self._next_request = 0
        self._next_action = 0

    def take_effects(self) -> list[ControllerEffect]:
        """Return the effects of the step and begin a new one."""
        effects, self.effects = self.effects, []
        return effects

    def client(self, client_id: ClientId) -> Client:
        """Return the client with this id; it is new if never seen."""
        client = self.clients.get(client_id)
        if client is None:
            client = self.clients[client_id] = Client(client_id)
        return client

    def lose_client(self, client_id: ClientId) -> Client | None:
        """Give no more answers to a client; return it if it was known."""
        client = self.clients.pop(client_id, None)
        if client is not None:
            client.is_gone = True
        return client

    def next_request_id(self) -> RequestId:
        """Return an unused request id."""
        self._next_request += 1
        return RequestId(self._next_request)

    def open(self, request: Request) -> None:
        """Take in a request that was admitted; it now has to be answered."""
        request.client.requests[request.request_id] = request
        self.open_count += 1
        request.model.open_count += 1

    def next_action_id(self) -> ActionId:
        """Return an unused action id."""
        action_id = ActionId(self._next_action)
        self._next_action += 1
        return action_id

    def send(self, pending: Pending, action: Action, payloads: tuple[Payload, ...] = ()) -> None:
        """Send an action and remember that its result is owed."""
        self.pending[pending.action_id] = pending
        self.effects.append(ToWorker(pending.worker_id, action, payloads))

    def advance(self, request: Request, state: RequestState) -> None:
        """Change a request's state."""
        assert (request.state, state) in REQUEST_MOVES, (
            f"request {request.request_id}: {request.state} -> {state}; {self.story(request)}"
        )
        request.state = state

    def respond(
        self,
        request: Request,
        status: Status,
        now_ns: int,
        *,
        message: str = "",
        payload: Payload = b"",
        batch_size: int = 0,
    ) -> bool:
        """Give a request its one response; return whether its deadline was met."""
        self.advance(request, _FINAL_BY_STATUS[status])
        del request.client.requests[request.request_id]
        self.open_count -= 1
        model, asked = request.model, request.message
        model.open_count -= 1
        model.demand.assign(request)
        model.demand.finish(request)
        latency_ns = now_ns - request.arrived_at_ns
        is_met = status is Status.SUCCESS and now_ns <= request.deadline_ns
        is_cold = request.arrival_count == 0
        effects = self.effects
        # Positional arguments throughout: keywords cost 0.3 us per record.
        if request.payload is model.made_up_input:
            # The client sent no input, so it has no use for an output (SPEC 4.7).
            payload = b""
        if not request.client.is_gone:
            response = InferResponse(
                asked.user_request_id,
                status,
                message,
                asked.model_id,
                batch_size,
                latency_ns,
                is_cold,
            )
            effects.append(ToClient(request.client.client_id, response, payload))
        effects.append(
            RequestRecord(
                request.arrived_at_ns,
                request.request_id,
                status,
                asked.user_id,
                asked.model_id,
                asked.slo_factor,
                latency_ns,
                request.deadline_ns - request.arrived_at_ns,
                int(is_met),
                request.arrival_count,
                model.warm_mask.bit_count(),
                int(is_cold),
            )
        )
        return is_met

    def pending_on(self, worker_id: WorkerId) -> list[Pending]:
        """Return the actions whose results a worker owes, in the order of sending. O(all)."""
        return [pending for pending in self.pending.values() if pending.worker_id == worker_id]

    def story(self, request: Request) -> str:
        """Return a request's life so far, for assertions and failing simulations."""
        actions = [
            f"A{pending.action_id} on GPU {pending.instance.gpu.index}"
            for pending in self.pending.values()
            if isinstance(pending, PendingInfer) and request in pending.requests
        ]
        return (
            f"Req{request.request_id} model={request.message.model_id} "
            f"{request.state.name.lower()} "
            f"arrived={request.arrived_at_ns} deadline={request.deadline_ns} "
            f"attempts={request.attempts} in=[{', '.join(actions)}]"
        )

    def check(self) -> None:
        """Assert that every open request is queued or in exactly one open action."""
        assigned = [
            request.request_id
            for pending in self.pending.values()
            if isinstance(pending, PendingInfer)
            for request in pending.requests
        ]
        unique = set(assigned)
        assert len(assigned) == len(unique), "a request is in two actions"
        for client in self.clients.values():
            for request in client.requests.values():
                assert request.state in (QUEUED, ASSIGNED), self.story(request)
                is_assigned = request.state is ASSIGNED
                assert is_assigned == (request.request_id in unique), self.story(request)


def next_free_ns(gpu: Gpu, now_ns: int, size_bytes: int = 0) -> int:
    """Return when an Infer sent now, with this many bytes, could start on a GPU."""
    return gpu.exec.available_ns(now_ns, gpu.worker.latency.estimate_ns(size_bytes))
