"""A model instance in each of its states, and everything that can happen to it there."""

from collections.abc import Callable
from itertools import product
from typing import Final

import pytest
from controller_stage import Stage, profile

from clockwork.controller.cluster import (
    INSTANCE_MOVES,
    Cluster,
    Gpu,
    Instance,
    InstanceState,
    Model,
)
from clockwork.messages.actions import Action, EvictWeights, Infer, LoadWeights
from clockwork.messages.controller_io import WorkerLeaving
from clockwork.messages.ids import ActionId, GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.requests import ClearCacheRequest, EvictRequest, UnloadModelRequest
from clockwork.messages.status import ActionStatus
from clockwork.units import SECOND

PAGES = 3
DRAWN: Final = {
    "COLD": {"LOADING", "WARM"},
    "LOADING": {"WARM", "COLD"},
    "WARM": {"COLD"},
}
"""The drawing in the module, as a table of its own."""
WAY_TO: Final[dict[InstanceState, tuple[InstanceState, ...]]] = {
    InstanceState.COLD: (),
    InstanceState.LOADING: (InstanceState.LOADING,),
    InstanceState.WARM: (InstanceState.LOADING, InstanceState.WARM),
}


def instance_in(state: InstanceState) -> tuple[Cluster, Instance]:
    """Return a cluster with one GPU of 8 pages, and its instance of a model of 3 pages."""
    cluster = Cluster(1)
    worker = cluster.workers[0]
    gpu = Gpu(index=0, worker=worker, gpu_id=GpuId(0), pages=8, lag_ns=0)
    cluster.gpus.append(gpu)
    info = ModelInfo(ModelId(0), "m", profile(pages=PAGES))
    model = cluster.models[info.model_id] = Model(info, batch_max=16, exec_max_ns=SECOND)
    instance = model.on(gpu)
    for step in WAY_TO[state]:
        instance.advance(step)
    return cluster, instance


@pytest.mark.parametrize(("before", "after"), [*product(InstanceState, InstanceState)])
def test_an_instance_moves_only_along_the_table(
    before: InstanceState, after: InstanceState
) -> None:
    """All states times all states: what the drawing shows, with pages and masks that follow."""
    cluster, instance = instance_in(before)
    is_drawn = after.name in DRAWN[before.name]
    assert ((before, after) in INSTANCE_MOVES) is is_drawn
    if not is_drawn:
        with pytest.raises(AssertionError, match="M-0 on GPU 0"):
            instance.advance(after)
        return
    instance.advance(after)
    cluster.check()
    is_resident = after is not InstanceState.COLD
    assert instance.gpu.free_pages == 8 - PAGES * is_resident
    assert bool(instance.model.resident_mask) is is_resident
    assert bool(instance.model.warm_mask) is (after is InstanceState.WARM)
    assert (ModelId(0) in instance.gpu.lru) is is_resident


# An instance of a model that somebody asks for, in a controller with one GPU.

COLD, LOADING, WARM, GONE = "COLD", "LOADING", "WARM", "GONE"


def _cold() -> Stage:
    return Stage().start(profile(), profile())


def _loading() -> Stage:
    stage = _cold()
    stage.infer(0, slo_ms=1_000)
    return stage


def _warm() -> Stage:
    stage = _cold()
    stage.warm()
    return stage


def _running() -> Stage:
    stage = _warm()
    stage.infer(0, slo_ms=1_000)
    return stage


STATES: Final[dict[str, Callable[[], Stage]]] = {
    "COLD": _cold,
    "LOADING": _loading,
    "WARM": _warm,
    "WARM, in use": _running,
}

Input = Callable[[Stage], object]
"""Something that happens."""


def state_of(stage: Stage) -> str:
    """Return the state of the instance; GONE if its model is."""
    model = stage.role.cluster.models.get(ModelId(0))
    return model.on(stage.role.cluster.gpus[0]).state.name if model is not None else GONE


def one(stage: Stage, kind: type[Action]) -> Action:
    """Return the action of a kind that is under way; one that nobody sent if there is none."""
    sent = next(iter(stage.take(kind)), None)
    if sent is not None:
        return sent
    ids = ActionId(999), ModelId(0), GpuId(0)
    if kind is Infer:
        return Infer(*ids, 0, 0, 0, 1, ())
    return LoadWeights(*ids, 0, 0, 0) if kind is LoadWeights else EvictWeights(*ids, 0, 0)


def _succeed(kind: type[Action]) -> Input:
    return lambda stage: stage.succeed(one(stage, kind))


