"""A request in each of its states, and everything that can happen to it there."""

from collections.abc import Callable
from itertools import product
from typing import Final

import pytest
from controller_stage import CLIENT, Stage, profile

from clockwork.controller.cluster import Model
from clockwork.controller.ledger import Ledger
from clockwork.controller.underway import REQUEST_MOVES, Client, Request, RequestState
from clockwork.messages.actions import EvictWeightsDone, Infer, LoadWeights, Timing
from clockwork.messages.controller_io import ControllerEvent, StopAsked, WorkerLeaving
from clockwork.messages.ids import ActionId, ClientId, GpuId, ModelId, RequestId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.requests import (
    ClearCacheRequest,
    EvictRequest,
    InferRequest,
    UnloadModelRequest,
)
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import SECOND

OTHER = ClientId(8)
SLO_MS = 200

DRAWN: Final = {
    "QUEUED": {"ASSIGNED", "TIMED_OUT", "REJECTED", "FAILED"},
    "ASSIGNED": {"QUEUED", "SUCCEEDED", "TIMED_OUT", "REJECTED", "FAILED"},
}
"""The drawing in the module, as a table of its own."""

ENDS: Final = {
    Status.SUCCESS: "SUCCEEDED",
    Status.TIMEOUT: "TIMED_OUT",
    Status.SKIPPED: "REJECTED",
    Status.COULD_NOT_START_IN_TIME: "REJECTED",
    Status.ERROR: "FAILED",
}


def request_in(state: RequestState) -> tuple[Ledger, Request]:
    """Return an open request that was put into a state by force."""
    ledger = Ledger()
    model = Model(ModelInfo(ModelId(0), "m", profile()), batch_max=16, exec_max_ns=SECOND)
    message = InferRequest(0, 0, ModelId(0))
    client: Client = ledger.client(CLIENT)
    request = Request(RequestId(1), client, message, b"", model, 0, 9, 9, 1, 1, 9, 0)
    ledger.open(request)
    model.demand.arrive(request, 0)
    request.state = state
    return ledger, request


@pytest.mark.parametrize(("before", "after"), [*product(RequestState, RequestState)])
def test_a_request_moves_only_along_the_table(before: RequestState, after: RequestState) -> None:
    """All states times all states: what the drawing shows, and nothing else."""
    ledger, request = request_in(before)
    is_drawn = after.name in DRAWN.get(before.name, set())
    assert ((before, after) in REQUEST_MOVES) is is_drawn
    if is_drawn:
        ledger.advance(request, after)
        assert request.state is after
    else:
        with pytest.raises(AssertionError, match="request 1: "):
            ledger.advance(request, after)


@pytest.mark.parametrize(("before", "status"), [*product(RequestState, ENDS)])
def test_an_answer_ends_an_open_request_only(before: RequestState, status: Status) -> None:
    """All states times all statuses: nobody is answered twice, nobody succeeds without running."""
    ledger, request = request_in(before)
    if ENDS[status] in DRAWN.get(before.name, set()):
        ledger.respond(request, status, 5)
        assert request.state.name == ENDS[status]
        assert ledger.open_count == 0
    else:
        with pytest.raises(AssertionError, match="request 1: "):
            ledger.respond(request, status, 5)
        assert ledger.take_effects() == []


# A request that a client has asked for, in a controller with one worker.


class Scene:
    """A stage, and the request that it is about."""

    def __init__(self, **options: int) -> None:
        self.stage = Stage(**options).start(profile(), profile())
        self.number = -1

    def ask(self, *, slo_ms: float = SLO_MS) -> None:
        """Ask for the inference that it is about."""
        (self.number,) = self.stage.infer(0, slo_ms=slo_ms)

    def infer(self) -> Infer:
        """Return the Infer in which the request is; one that nobody sent if it is in none."""
        sent = self.stage.take(Infer)
        nobody = Infer(ActionId(999), ModelId(0), GpuId(0), 0, 0, 0, 1, ())
        return sent[-1] if sent and self.outcome() == "ASSIGNED" else nobody

    def load(self) -> LoadWeights:
        """Return the load that is under way; one that nobody sent if there is none."""
        nobody = LoadWeights(ActionId(999), ModelId(0), GpuId(0), 0, 0, 0)
        return next(iter(self.stage.take(LoadWeights)), nobody)

    def outcome(self) -> str:
        """Return the request's state; GONE if it is forgotten without an answer."""
        answer = self.stage.answers().get(self.number)
        if answer is not None:
            return ENDS[answer.status]
        for client in self.stage.role.ledger.clients.values():
            for request in client.requests.values():
                if request.message.user_request_id == self.number:
                    return request.state.name
        return "GONE"


Input = Callable[[Scene], object]
"""Something that happens."""


def _cold() -> Scene:
    scene = Scene()
    scene.ask()
    return scene


def _behind_others() -> Scene:
    scene = Scene()
    scene.stage.warm()
    scene.stage.infer(0, slo_ms=SLO_MS, count=16, client=OTHER)
    scene.ask()
    return scene


def _running() -> Scene:
    scene = Scene()
    scene.stage.warm()
    scene.ask()
    return scene


def _come_back(scene: Scene) -> None:
    stage = scene.stage
    stage.lose_worker()
    infos = [ModelInfo(ModelId(index), f"model{index}", profile()) for index in range(2)]
    stage.connect(state=stage.state(infos, warm=[0]))


