"""A controller role on a stage: tests say what peers do and when, and look at the effects."""

from collections.abc import Sequence
from typing import TypeVar

from clockwork.controller.assembly import PolicyFactory
from clockwork.controller.config import ControllerConfig
from clockwork.controller.core import ControllerRole
from clockwork.controller.policies.infer4 import Infer4
from clockwork.controller.reception import MakeInput
from clockwork.messages.actions import (
    Action,
    ActionFailed,
    ActionType,
    EvictWeights,
    EvictWeightsDone,
    GetWorkerState,
    Infer,
    InferDone,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    LoadWeightsDone,
    Result,
    Timing,
    UnloadModel,
    UnloadModelDone,
    WorkerStateDone,
)
from clockwork.messages.controller_io import (
    ClientLost,
    ControllerEffect,
    ControllerEvent,
    FromClient,
    FromWorker,
    Say,
    ToClient,
    ToWorker,
    WorkerConnected,
    WorkerLost,
)
from clockwork.messages.ids import ActionId, ClientId, GpuId, ModelId, WorkerId
from clockwork.messages.models import (
    GpuState,
    ModelInfo,
    ModelProfile,
    TensorSpec,
    WorkerState,
)
from clockwork.messages.remembered import Remembered
from clockwork.messages.requests import (
    InferRequest,
    InferResponse,
    LoadModelRequest,
    Request,
)
from clockwork.messages.role import WAKEUP, Payload
from clockwork.messages.status import ActionStatus
from clockwork.units import MIB, MS, SECOND

T = TypeVar("T")

BEGIN_NS = 1_000 * SECOND
PAGE_BYTES = 16 * MIB
CLIENT = ClientId(7)


def profile(
    *,
    exec_ms: Sequence[float] = (3.0, 4.0, 6.0, 10.0, 18.0),
    sizes: Sequence[int] = (1, 2, 4, 8, 16),
    load_ms: float = 8.0,
    pages: int = 1,
) -> ModelProfile:
    """Return a model's profile; inputs take 16 bytes, outputs 8."""
    return ModelProfile(
        inputs=(TensorSpec("x", "float32", (4,), 4),),
        outputs=(TensorSpec("y", "float32", (2,), 4),),
        batch_sizes=tuple(sizes),
        exec_ns=tuple(int(value * MS) for value in exec_ms),
        load_ns=int(load_ms * MS),
        weights_bytes=pages * PAGE_BYTES,
        weights_pages=pages,
    )


