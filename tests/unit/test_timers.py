"""The heap of instants."""

from clockwork.parts.timers import Timers, earliest_ns


def test_items_come_due_in_order_of_time_then_of_setting() -> None:
    """Equal instants keep the order in which they were set."""
    timers: Timers[str] = Timers()
    for when_ns, item in ((5, "b"), (3, "a"), (5, "c")):
        timers.set(when_ns, item)
    assert timers.next_ns == 3
    assert timers.first == (3, "a")
    assert [timers.pop_due(5) for _ in range(4)] == ["a", "b", "c", None]


def test_nothing_is_due_early() -> None:
    """An item stays until its instant."""
    timers: Timers[str] = Timers()
    timers.set(5, "a")
    assert timers.pop_due(4) is None
    assert len(timers) == 1
    assert timers.pop_due(5) == "a"
    assert timers.next_ns is None
    assert timers.first is None


def test_the_earliest_instant_leaves_out_those_that_never_come() -> None:
    """None means never."""
    assert earliest_ns(None, 5, 3, None, 4) == 3
    assert earliest_ns(None, None) is None
    assert earliest_ns() is None
