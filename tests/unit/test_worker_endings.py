"""The worker role: unloading, clearing, a lost controller, and the end of the process."""

from worker_stage import (
    Stage,
    clear_cache,
    evict,
    get_state,
    infer,
    load_model,
    load_weights,
    results,
    started,
    statuses,
    unload,
)

from clockwork.messages.actions import ClearCacheDone, UnloadModelDone
from clockwork.messages.status import ActionStatus as S
from clockwork.messages.worker_io import (
    ControllerLost,
    InferTask,
    LoadModelTask,
    LoadWeightsTask,
    ReleaseModel,
    SendResult,
    Shutdown,
)

SHUTDOWN = Shutdown()
LOST = ControllerLost()


def test_unloading_forgets_model_weights_and_code() -> None:
    """The pages are free, the id is unknown and may be used again."""
    stage = Stage(pages=2).warm()
    effects = stage.send(unload(action=1))
    assert effects == [ReleaseModel(0), SendResult(UnloadModelDone(1, 1_000, 1_000), ())]
    assert stage.state().models == ()
    stage.warm(0)
    assert stage.state().warm == [[0]]


def test_code_leaves_with_the_last_copy() -> None:
    """Copies share their code; the id of the first is taken as long as it is there."""
    stage = Stage().loaded(4, copies=2)
    assert ReleaseModel(4) not in stage.send(unload(4))
    assert statuses(stage.send(load_model(4))) == [(0, S.INVALID_MODEL_ID)]
    assert ReleaseModel(4) in stage.send(unload(5))
    assert len(started(stage.send(load_model(4)))) == 1


def test_unloading_a_running_model_waits_for_its_tasks_with_pages_and_code() -> None:
    """New actions do not know the model; its pages move only when nobody reads them."""
    stage = Stage(pages=2).warm(0).loaded(1, pages=2)
    stage.send(infer(0, action=1), infer(0, action=2))
    assert stage.send(unload(0, action=3)) == []
    refused = stage.send(load_weights(1, action=4), load_weights(0, action=5))
    assert statuses(refused) == [
        (4, S.LOAD_WEIGHTS_INSUFFICIENT_CACHE),
        (5, S.LOAD_WEIGHTS_UNKNOWN_MODEL),
    ]
    stage.now_ns = 2_000
    effects = stage.end(InferTask)
    assert statuses(effects) == [
        (1, S.EXEC_CONCURRENT_WEIGHTS_MODIFICATION),
        (3, S.SUCCESS),
        (2, S.COPY_INPUT_UNKNOWN_MODEL),
    ]
    assert ReleaseModel(0) in effects
    assert len(started(stage.send(load_weights(1)))) == 1


def test_unloading_during_a_load_fails_the_load_and_returns_its_pages() -> None:
    """The version has changed: 54, and no page is lost."""
    stage = Stage(pages=2).loaded(0).loaded(1)
    stage.send(load_weights(0, action=1))
    assert stage.send(unload(0, action=2)) == []
    effects = stage.end(LoadWeightsTask)
    assert statuses(effects) == [(1, S.LOAD_WEIGHTS_CONCURRENT_MODIFICATION), (2, S.SUCCESS)]
    stage.warm(1)


def test_clearing_evicts_everything_and_answers_when_it_is_true() -> None:
    """A load that runs fails with 54, an infer with 84; both return their pages."""
    stage = Stage(gpus=2).warm(0).warm(1).warm(0, gpu=1).loaded(2)
    stage.send(infer(0, action=1), load_weights(2, action=2))
    assert stage.send(clear_cache(action=3)) == []
    assert stage.state().warm == [[], []]
    assert statuses(stage.end(InferTask)) == [(1, S.EXEC_CONCURRENT_WEIGHTS_MODIFICATION)]
    stage.now_ns = 4_000
    effects = stage.end(LoadWeightsTask)
    assert statuses(effects) == [(2, S.LOAD_WEIGHTS_CONCURRENT_MODIFICATION), (3, S.SUCCESS)]
    assert SendResult(ClearCacheDone(3, 1_000, 4_000), ()) in effects
    assert len(stage.state().models) == 3


def test_clearing_an_idle_worker_answers_at_once() -> None:
    """Nothing runs, so nothing is waited for."""
    stage = Stage().warm()
    assert statuses(stage.send(clear_cache(action=3))) == [(3, S.SUCCESS)]


def test_a_load_after_clearing_does_not_touch_pages_in_use() -> None:
    """The same model gets new pages while the old ones are still read."""
    stage = Stage(pages=4).warm(0)
    stage.send(infer(0))
    stage.send(clear_cache())
    (task,) = started(stage.send(load_weights(0)))
    assert isinstance(task, LoadWeightsTask)
    assert task.pages == (2, 3)