class Stage:
    """A role, the time, and everything that it has done since the last look."""

    def __init__(
        self,
        *,
        workers: int = 1,
        gpus: int = 1,
        pages: int = 8,
        config: ControllerConfig | None = None,
        make_policy: PolicyFactory = Infer4,
        make_input: MakeInput | None = None,
        remembered: Remembered | None = None,
        worker_addresses: Sequence[str] = (),
    ) -> None:
        self.role = ControllerRole(
            config or ControllerConfig(),
            workers,
            make_policy=make_policy,
            make_input=make_input,
            remembered=remembered,
            worker_addresses=worker_addresses,
        )
        self.now_ns = BEGIN_NS
        self.gpus = gpus
        self.pages = pages
        self.effects: list[ControllerEffect] = []
        # Actions without a result, by worker in the order of sending.
        self.open: dict[ActionId, tuple[WorkerId, Action]] = {}
        self._next_request = 0
        # What workers report for a path; others get `profile()`.
        self.profiles: dict[str, ModelProfile] = {}

    # What happens

    def handle(self, *events: ControllerEvent) -> list[ControllerEffect]:
        """Hand events to the role at the present instant; return the effects."""
        effects = self.role.handle(events or (WAKEUP,), self.now_ns)
        self.role.check()
        for effect in effects:
            if isinstance(effect, ToWorker):
                self.open[effect.message.action_id] = (effect.worker_id, effect.message)
        self.effects += effects
        return effects

    def advance(self, duration_ms: float) -> list[ControllerEffect]:
        """Let time pass, waking the role whenever it asked for it."""
        end_ns = self.now_ns + int(duration_ms * MS)
        effects: list[ControllerEffect] = []
        while (wakeup_ns := self.role.wakeup_ns) is not None and wakeup_ns <= end_ns:
            self.now_ns = max(self.now_ns, wakeup_ns)
            effects += self.handle()
        self.now_ns = end_ns
        return effects

    def request(self, message: Request, payload: Payload = b"", client: ClientId = CLIENT) -> None:
        """A client sends a request."""
        self.handle(FromClient(client, message, payload, self.now_ns))

    def infer(
        self,
        model: int = 0,
        *,
        slo_ms: float = 0,
        count: int = 1,
        payload: Payload = b"",
        client: ClientId = CLIENT,
    ) -> list[int]:
        """Clients ask for inferences, all in one batch of events; return their numbers."""
        numbers = list(range(self._next_request, self._next_request + count))
        self._next_request += count
        self.handle(
            *(
                FromClient(
                    client,
                    InferRequest(number, 0, ModelId(model), int(slo_ms * MS)),
                    payload,
                    self.now_ns,
                )
                for number in numbers
            )
        )
        return numbers

    def lose_client(self, client: ClientId = CLIENT) -> None:
        """A client's connection closes."""
        self.handle(ClientLost(client))

    def lose_worker(self, worker: int = 0) -> None:
        """A worker's connection breaks; what it owed will never come."""
        for action_id in [key for key, (owner, _) in self.open.items() if owner == worker]:
            del self.open[action_id]
        self.handle(WorkerLost(WorkerId(worker), "test"))

    # What workers do

    def connect(self, worker: int = 0, state: WorkerState | None = None) -> None:
        """A worker connects and reports its state."""
        self.handle(WorkerConnected(WorkerId(worker)))
        self.report(worker, state)

    def report(self, worker: int, state: WorkerState | None = None) -> None:
        """A worker that was asked for its state reports it."""
        query = self.take(GetWorkerState, worker=worker)[-1]
        done = WorkerStateDone(query.action_id, state or self.state(), self.now_ns, self.now_ns)
        self.result(done, worker)

    def state(self, models: Sequence[ModelInfo] = (), warm: Sequence[int] = ()) -> WorkerState:
        """Return a worker's report; `warm` models are on its first GPU."""
        gpus = tuple(
            GpuState(
                GpuId(index),
                self.pages * PAGE_BYTES,
                self.pages,
                0,
                0,
                tuple(ModelId(id_) for id_ in warm) if index == 0 else (),
            )
            for index in range(self.gpus)
        )
        return WorkerState(PAGE_BYTES, gpus, tuple(models))

    def result(self, result: Result, worker: int | None = None, payload: Payload = b"") -> None:
        """A worker answers."""
        owner = self.open.pop(result.action_id, (WorkerId(worker or 0), None))[0]
        sender = owner if worker is None else WorkerId(worker)
        self.handle(FromWorker(sender, result, payload, self.now_ns))

    def succeed(self, action: Action, *, took_ms: float = 3.0, payload: Payload = b"") -> None:
        """Let the time of an action pass, then have it succeed now."""
        self.advance(took_ms)
        took_ns = int(took_ms * MS)
        timing = Timing(self.now_ns - took_ns, self.now_ns, took_ns)
        nothing = Timing(self.now_ns, self.now_ns, 0)
        begun = Timing(self.now_ns - took_ns, self.now_ns - took_ns, 0)
        sent_ns, action_id = self.now_ns, action.action_id
        result: Result
        if isinstance(action, Infer):
            result = InferDone(
                action_id, begun, timing, nothing, action.gpu_id, 0, 0, sent_ns - took_ns, sent_ns
            )
        elif isinstance(action, LoadWeights):
            result = LoadWeightsDone(action_id, timing, sent_ns - took_ns, sent_ns)
        elif isinstance(action, EvictWeights):
            result = EvictWeightsDone(action_id, nothing, sent_ns, sent_ns)
        elif isinstance(action, LoadModel):
            result = LoadModelDone(
                action_id, self.profiles.get(action.path, profile()), action.copies, timing, 0, 0
            )
        else:
            assert isinstance(action, UnloadModel), action
            result = UnloadModelDone(action_id, sent_ns, sent_ns)
        self.result(result, payload=payload)

    def fail(
        self, action: Action, status: ActionStatus, message: str = "because of the test"
    ) -> None:
        """Have an action fail now."""
        self.result(
            ActionFailed(
                action.action_id, ActionType.INFER, status, message, self.now_ns, self.now_ns
            )
        )

    # Shortcuts

    def start(self, *models: ModelProfile, copies: int = 1) -> "Stage":
        """Connect all workers, load models, and end the startup."""
        self.profiles = {f"model{index}": item for index, item in enumerate(models)}
        for worker in range(len(self.role._cluster.workers)):
            self.connect(worker)
        for path in self.profiles:
            self.load(path, copies=copies)
        self.advance(1_500)
        assert self.role.is_serving == bool(models)
        self.effects.clear()
        return self

    def load(self, path: str, *, copies: int = 1) -> None:
        """A client has a model loaded, and all workers succeed."""
        self._next_request += 1
        self.request(LoadModelRequest(self._next_request, 0, path, copies))
        for action in self.take(LoadModel):
            self.succeed(action, took_ms=0)

    def warm(self, model: int = 0) -> None:
        """Make a model warm by a request that triggers its load."""
        self.infer(model, slo_ms=1_000)
        self.settle()
        self.effects.clear()

    def settle(self, took_ms: float = 3.0) -> None:
        """Have all that is under way succeed, until nothing is."""
        while self.open:
            action_id = next(iter(self.open))
            self.succeed(self.open[action_id][1], took_ms=took_ms)

    # What it did

    def take(self, kind: type[T], *, worker: int | None = None) -> list[T]:
        """Return the open actions of a kind, in the order of sending."""
        return [
            action
            for owner, action in self.open.values()
            if isinstance(action, kind) and worker in (None, owner)
        ]

    def answers(self) -> dict[int, InferResponse]:
        """Return the responses to inferences since the last look, by the client's number."""
        found: dict[int, InferResponse] = {}
        for effect in self.effects:
            if isinstance(effect, ToClient) and isinstance(effect.message, InferResponse):
                number = effect.message.user_request_id
                assert number not in found, f"request {number} was answered twice"
                found[number] = effect.message
        return found

    def responses(self, kind: type[T]) -> list[T]:
        """Return the responses of a kind since the last look."""
        return [
            effect.message
            for effect in self.effects
            if isinstance(effect, ToClient) and isinstance(effect.message, kind)
        ]

    def records(self, kind: type[T]) -> list[T]:
        """Return the telemetry records of a kind since the last look."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def lines(self) -> list[str]:
        """Return the console lines since the last look."""
        return [effect.text for effect in self.effects if isinstance(effect, Say)]
