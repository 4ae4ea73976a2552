"""A task in each of its states, and everything that can happen to its worker there."""

from collections.abc import Callable
from itertools import product
from typing import Final

import pytest
from worker_stage import (
    Stage,
    clear_cache,
    evict,
    get_state,
    infer,
    load_model,
    load_weights,
    statuses,
    unload,
)

from clockwork.messages.actions import Action
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    ControllerLost,
    InferTask,
    LoadModelTask,
    LoadWeightsTask,
    Shutdown,
    Task,
    WorkerEffect,
)
from clockwork.worker.tasks import ActionTask

# The action that each test is about.
ACTION = 77
EARLIEST, LATEST = 2_000, 3_000


class Scene:
    """A worker, the action that the test is about, and its results."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.stage.warm(0).warm(1).loaded(2)
        self.statuses: list[ActionStatus] = []

    def do(self, effects: list[WorkerEffect]) -> None:
        """Take what the role answered."""
        self.statuses += [status for action, status in statuses(effects) if action == ACTION]

    def send(self, action: Action) -> None:
        """Let an action arrive."""
        self.do(self.stage.send(action))

    def finish(self) -> None:
        """Let time pass until all windows are open, and all tasks succeed."""
        self.do(self.stage.at(max(self.stage.now_ns, EARLIEST)))
        while self.stage.running:
            self.do(self.stage.end(type(self.stage.running[0])))

    def state(self) -> str:
        """Return the task's state, or the one status of its result; GONE if it has none."""
        assert len(self.statuses) <= 1, self.statuses
        if self.statuses:
            return self.statuses[0].name
        role = self.stage.role
        tasks: list[ActionTask] = [*role._outbox.running.values()]
        for executor in role._executors():
            tasks += executor.waiting()
        found = [task for task in tasks if task.action.action_id == ACTION and not task.is_orphan]
        return found[0].state.name if found else "GONE"


def _sent(*actions: Action) -> Callable[[], Scene]:
    def scene() -> Scene:
        made = Scene()
        for action in actions:
            made.send(action)
        return made

    return scene


def _window(kind: Callable[..., Action], model: int) -> Action:
    return kind(model, action=ACTION, earliest=EARLIEST, latest=LATEST)


def _now(kind: Callable[..., Action], model: int) -> Action:
    return kind(model, action=ACTION, latest=LATEST)


STATES: Final[dict[str, Callable[[], Scene]]] = {
    "WAITING, an infer before its window": _sent(_window(infer, 0)),
    "WAITING, an infer behind another": _sent(infer(1), _now(infer, 0)),
    "WAITING, a load behind another": _sent(load_weights(2), _now(load_weights, 1)),
    "WAITING, an eviction of what is read": _sent(infer(0), _now(evict, 0)),
    "WAITING, a model behind another": _sent(load_model(3), _now(load_model, 4)),
    "RUNNING, an infer": _sent(_now(infer, 0)),
    "RUNNING, a load": _sent(_now(load_weights, 2)),
    "RUNNING, a model": _sent(_now(load_model, 4)),
}


def _end(kind: type[Task], *, is_success: bool = True) -> Callable[[Scene], None]:
    """Have a task of a kind end, if one runs."""

    def happens(scene: Scene) -> None:
        if any(isinstance(task, kind) for task in scene.stage.running):
            scene.do(scene.stage.end(kind) if is_success else scene.stage.fail(kind))

    return happens


INPUTS: Final[dict[str, Callable[[Scene], None]]] = {
    "its window opens": lambda scene: scene.do(scene.stage.at(EARLIEST)),
    "its window is about to close": lambda scene: scene.do(scene.stage.at(LATEST)),
    "its window closes": lambda scene: scene.do(scene.stage.at(LATEST + 1)),
    "the infer ends": _end(InferTask),
    "the infer breaks": _end(InferTask, is_success=False),
    "the load ends": _end(LoadWeightsTask),
    "the load breaks": _end(LoadWeightsTask, is_success=False),
    "the model is read": _end(LoadModelTask),
    "the model cannot be read": _end(LoadModelTask, is_success=False),
    "an earlier action comes": lambda scene: scene.send(infer(1, earliest=0)),
    "its model is evicted": lambda scene: scene.send(evict(0)),
    "its model is unloaded": lambda scene: [scene.send(unload(each)) for each in range(3)] and None,
    "the cache is cleared": lambda scene: scene.send(clear_cache()),
    "the state is asked for": lambda scene: scene.send(get_state()),
    "the controller is lost": lambda scene: scene.do(scene.stage.handle(ControllerLost())),
    "the worker is to end": lambda scene: scene.do(scene.stage.handle(Shutdown())),
}


