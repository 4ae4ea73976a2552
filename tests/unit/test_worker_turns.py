"""The worker role: windows, the order of turns, and who waits for whom."""

import pytest
from worker_stage import Stage, evict, infer, load_model, load_weights, started, statuses

from clockwork.messages.actions import Action
from clockwork.messages.status import ActionStatus as S
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask


def test_an_action_waits_for_its_earliest_start() -> None:
    """Nothing happens before; the role asks to be woken."""
    stage = Stage().warm()
    assert stage.send(infer(earliest=5_000, latest=6_000)) == []
    assert stage.role.wakeup_ns == 5_000
    assert stage.at(4_999) == []
    assert len(started(stage.at(5_000))) == 1
    assert stage.role.wakeup_ns is None


def test_an_action_may_start_at_its_latest_start() -> None:
    """The window includes both its ends."""
    stage = Stage().warm()
    stage.send(infer(action=1), infer(action=2, latest=5_000))
    stage.now_ns = 5_000
    assert len(started(stage.end(InferTask))) == 1


@pytest.mark.parametrize(
    ("first", "late", "kind", "status"),
    [
        (load_model(5), load_model(6, action=2, latest=5_000), LoadModelTask,
         S.COULD_NOT_START_IN_TIME),
        (load_weights(1), load_weights(0, action=2, latest=5_000), LoadWeightsTask,
         S.LOAD_WEIGHTS_TOO_LATE),
        (load_weights(1), evict(0, action=2, latest=5_000), LoadWeightsTask,
         S.EVICT_WEIGHTS_TOO_LATE),
        (infer(0), infer(0, action=2, latest=5_000), InferTask, S.EXEC_TOO_LATE),
    ],
)  # fmt: skip
def test_a_queued_action_is_refused_as_soon_as_its_window_has_closed(
    first: Action, late: Action, kind: type, status: S
) -> None:
    """The refusal does not wait for the executor, and comes once."""
    stage = Stage().warm(0).loaded(1)
    stage.send(first, late)
    assert stage.role.wakeup_ns == 5_001
    assert stage.at(5_000) == []
    effects = stage.at(5_001)
    assert statuses(effects) == [(2, status)]
    assert stage.role.wakeup_ns is None
    assert started(stage.end(kind)) == []


def test_an_action_that_arrives_too_late_is_refused_at_once() -> None:
    """It does not wait for its turn to hear it."""
    stage = Stage().warm()
    stage.send(infer(action=1))
    assert statuses(stage.send(infer(action=2, latest=999))) == [(2, S.EXEC_TOO_LATE)]


def test_a_window_that_closes_before_it_opens_is_refused() -> None:
    """Nonsense from the controller ends like lateness."""
    stage = Stage().warm()
    assert stage.send(infer(action=1, earliest=9_000, latest=2_000)) == []
    assert statuses(stage.at(2_001)) == [(1, S.EXEC_TOO_LATE)]
    assert stage.role.wakeup_ns is None


def test_turns_go_by_earliest_start_and_then_by_arrival() -> None:
    """The earliest window first; first come first among equals."""
    stage = Stage().warm()
    stage.send(infer(action=0))
    stage.send(
        infer(action=1, earliest=1_500),
        infer(action=2, earliest=1_200),
        infer(action=3, earliest=1_500),
        infer(action=4, earliest=1_100),
    )
    stage.now_ns = 2_000
    order = [statuses(stage.end(InferTask))[0][0] for _ in range(5)]
    assert order == [0, 4, 2, 1, 3]


def test_a_later_arrival_with_an_earlier_window_goes_first() -> None:
    """An executor that waits for a window takes what is ready before it."""
    stage = Stage().warm()
    stage.send(infer(action=1, earliest=9_000))
    assert len(started(stage.send(infer(action=2, earliest=500)))) == 1
    assert statuses(stage.end(InferTask)) == [(2, S.SUCCESS)]
    assert stage.role.wakeup_ns == 9_000
    assert len(started(stage.at(9_500))) == 1


def test_an_expired_action_makes_room_for_the_next() -> None:
    """Behind a window that has closed, the next task starts in the same step."""
    stage = Stage().warm()
    stage.send(infer(action=1, earliest=4_000, latest=5_000), infer(action=2, earliest=4_500))
    effects = stage.at(6_000)
    assert statuses(effects) == [(1, S.EXEC_TOO_LATE)]
    assert len(started(effects)) == 1


