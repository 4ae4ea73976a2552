"""Predictions of when an executor is free."""

import pytest

from clockwork.messages.ids import ActionId
from clockwork.parts.timeline import Timeline

LAG = 10


def make(*durations: int, now_ns: int = 0) -> Timeline:
    """Return a timeline with actions 0, 1, ... sent at `now_ns`."""
    timeline = Timeline(LAG)
    for index, duration_ns in enumerate(durations):
        timeline.add(ActionId(index), duration_ns=duration_ns, now_ns=now_ns)
    return timeline


def test_an_idle_executor_is_free_when_a_message_can_arrive() -> None:
    """With nothing outstanding the next start is now plus the way there."""
    assert make().available_ns(1_000, 5) == 1_005


def test_outstanding_work_adds_up() -> None:
    """The next start is after everything that was sent."""
    assert make(100, 50).available_ns(20, 5) == 150


def test_an_end_moves_the_successor_to_that_instant() -> None:
    """When the head ends late, what follows is late as well."""
    timeline = make(100, 50)
    timeline.end(ActionId(0), at_ns=105)
    assert timeline.available_ns(106, 5) == 155


def test_an_overdue_head_holds_the_prediction_within_the_lag() -> None:
    """Up to the lag allowance an overdue head does not move the prediction."""
    assert make(100, 50).available_ns(108, 5) == 150


def test_a_stalled_head_counts_as_ended_a_lag_ago() -> None:
    """Beyond the allowance the work behind the head starts from now minus the lag."""
    assert make(100, 500).available_ns(1_000, 5) == 1_000 - LAG + 500


def test_results_may_overtake_each_other() -> None:
    """An action that ends before its predecessor gives its share of time back."""
    timeline = make(100, 50)
    timeline.end(ActionId(1), at_ns=60)
    timeline.check()
    assert timeline.available_ns(60, 0) == 100


def test_an_unknown_action_is_a_bug() -> None:
    """Ending what was never added trips an assertion."""
    with pytest.raises(AssertionError, match="not outstanding"):
        make(100).end(ActionId(7), at_ns=1)


def test_clear_forgets_everything() -> None:
    """After a worker was lost its executors are free."""
    timeline = make(100, 50)
    timeline.clear()
    timeline.check()
    assert not len(timeline)
    assert timeline.available_ns(10, 0) == 10
