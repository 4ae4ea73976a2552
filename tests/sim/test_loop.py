"""Virtual time."""

import pytest

from clockwork.sim.loop import START_NS, STEPS_PER_INSTANT_MAX, Loop


def test_calls_are_made_in_the_order_of_time_then_of_entry() -> None:
    """Whatever is entered first at an instant happens first."""
    loop, made = Loop(0), list[tuple[int, str]]()

    def note(name: str) -> None:
        made.append((loop.now_ns, name))

    for when_ns, name in ((5, "a"), (3, "b"), (5, "c"), (1, "d")):
        loop.at(when_ns, note, name)
    loop.run(10)
    assert made == [(1, "d"), (3, "b"), (5, "a"), (5, "c")]
    assert (loop.now_ns, loop.step_count, len(loop)) == (10, 4, 0)


def test_what_is_due_later_waits() -> None:
    """A run ends at its instant; the rest is made by the next run."""
    loop, made = Loop(0), list[int]()
    loop.at(10, made.append, 10)
    loop.at(11, made.append, 11)
    loop.run(10)
    assert (made, loop.next_ns) == ([10], 11)
    loop.run(20)
    assert (made, loop.next_ns) == ([10, 11], None)


def test_the_past_is_now() -> None:
    """An entry for an instant that is over is made at once, and time never goes back."""
    loop, made = Loop(START_NS), list[int]()
    loop.at(START_NS - 1, made.append, 1)
    loop.run(START_NS)
    assert (made, loop.now_ns) == ([1], START_NS)


def test_a_loop_that_stands_still_is_an_error() -> None:
    """Calls that enter each other at the same instant for ever end the run."""
    loop = Loop(0)

    def again(_: None) -> None:
        loop.at(loop.now_ns, again, None)

    again(None)
    with pytest.raises(AssertionError, match=f"{STEPS_PER_INSTANT_MAX + 1} calls at 0"):
        loop.run(1)
