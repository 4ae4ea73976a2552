"""Models that are loaded while others are served: measured, and in nobody's way."""

import pytest
from controller_stage import Stage
from profiler_stage import load, serving, work

from clockwork.controller.config import ControllerConfig
from clockwork.messages.actions import EvictWeights, Infer, LoadWeights
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import (
    ClearCacheRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
)
from clockwork.messages.status import Status
from clockwork.units import MS


def test_a_load_at_run_time_is_answered_when_it_is_measured() -> None:
    """Clients see the model and its figures then, and not before."""
    stage = serving()
    answers = load(stage)
    assert answers() == []
    stage.request(LsRequest(51, 0))
    assert len(stage.responses(LsResponse)[-1].models) == 1
    work(stage)
    (answer,) = answers()
    assert answer.status is Status.SUCCESS
    assert answer.model is not None
    assert answer.model.profile.exec_ns == (3 * MS, 4 * MS, 6 * MS)
    stage.effects.clear()
    (number,) = stage.infer(1, slo_ms=100)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_others_get_their_turn_between_two_actions() -> None:
    """After an action the GPU is left alone for as long as it took, at least 2 ms."""
    stage = serving()
    load(stage)
    (first,) = stage.take(LoadWeights)
    stage.succeed(first, took_ms=30)
    assert stage.take(LoadWeights) == []
    stage.advance(29)
    assert stage.take(LoadWeights) == []
    stage.advance(2)
    (second,) = stage.take(LoadWeights)
    stage.succeed(second, took_ms=0.1)
    stage.advance(1.5)
    assert stage.take(LoadWeights) == []
    stage.advance(1)
    assert len(stage.take(LoadWeights)) == 1


def test_a_busy_gpu_is_not_measured_on() -> None:
    """As long as something runs, measuring waits."""
    stage = serving()
    (number,) = stage.infer(slo_ms=500)
    (infer,) = stage.take(Infer)
    load(stage)
    stage.advance(100)
    assert stage.take(LoadWeights) == []
    stage.succeed(infer, took_ms=3)
    stage.advance(5)
    assert len(stage.take(LoadWeights)) == 1
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_request_that_comes_meanwhile_is_planned_around_the_measurement() -> None:
    """The GPU counts as busy: the request goes to the other GPU that holds its model."""
    stage = serving(gpus=2)
    stage.infer(count=2, slo_ms=400)
    stage.settle()
    model = stage.role.cluster.models[ModelId(0)]
    assert model.warm_mask == 0b11
    load(stage)
    while not (infers := stage.take(Infer)):
        _, action = next(iter(stage.open.values()))
        stage.succeed(action, took_ms=5)
        stage.advance(50)
    (measuring,) = infers
    stage.infer(slo_ms=100)
    (request,) = [action for action in stage.take(Infer) if action is not measuring]
    assert request.gpu_id != measuring.gpu_id
    work(stage)
    assert stage.responses(LoadModelResponse)[-1].status is Status.SUCCESS


def test_a_full_cache_makes_room_by_what_nobody_needs() -> None:
    """An idle model is evicted; what runs or is asked for stays."""
    stage = serving(pages=1)
    load(stage)
    (evict,) = stage.take(EvictWeights)
    assert evict.model_id == 0
    work(stage)
    assert stage.responses(LoadModelResponse)[-1].status is Status.SUCCESS


def test_nobody_evicts_what_is_being_measured() -> None:
    """A request for a cold model waits, or is refused; the measurement goes on."""
    stage = serving(pages=1)
    load(stage)
    work_one(stage)
    stage.infer(slo_ms=30)
    stage.advance(40)
    assert [each.model_id for each in stage.take(EvictWeights)] == []
    work(stage)
    assert stage.responses(LoadModelResponse)[-1].status is Status.SUCCESS


def work_one(stage: Stage) -> None:
    """Let the evictions and the first load end."""
    for action in stage.take(EvictWeights):
        stage.succeed(action, took_ms=0)
    (first,) = stage.take(LoadWeights)
    stage.succeed(first, took_ms=5)


