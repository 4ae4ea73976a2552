"""Requests that are held back while the controller is overloaded."""

from collections import deque

import pytest

from clockwork.messages.ids import ModelId
from clockwork.messages.requests import OVERLOADED, InferResponse
from clockwork.messages.status import Status
from clockwork.parts.throttle import CALM_NS, PASSED_FACTOR, RENEW_NS, Throttle
from clockwork.units import MS, SECOND

STEP_NS = 1 * MS // 10
SLO_NS = 100 * MS


def answer(*, is_overload: bool) -> InferResponse:
    """Return a success, or what an overloaded controller says."""
    if is_overload:
        return InferResponse(0, Status.COULD_NOT_START_IN_TIME, OVERLOADED, ModelId(0), 0, 0, False)
    return InferResponse(0, Status.SUCCESS, "", ModelId(0), 1, 0, False)


def offer(
    throttle: Throttle, begin_ns: int, duration_ns: int, *, taken_on_per_s: int
) -> tuple[int, int]:
    """Ask 10,000 times a second; return how many passed and how many were taken on."""
    passed = taken_on = 0
    room = 0.0
    for now_ns in range(begin_ns, begin_ns + duration_ns, STEP_NS):
        room = min(room + taken_on_per_s * STEP_NS / SECOND, 1.0)
        if throttle.refuses(now_ns):
            continue
        passed += 1
        is_overload = room < 1.0
        if not is_overload:
            room -= 1.0
            taken_on += 1
        throttle.note(answer(is_overload=is_overload), is_late=False)
    return passed, taken_on


def test_nothing_is_refused_while_nobody_is_overloaded() -> None:
    """Answers that are missing, or refusals for other reasons, hold nothing back."""
    throttle = Throttle()
    other = InferResponse(
        0, Status.COULD_NOT_START_IN_TIME, "no GPU is free in time", ModelId(0), 0, 0, False
    )
    for now_ns in range(0, SECOND, STEP_NS):
        assert not throttle.refuses(now_ns)
        throttle.note(other, is_late=False)
    assert throttle.share == 0.0


def test_little_more_passes_than_is_taken_on() -> None:
    """At four times what the controller takes on, three quarters are refused here."""
    throttle = Throttle()
    offer(throttle, 0, SECOND, taken_on_per_s=2_500)
    passed, taken_on = offer(throttle, SECOND, 4 * SECOND, taken_on_per_s=2_500)
    assert taken_on > 0.8 * 10_000
    assert taken_on < passed < (PASSED_FACTOR + 0.05) * taken_on


def test_a_controller_that_recovered_gets_everything_again() -> None:
    """Soon after the last overload nothing is refused."""
    throttle = Throttle()
    offer(throttle, 0, SECOND, taken_on_per_s=2_500)
    assert throttle.share > 0.5
    offer(throttle, SECOND, CALM_NS + SECOND, taken_on_per_s=10_000)
    passed, _ = offer(throttle, 3 * SECOND, SECOND, taken_on_per_s=10_000)
    assert passed == 10_000


def test_a_pause_makes_it_forget() -> None:
    """After a long silence the first requests pass, whatever was before."""
    throttle = Throttle()
    offer(throttle, 0, SECOND, taken_on_per_s=100)
    assert not throttle.refuses(SECOND + 200 * RENEW_NS)
    assert throttle.share == 0.0


def test_a_hiccup_of_the_controller_holds_nothing_back() -> None:
    """A handful of overloads says that its machine was busy for a moment."""
    throttle = Throttle()
    for turn, now_ns in enumerate(range(0, SECOND, STEP_NS)):
        assert not throttle.refuses(now_ns)
        throttle.note(answer(is_overload=5_000 <= turn < 5_020), is_late=False)


def in_time_through_a_pipe(throttle: Throttle | None, *, seconds: int, per_s: int) -> float:
    """Ask 10,000 times a second through a pipe that carries less; return the part in time.

    The pipe drops nothing: what it cannot carry waits, and everything behind it.
    """
    waiting: deque[int] = deque()
    in_time = 0
    room = 0.0
    for now_ns in range(0, seconds * SECOND, STEP_NS):
        if throttle is None or not throttle.refuses(now_ns):
            waiting.append(now_ns)
        room = min(room + per_s * STEP_NS / SECOND, 2.0)
        if room >= 1.0 and waiting:
            room -= 1.0
            is_late = now_ns - waiting.popleft() > SLO_NS
            in_time += not is_late
            if throttle is not None:
                throttle.note(answer(is_overload=False), is_late=is_late)
    return in_time / (seconds * per_s)


@pytest.mark.parametrize("per_s", [9_800, 7_000, 5_000, 2_500, 1_000])
def test_answers_that_come_late_hold_requests_back(per_s: int) -> None:
    """Where requests wait unseen, without a refusal, most of what can be carried is in time."""
    assert in_time_through_a_pipe(None, seconds=20, per_s=per_s) < 0.3
    assert in_time_through_a_pipe(Throttle(), seconds=20, per_s=per_s) > 0.6
