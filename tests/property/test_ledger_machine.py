"""The ledger against dicts: one answer for each request, whatever becomes of it and its client."""

from collections import Counter

from controller_stage import profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clockwork.controller.cluster import Cluster, Gpu, Model
from clockwork.controller.ledger import Ledger
from clockwork.controller.underway import (
    ASSIGNED,
    QUEUED,
    Client,
    PendingInfer,
    PendingOrder,
    Request,
    RequestState,
)
from clockwork.messages.actions import ClearCache, Infer
from clockwork.messages.controller_io import ToClient, ToWorker
from clockwork.messages.ids import ActionId, ClientId, GpuId, ModelId, RequestId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import InferRequest, InferResponse
from clockwork.messages.status import Status
from clockwork.units import FOREVER_NS, MS, SECOND

CLIENTS = 3
MODELS = 2
WORKERS = 2
# Small, so that deadlines are often met to the nanosecond.
SLO_NS = 3
WHILE_QUEUED = (Status.TIMEOUT, Status.SKIPPED, Status.COULD_NOT_START_IN_TIME, Status.ERROR)
WHILE_ASSIGNED = (*WHILE_QUEUED, Status.SUCCESS)

client_ids = st.integers(0, CLIENTS - 1).map(ClientId)
model_ids = st.integers(0, MODELS - 1).map(ModelId)
worker_ids = st.integers(0, WORKERS - 1).map(WorkerId)