def test_without_an_idle_gpu_it_is_given_up_after_ten_seconds() -> None:
    """The model is then served with guesses, and the console says so."""
    stage = serving(config=ControllerConfig(overdue_after_ns=60_000 * MS))
    stage.infer(slo_ms=100_000)
    (infer,) = stage.take(Infer)
    answers = load(stage)
    stage.advance(9_000)
    assert answers() == []
    stage.advance(1_100)
    assert [answer.status for answer in answers()] == [Status.SUCCESS]
    assert any("served with guesses: no GPU was idle for 10 s" in each for each in stage.lines())
    assert stage.take(LoadWeights) == []
    assert infer in stage.take(Infer)


@pytest.mark.parametrize("moment", ["between", "during"])
def test_a_worker_that_leaves_is_replaced_by_another(moment: str) -> None:
    """The model is measured anew where it still is, and served there."""
    stage = serving(workers=2)
    answers = load(stage)
    (action,) = stage.take(LoadWeights)
    owner = next(worker for worker, each in stage.open.values() if each is action)
    if moment == "between":
        stage.succeed(action, took_ms=5)
    stage.lose_worker(owner)
    stage.advance(100)
    (again,) = stage.take(LoadWeights, worker=1 - owner)
    assert again.model_id == action.model_id
    work(stage)
    (answer,) = answers()
    assert answer.status is Status.SUCCESS
    assert stage.role.cluster.models[action.model_id].exec_ns == [3 * MS, 4 * MS, 6 * MS]


def test_if_all_workers_leave_the_load_has_failed() -> None:
    """No model stays behind."""
    stage = serving()
    answers = load(stage)
    stage.lose_worker()
    stage.advance(100)
    (answer,) = answers()
    assert answer.status is Status.ERROR
    assert "the workers left" in answer.message
    assert ModelId(1) not in stage.role.cluster.models


def test_caches_that_are_cleared_meanwhile_only_cost_time() -> None:
    """The model gets another place."""
    stage = serving()
    answers = load(stage)
    work_one(stage)
    stage.request(ClearCacheRequest(60, 0))
    stage.advance(50)
    assert stage.take(LoadWeights)
    work_all_but_clearing(stage)
    (answer,) = answers()
    assert answer.status is Status.SUCCESS


def work_all_but_clearing(stage: Stage) -> None:
    """Let all actions succeed but ClearCache."""
    while open_ := stage.take(LoadWeights) + stage.take(Infer) + stage.take(EvictWeights):  # type: ignore[operator]
        stage.succeed(open_[0], took_ms=3)
        stage.advance(50)


SLOW = {1: 20.0, 2: 40.0, 4: 60.0}
"""Its batches are long runs, for a default SLO of 100 ms."""


def _sizes_sent(stage: Stage, *, is_asked: bool) -> list[int]:
    """Load a slow model beside another one, which is asked for or not; return what was measured."""
    answers = load(stage)
    sizes: list[int] = []
    for _ in range(2_000):
        if answers():
            break
        if stage.open:
            _, action = next(iter(stage.open.values()))
            is_measuring = isinstance(action, Infer) and action.model_id == 1
            if isinstance(action, Infer) and is_measuring:
                sizes.append(action.batch_size)
            took_ms = SLOW[action.batch_size] if is_measuring else 3
            stage.succeed(action, took_ms=took_ms)
        elif is_asked:
            stage.infer(slo_ms=500)
        stage.advance(10)
    (answer,) = answers()
    assert answer.status is Status.SUCCESS
    assert answer.model is not None
    assert answer.model.profile.batch_sizes == tuple(sorted(set(sizes)))
    return sizes


def test_long_batches_are_not_measured_on_the_only_gpu_while_others_are_asked_for() -> None:
    """They would make those late; the model is served at batch size 1."""
    stage = serving()
    assert set(_sizes_sent(stage, is_asked=True)) == {1}
    assert any("on the only GPU" in line for line in stage.lines())


def test_long_batches_are_measured_when_nobody_asks() -> None:
    """Then there is nobody to disturb."""
    assert set(_sizes_sent(serving(), is_asked=False)) == {1, 2, 4}