def test_executors_are_independent_and_run_one_task_each() -> None:
    """Two GPUs and the CPU work at the same time; a second task waits for the first."""
    stage = Stage(gpus=2).warm(0).warm(0, gpu=1).loaded(1)
    tasks = started(
        stage.send(
            infer(0), infer(0), load_weights(1), load_weights(0), load_model(5), load_model(6),
            infer(0, gpu=1), load_weights(1, gpu=1),
        )
    )  # fmt: skip
    assert [type(task) for task in tasks] == [
        InferTask,
        LoadWeightsTask,
        LoadModelTask,
        InferTask,
        LoadWeightsTask,
    ]


def test_loads_and_evictions_keep_their_order() -> None:
    """An eviction behind a load waits for it; the load behind it gets the pages."""
    stage = Stage(pages=3).warm(0, pages=2).loaded(1, pages=1).loaded(2, pages=2)
    effects = stage.send(load_weights(1, action=1), evict(0, action=2), load_weights(2, action=3))
    assert statuses(effects) == []
    effects = stage.end(LoadWeightsTask)
    assert statuses(effects) == [(1, S.SUCCESS), (2, S.SUCCESS)]
    assert len(started(effects)) == 1
    assert statuses(stage.end(LoadWeightsTask)) == [(3, S.SUCCESS)]


def test_an_eviction_waits_for_the_infer_that_runs_and_no_longer() -> None:
    """Pages in use stay; the infers behind find the weights missing."""
    stage = Stage().warm()
    stage.send(infer(action=1), infer(action=2))
    assert stage.send(evict(action=3)) == []
    effects = stage.end(InferTask)
    assert statuses(effects) == [(1, S.SUCCESS), (3, S.SUCCESS), (2, S.EXEC_WEIGHTS_MISSING)]


def test_an_eviction_of_another_model_does_not_wait() -> None:
    """Only the model in use is protected."""
    stage = Stage().warm(0).warm(1)
    stage.send(infer(0))
    assert statuses(stage.send(evict(1, action=3))) == [(3, S.SUCCESS)]


def test_an_eviction_that_waits_too_long_expires_and_lets_the_next_go() -> None:
    """It blocks its executor until then."""
    stage = Stage().warm(0).loaded(1)
    stage.send(infer(0))
    assert stage.send(evict(0, action=1, latest=3_000), load_weights(1, action=2)) == []
    effects = stage.at(3_001)
    assert statuses(effects) == [(1, S.EVICT_WEIGHTS_TOO_LATE)]
    assert len(started(effects)) == 1
    stage.end(InferTask)
    assert stage.state().warm == [[0]]


def test_loading_a_warm_model_waits_for_its_infer_and_takes_the_same_pages() -> None:
    """It is not warm until it has been loaded again."""
    stage = Stage(pages=2).warm(0)
    stage.send(infer(action=1))
    assert stage.send(load_weights(action=2)) == []
    (task,) = started(stage.end(InferTask))
    assert isinstance(task, LoadWeightsTask)
    assert task.pages == (0, 1)
    assert statuses(stage.send(infer(action=3))) == [(3, S.EXEC_WEIGHTS_MISSING)]
    assert statuses(stage.end(LoadWeightsTask)) == [(2, S.SUCCESS)]
    assert stage.state().warm == [[0]]


def test_a_second_load_that_fails_leaves_the_model_cold() -> None:
    """What the pages hold is unknown then, so they are given back."""
    stage = Stage(pages=2).warm(0)
    stage.send(load_weights(action=2))
    assert statuses(stage.fail(LoadWeightsTask)) == [(2, S.RUNTIME_ERROR)]
    assert stage.state().warm == [[]]
    stage.send(load_weights(action=4))
    assert statuses(stage.end(LoadWeightsTask)) == [(4, S.SUCCESS)]


def test_an_infer_during_the_first_load_finds_the_weights_missing() -> None:
    """Warm is only what has been loaded."""
    stage = Stage().loaded()
    stage.send(load_weights())
    assert statuses(stage.send(infer(action=1))) == [(1, S.EXEC_WEIGHTS_MISSING)]