EARLY, BEHIND, LOAD_BEHIND, EVICTION, MODEL_BEHIND, INFER, LOAD, MODEL = STATES
GONE: Final = "GONE"
CHANGED_LOAD: Final = "LOAD_WEIGHTS_CONCURRENT_MODIFICATION"
CHANGED_INFER: Final = "EXEC_CONCURRENT_WEIGHTS_MODIFICATION"

AT_ONCE: Final[dict[str, dict[str, str]]] = {
    "its window opens": {EARLY: "RUNNING"},
    "its window is about to close": {EARLY: "RUNNING"},
    "its window closes": {
        EARLY: "EXEC_TOO_LATE",
        BEHIND: "EXEC_TOO_LATE",
        LOAD_BEHIND: "LOAD_WEIGHTS_TOO_LATE",
        EVICTION: "EVICT_WEIGHTS_TOO_LATE",
        MODEL_BEHIND: "COULD_NOT_START_IN_TIME",
    },
    "the infer ends": {BEHIND: "RUNNING", EVICTION: "SUCCESS", INFER: "SUCCESS"},
    "the infer breaks": {BEHIND: "RUNNING", EVICTION: "SUCCESS", INFER: "RUNTIME_ERROR"},
    "the load ends": {LOAD_BEHIND: "RUNNING", LOAD: "SUCCESS"},
    "the load breaks": {LOAD_BEHIND: "RUNNING", LOAD: "RUNTIME_ERROR"},
    "the model is read": {MODEL_BEHIND: "RUNNING", MODEL: "SUCCESS"},
    "the model cannot be read": {MODEL_BEHIND: "RUNNING", MODEL: "RUNTIME_ERROR"},
    "an earlier action comes": {},
    "its model is evicted": {},
    "its model is unloaded": {EVICTION: "EVICT_WEIGHTS_UNKNOWN_MODEL"},
    "the cache is cleared": {EVICTION: "EVICT_WEIGHTS_NOT_IN_CACHE"},
    "the state is asked for": {},
    "the controller is lost": dict.fromkeys(STATES, GONE),
    "the worker is to end": dict.fromkeys(
        (EARLY, BEHIND, LOAD_BEHIND, EVICTION, MODEL_BEHIND), "CANCELLED"
    ),
}
"""Where a task is after an input, by its state before; the same state where none is named."""

IN_THE_END: Final[dict[str, dict[str, str]]] = {
    # In use it waits; an infer whose turn comes later finds the weights gone.
    "its model is evicted": {EARLY: "EXEC_WEIGHTS_MISSING", BEHIND: "EXEC_WEIGHTS_MISSING"},
    "its model is unloaded": {
        EARLY: "COPY_INPUT_UNKNOWN_MODEL",
        BEHIND: "COPY_INPUT_UNKNOWN_MODEL",
        LOAD_BEHIND: "LOAD_WEIGHTS_UNKNOWN_MODEL",
        INFER: CHANGED_INFER,
        LOAD: CHANGED_LOAD,
    },
    "the cache is cleared": {
        EARLY: "EXEC_WEIGHTS_MISSING",
        BEHIND: "EXEC_WEIGHTS_MISSING",
        INFER: CHANGED_INFER,
        LOAD: CHANGED_LOAD,
    },
}
"""What its result is when all goes well afterwards; success where none is named."""


@pytest.mark.parametrize(("state", "what"), [*product(STATES, INPUTS)])
def test_every_input_in_every_state(state: str, what: str) -> None:
    """Whatever happens, the task is where the table says, and its action has one result."""
    scene = STATES[state]()
    before = state.split(",")[0]
    assert scene.state() == before
    INPUTS[what](scene)
    after = scene.state()
    assert after == AT_ONCE[what].get(state, before)
    scene.finish()
    is_open = after in ("WAITING", "RUNNING")
    expected = IN_THE_END.get(what, {}).get(state, "SUCCESS") if is_open else after
    assert scene.state() == expected


def test_the_table_is_complete() -> None:
    """Nothing was forgotten when an input was added."""
    assert list(AT_ONCE) == list(INPUTS)