def test_an_eviction_that_waits_is_answered_when_its_model_is_cleared() -> None:
    """What it waited for has gone another way."""
    stage = Stage().warm(0)
    stage.send(infer(0), evict(0, action=1))
    assert statuses(stage.send(clear_cache(action=2))) == [(1, S.EVICT_WEIGHTS_NOT_IN_CACHE)]


def test_a_failed_infer_of_an_unloaded_model_lets_it_go() -> None:
    """Failure and success leave the pages alike."""
    stage = Stage(pages=2).warm(0)
    stage.send(infer(0, action=1))
    stage.send(unload(0, action=2))
    assert statuses(stage.fail(InferTask)) == [(1, S.RUNTIME_ERROR), (2, S.SUCCESS)]


def test_a_failed_load_of_an_unloaded_model_lets_it_go() -> None:
    """Failure and success leave the pages alike."""
    stage = Stage(pages=2).loaded(0)
    stage.send(load_weights(0, action=1))
    stage.send(unload(0, action=2))
    assert statuses(stage.fail(LoadWeightsTask)) == [(1, S.RUNTIME_ERROR), (2, S.SUCCESS)]


def test_a_lost_controller_gets_nothing_and_nothing_of_its_runs_later() -> None:
    """Models and weights stay, a load that runs still warms, queued actions are gone."""
    stage = Stage().warm(0).loaded(1)
    stage.send(infer(0), infer(0), load_weights(1), evict(0), load_model(7, earliest=9_000))
    assert stage.handle(LOST) == []
    assert stage.role.wakeup_ns is None
    assert stage.end(InferTask) == []
    assert stage.end(LoadWeightsTask) == []
    assert stage.state().warm == [[0, 1]]
    assert statuses(stage.send(evict(0, action=5))) == [(5, S.SUCCESS)]


def test_a_lost_controller_is_not_told_of_failures_or_farewells() -> None:
    """Unloading goes on without an answer."""
    stage = Stage().warm(0)
    stage.send(infer(0), unload(0))
    stage.handle(LOST)
    assert stage.fail(InferTask) == [ReleaseModel(0)]


def test_a_model_that_a_lost_controller_asked_for_stays() -> None:
    """The next controller finds it in the worker's state."""
    stage = Stage()
    stage.send(load_model(3))
    stage.handle(LOST)
    assert stage.end(LoadModelTask) == []
    assert [info.model_id for info in stage.state().models] == [3]


def test_shutdown_cancels_what_is_queued_and_finishes_what_runs() -> None:
    """Each action still has one result; new ones are refused."""
    stage = Stage().warm(0).loaded(1)
    stage.send(
        infer(0, action=1), infer(0, action=2), load_weights(1, action=3), evict(0, action=4),
        load_model(7, action=5), load_model(8, action=6),
    )  # fmt: skip
    effects = stage.handle(SHUTDOWN)
    assert statuses(effects) == [(6, S.CANCELLED), (4, S.CANCELLED), (2, S.CANCELLED)]
    assert results(effects)[0].message == "Action cancelled"  # type: ignore[union-attr]
    for action in (infer(action=7), load_model(9, action=7), get_state(action=7)):
        assert statuses(stage.send(action)) == [(7, S.SHUTTING_DOWN)]
    assert statuses(stage.end(InferTask)) == [(1, S.SUCCESS)]
    assert statuses(stage.end(LoadWeightsTask)) == [(3, S.SUCCESS)]
    assert statuses(stage.end(LoadModelTask)) == [(5, S.SUCCESS)]


def test_a_load_that_outlives_its_controller_stays_as_it_was_reported() -> None:
    """What the next controller was told to be cold does not take pages behind its back."""
    stage = Stage(pages=2).loaded(0, pages=2).loaded(1, pages=2)
    stage.send(load_weights(0, action=1))
    stage.handle(LOST)
    assert stage.state().warm == [[]]
    stage.end(LoadWeightsTask)
    assert stage.state().warm == [[]]
    assert len(started(stage.send(load_weights(1, action=2)))) == 1


def test_a_load_that_ends_before_the_next_controller_asks_is_kept() -> None:
    """Weights outlive controllers: what is warm when the next one asks is reported and used."""
    stage = Stage(pages=2).loaded(0, pages=2)
    stage.send(load_weights(0, action=1))
    stage.handle(LOST)
    stage.end(LoadWeightsTask)
    assert stage.state().warm == [[0]]