class LedgerMachine(RuleBasedStateMachine):
    """Requests wait, run in batches, run again, are answered; clients leave at any time."""

    @initialize()
    def begin(self) -> None:
        """Nobody has asked for anything."""
        self.now_ns = 0
        self.ledger = Ledger()
        cluster = Cluster(WORKERS)
        self.gpus = [
            Gpu(index=worker.worker_id, worker=worker, gpu_id=GpuId(0), pages=8, lag_ns=0)
            for worker in cluster.workers
        ]
        infos = [ModelInfo(ModelId(index), f"m{index}", profile()) for index in range(MODELS)]
        self.models = [Model(info, batch_max=16, exec_max_ns=SECOND) for info in infos]
        # What has no answer yet: by request, and by action.
        self.open: dict[RequestId, Request] = {}
        self.actions: dict[ActionId, PendingInfer | PendingOrder] = {}
        self.owner: dict[RequestId, Client] = {}
        self.answered: Counter[RequestId] = Counter()

    @rule(client_id=client_ids, model_id=model_ids)
    def ask(self, client_id: ClientId, model_id: ModelId) -> None:
        """A request is admitted."""
        client = self.ledger.client(client_id)
        assert client is self.ledger.client(client_id)
        assert not client.is_gone
        request_id = self.ledger.next_request_id()
        assert request_id not in self.owner
        request = Request(
            request_id=request_id,
            client=client,
            message=InferRequest(int(request_id), 3, model_id),
            payload=b"",
            model=self.models[model_id],
            arrived_at_ns=self.now_ns,
            deadline_ns=self.now_ns + SLO_NS,
            internal_deadline_ns=self.now_ns + SLO_NS,
            exec_demand=MS,
            load_demand=2 * MS,
            load_expires_at_ns=self.now_ns + SLO_NS,
            arrival_count=int(request_id) % 2,
        )
        self.ledger.open(request)
        request.model.demand.arrive(request, self.now_ns)
        self.open[request_id] = request
        self.owner[request_id] = client

    @rule(worker_id=worker_ids, model_id=model_ids, count=st.integers(1, 4))
    def assign(self, worker_id: WorkerId, model_id: ModelId, count: int) -> None:
        """Some requests of a model are put into an Infer."""
        batch = [each for each in self._in(QUEUED) if each.model.model_id == model_id][:count]
        if not batch:
            return
        action_id = self._new_action_id()
        instance = self.models[model_id].on(self.gpus[worker_id])
        for request in batch:
            request.attempts += 1
            self.ledger.advance(request, ASSIGNED)
        pending = PendingInfer(
            action_id, worker_id, instance, batch, 0, MS, self.now_ns, FOREVER_NS, self.now_ns,
            0, 0, 0,
        )  # fmt: skip
        action = Infer(action_id, model_id, GpuId(0), 0, FOREVER_NS, MS, len(batch), ())
        self._send(pending, action)

    @rule(worker_id=worker_ids)
    def order(self, worker_id: WorkerId) -> None:
        """Something is sent that is not about a request."""
        action_id = self._new_action_id()
        self._send(PendingOrder(action_id, worker_id, self), ClearCache(action_id))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """An action gets its result; each of its requests is answered or queued again."""
        if not self.actions:
            return
        action_id = data.draw(st.sampled_from(list(self.actions)))
        pending = self.ledger.pending.pop(action_id)
        assert pending is self.actions.pop(action_id)
        for request in pending.requests if isinstance(pending, PendingInfer) else ():
            status = data.draw(st.sampled_from([*WHILE_ASSIGNED, None]))
            if status is None:
                self.ledger.advance(request, QUEUED)
            else:
                self._respond(request, status)

    @rule(data=st.data(), status=st.sampled_from(WHILE_QUEUED))
    def refuse(self, data: st.DataObject, status: Status) -> None:
        """A waiting request is given up."""
        queued = self._in(QUEUED)
        if queued:
            self._respond(data.draw(st.sampled_from(queued)), status)

    @rule(client_id=client_ids)
    def lose_client(self, client_id: ClientId) -> None:
        """A client leaves; when it comes back it is another one."""
        known = self.ledger.clients.get(client_id)
        assert self.ledger.lose_client(client_id) is known
        assert known is None or known.is_gone
        assert self.ledger.lose_client(client_id) is None

    @rule(step_ns=st.integers(0, SLO_NS))
    def pass_time(self, step_ns: int) -> None:
        """Time passes."""
        self.now_ns += step_ns

    @invariant()
    def agrees(self) -> None:
        """Open requests, open actions and demand are those of the dicts; effects were taken."""
        if not hasattr(self, "ledger"):
            return
        ledger = self.ledger
        ledger.check()
        assert ledger.take_effects() == []
        assert ledger.open_count == len(self.open)
        assert list(ledger.pending) == list(self.actions)
        for worker_id in map(WorkerId, range(WORKERS)):
            owed = [each for each in self.actions.values() if each.worker_id == worker_id]
            assert ledger.pending_on(worker_id) == owed
        for client_id, client in ledger.clients.items():
            assert client.client_id == client_id
        for request_id, client in self.owner.items():
            is_open = request_id in self.open
            assert (request_id in client.requests) is is_open
            assert self.answered[request_id] == (not is_open)
        for model in self.models:
            count = sum(request.model is model for request in self.open.values())
            assert model.open_count == count
            assert model.demand.exec_demand == count * MS

    @invariant()
    def stories_name_the_action(self) -> None:
        """A request's story tells its state and every action that it is in."""
        for request in getattr(self, "open", {}).values():
            story = self.ledger.story(request)
            assert story.startswith(f"Req{request.request_id} model={request.model.model_id} ")
            assert f" {request.state.name.lower()} " in story
            inside = [
                f"A{action_id} on GPU"
                for action_id, pending in self.actions.items()
                if isinstance(pending, PendingInfer) and request in pending.requests
            ]
            assert len(inside) == (request.state is ASSIGNED)
            assert all(action in story for action in inside)

    def _in(self, state: RequestState) -> list[Request]:
        return [request for request in self.open.values() if request.state is state]

    def _new_action_id(self) -> ActionId:
        action_id = self.ledger.next_action_id()
        assert action_id not in self.actions
        return action_id

    def _send(self, pending: PendingInfer | PendingOrder, action: Infer | ClearCache) -> None:
        self.ledger.send(pending, action, (b"input",))
        self.actions[pending.action_id] = pending
        assert self.ledger.take_effects() == [ToWorker(pending.worker_id, action, (b"input",))]

    def _respond(self, request: Request, status: Status) -> None:
        """Answer a request; its client is told if it is there, the log always."""
        del self.open[request.request_id]
        self.answered[request.request_id] += 1
        is_met = self.ledger.respond(
            request, status, self.now_ns, message="why", payload=b"output", batch_size=2
        )
        took_ns = self.now_ns - request.arrived_at_ns
        assert is_met is (status is Status.SUCCESS and took_ns <= SLO_NS)
        *responses, record = self.ledger.take_effects()
        assert isinstance(record, RequestRecord)
        assert (record.request_id, record.result, record.deadline_met) == (
            request.request_id, status, is_met,
        )  # fmt: skip
        number, model_id = request.message.user_request_id, request.model.model_id
        is_cold = request.arrival_count == 0
        response = InferResponse(number, status, "why", model_id, 2, took_ns, is_cold)
        client = self.owner[request.request_id]
        expected = [] if client.is_gone else [ToClient(client.client_id, response, b"output")]
        assert responses == expected


TestLedger = LedgerMachine.TestCase
