"""Keeps the requests and actions under way; sees to it that each request gets exactly one answer.

Not here: the states of a request (``underway.py``), what is decided about them (``policies/``).
"""

from typing import Final

from clockwork.controller.cluster import Gpu
from clockwork.controller.underway import (
    ASSIGNED,
    QUEUED,
    REQUEST_MOVES,
    Client,
    Pending,
    PendingInfer,
    Request,
    RequestState,
)
from clockwork.messages.actions import Action
from clockwork.messages.controller_io import ControllerEffect, ToClient, ToWorker
from clockwork.messages.ids import ActionId, ClientId, RequestId, WorkerId
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import InferResponse
from clockwork.messages.role import Payload
from clockwork.messages.status import Status

_SUCCESS: Final = Status.SUCCESS
_FINAL_BY_STATUS: Final = {
    _SUCCESS: RequestState.SUCCEEDED,
    Status.TIMEOUT: RequestState.TIMED_OUT,
    Status.SKIPPED: RequestState.REJECTED,
    Status.COULD_NOT_START_IN_TIME: RequestState.REJECTED,
    Status.ERROR: RequestState.FAILED,
}


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

    @property
    def request_count(self) -> int:
        """Requests so far that were admitted or refused for want of time."""
        return self._next_request

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
        is_met = status is _SUCCESS and now_ns <= request.deadline_ns
        is_cold = request.arrival_count == 0
        effects = self.effects
        # Positional arguments throughout: keywords cost 0.3 us per record.
        if request.payload is model.made_up_input:
            # The client sent no input, so it has no use for an output (SPEC 4.7).
            payload = b""
        # Its demand is remembered a little longer than itself.
        request.payload = b""
        if not request.client.is_gone:
            response = InferResponse(
                asked.user_request_id,
                status,
                message,
                model.model_id,
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
                model.model_id,
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