def _fail(kind: type[Action], status: ActionStatus) -> Input:
    return lambda stage: stage.fail(one(stage, kind), status)


def _come_back(*warm: int) -> Input:
    def happens(stage: Stage) -> None:
        stage.lose_worker()
        infos = [ModelInfo(ModelId(index), f"model{index}", profile()) for index in range(2)]
        stage.connect(state=stage.state(infos, warm=warm))

    return happens


INPUTS: Final[dict[str, Input]] = {
    "a load succeeds": _succeed(LoadWeights),
    "a load breaks": _fail(LoadWeights, ActionStatus.RUNTIME_ERROR),
    "a load finds too few pages": _fail(LoadWeights, ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE),
    "an infer succeeds": _succeed(Infer),
    "an infer breaks": _fail(Infer, ActionStatus.RUNTIME_ERROR),
    "an infer finds no weights": _fail(Infer, ActionStatus.EXEC_WEIGHTS_MISSING),
    "an infer loses its weights": _fail(Infer, ActionStatus.EXEC_CONCURRENT_WEIGHTS_MODIFICATION),
    "an eviction ends": _succeed(EvictWeights),
    "results are overdue": lambda stage: stage.advance(60_000),
    "a request comes": lambda stage: stage.infer(0, slo_ms=1_000),
    "a request for another comes": lambda stage: stage.infer(1, slo_ms=1_000),
    "it is evicted": lambda stage: stage.request(EvictRequest(900, 0, ModelId(0))),
    "all is evicted": lambda stage: stage.request(ClearCacheRequest(900, 0)),
    "it is unloaded": lambda stage: stage.request(UnloadModelRequest(900, 0, ModelId(0))),
    "the client leaves": lambda stage: stage.lose_client(),
    "the worker is lost": lambda stage: stage.lose_worker(),
    "the worker comes back empty": _come_back(),
    "the worker comes back with it": _come_back(0),
    "the worker leaves": lambda stage: stage.handle(WorkerLeaving(WorkerId(0), "test")),
}

NOTHING: Final = (COLD, LOADING, WARM, WARM)
"""What has nothing to do with it changes nothing."""

EXPECTED: Final[dict[str, tuple[str, str, str, str]]] = {
    "a load succeeds": (COLD, WARM, WARM, WARM),
    "a load breaks": (COLD, COLD, WARM, WARM),
    "a load finds too few pages": (COLD, COLD, WARM, WARM),
    "an infer succeeds": NOTHING,
    "an infer breaks": NOTHING,
    # Found to be cold, and loaded again for the request that was in the infer.
    "an infer finds no weights": (COLD, LOADING, WARM, LOADING),
    "an infer loses its weights": (COLD, LOADING, WARM, LOADING),
    "an eviction ends": NOTHING,
    "results are overdue": (COLD, COLD, WARM, WARM),
    "a request comes": (LOADING, LOADING, WARM, WARM),
    "a request for another comes": NOTHING,
    # What is on its way is left alone; a load in a cache that is cleared fails at the worker.
    "it is evicted": (COLD, LOADING, COLD, COLD),
    "all is evicted": (COLD, LOADING, COLD, LOADING),
    # Unloading waits for open requests.
    "it is unloaded": (GONE, LOADING, GONE, WARM),
    "the client leaves": NOTHING,
    "the worker is lost": (COLD, COLD, COLD, COLD),
    "the worker comes back empty": (COLD, COLD, COLD, LOADING),
    "the worker comes back with it": (WARM, WARM, WARM, WARM),
    "the worker leaves": (COLD, COLD, COLD, COLD),
}
"""Where the instance is afterwards, by its state before in the order of `STATES`."""


@pytest.mark.parametrize(("state", "what"), [*product(STATES, INPUTS)])
def test_every_input_in_every_state(state: str, what: str) -> None:
    """Whatever happens, the instance is where the table says, and can be made warm again."""
    stage = STATES[state]()
    assert state_of(stage) == state.split(",")[0]
    INPUTS[what](stage)
    assert state_of(stage) == EXPECTED[what][[*STATES].index(state)]
    if what == "it is unloaded":
        return
    _come_back()(stage)
    assert state_of(stage) in (COLD, LOADING)
    # Longer than the pause after a failed load.
    stage.advance(200)
    stage.infer(0, slo_ms=1_000)
    assert state_of(stage) == LOADING
    for load in stage.take(LoadWeights):
        stage.succeed(load)
    assert state_of(stage) == WARM


def test_the_table_is_complete() -> None:
    """Nothing was forgotten when an input was added."""
    assert list(EXPECTED) == list(INPUTS)