def _wrong_kind(scene: Scene) -> None:
    nothing = Timing(0, 0, 0)
    action_id = scene.infer().action_id
    scene.stage.result(EvictWeightsDone(action_id, nothing, 0, 0))


def _repeated(scene: Scene) -> None:
    action = scene.infer()
    scene.stage.succeed(action)
    scene.stage.succeed(action)


STATES: Final[dict[str, Callable[[], Scene]]] = {
    "QUEUED, cold": _cold,
    "QUEUED, behind others": _behind_others,
    "ASSIGNED": _running,
}


def _others(scene: Scene) -> None:
    for action in scene.stage.take(Infer)[:1]:
        if action.action_id != scene.infer().action_id:
            scene.stage.succeed(action)


def _fail(status: ActionStatus) -> Input:
    return lambda scene: scene.stage.fail(scene.infer(), status)


def _ask_for(
    request: UnloadModelRequest | EvictRequest | ClearCacheRequest,
) -> Callable[[Scene], None]:
    return lambda scene: scene.stage.request(request, client=OTHER)


def _handle(event: ControllerEvent) -> Input:
    return lambda scene: scene.stage.handle(event)


INPUTS: Final[dict[str, Input]] = {
    "its Infer succeeds": lambda scene: scene.stage.succeed(scene.infer()),
    "its Infer succeeds twice": _repeated,
    "its Infer breaks": _fail(ActionStatus.RUNTIME_ERROR),
    "its Infer is too late": _fail(ActionStatus.EXEC_TOO_LATE),
    "its Infer has a wrong result": _wrong_kind,
    "its weights are missing": _fail(ActionStatus.EXEC_WEIGHTS_MISSING),
    "nothing happens any more": lambda scene: scene.stage.advance(60_000),
    "the Infer of others succeeds": _others,
    "a load succeeds": lambda scene: scene.stage.succeed(scene.load()),
    "a load fails": lambda scene: scene.stage.fail(scene.load(), ActionStatus.RUNTIME_ERROR),
    "its deadline passes": lambda scene: scene.stage.advance(SLO_MS + 1),
    "its client leaves": lambda scene: scene.stage.lose_client(),
    "another client leaves": lambda scene: scene.stage.lose_client(OTHER),
    "another request comes": lambda scene: scene.stage.infer(1, client=OTHER),
    "the worker is lost": lambda scene: scene.stage.lose_worker(),
    "the worker comes back": _come_back,
    "the worker leaves in order": _handle(WorkerLeaving(WorkerId(0), "test")),
    "its model is unloaded": _ask_for(UnloadModelRequest(900, 0, ModelId(0))),
    "its model is evicted": _ask_for(EvictRequest(900, 0, ModelId(0))),
    "all is evicted": _ask_for(ClearCacheRequest(900, 0)),
    "the controller is asked to end": _handle(StopAsked()),
}

QUEUED, ASSIGNED, GONE = "QUEUED", "ASSIGNED", "GONE"
NOTHING: Final = (QUEUED, QUEUED, ASSIGNED)
"""What has nothing to do with it changes nothing."""

EXPECTED: Final[dict[str, tuple[str, str, str]]] = {
    "its Infer succeeds": (QUEUED, QUEUED, "SUCCEEDED"),
    "its Infer succeeds twice": (QUEUED, QUEUED, "SUCCEEDED"),
    # Tried again at once.
    "its Infer breaks": NOTHING,
    "its Infer is too late": NOTHING,
    "its Infer has a wrong result": NOTHING,
    # Waits for its weights to be loaded again.
    "its weights are missing": (QUEUED, QUEUED, QUEUED),
    # A cold one is refused when its load is so late that it cannot make it, the others in the end.
    "nothing happens any more": ("REJECTED", "TIMED_OUT", "TIMED_OUT"),
    "the Infer of others succeeds": (QUEUED, ASSIGNED, ASSIGNED),
    "a load succeeds": (ASSIGNED, QUEUED, ASSIGNED),
    "a load fails": NOTHING,
    # In an action it is not refused: the result is still to come.
    "its deadline passes": ("REJECTED", ASSIGNED, ASSIGNED),
    "its client leaves": (GONE, GONE, GONE),
    "another client leaves": NOTHING,
    "another request comes": NOTHING,
    "the worker is lost": (QUEUED, QUEUED, QUEUED),
    "the worker comes back": (ASSIGNED, ASSIGNED, ASSIGNED),
    "the worker leaves in order": NOTHING,
    # Unloading, evicting and ending wait for it.
    "its model is unloaded": NOTHING,
    "its model is evicted": NOTHING,
    "all is evicted": NOTHING,
    "the controller is asked to end": NOTHING,
}
"""What becomes of the request, by its state in the order of `STATES`."""


@pytest.mark.parametrize(("state", "what"), [*product(STATES, INPUTS)])
def test_every_input_in_every_state(state: str, what: str) -> None:
    """Whatever happens, it has the state or the one answer of the table, and an end."""
    scene = STATES[state]()
    assert scene.outcome() == state.split(",")[0]
    INPUTS[what](scene)
    assert scene.outcome() == EXPECTED[what][[*STATES].index(state)]
    scene.stage.lose_worker()
    scene.stage.advance(60_000)
    assert scene.outcome() not in (QUEUED, ASSIGNED)
    assert scene.stage.role.ledger.open_count == 0


def test_the_table_is_complete() -> None:
    """Nothing was forgotten when an input was added."""
    assert list(EXPECTED) == list(INPUTS)
