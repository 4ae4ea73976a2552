"""Clocks that are wrong."""

from hypothesis import given
from hypothesis import strategies as st

from clockwork.sim.clocks import Clock
from clockwork.units import SECOND

OFFSETS = st.integers(-100 * SECOND, 100 * SECOND)
DRIFTS = st.integers(-500, 500)
ELAPSED = st.integers(0, 10_000 * SECOND)


def test_a_perfect_clock_shows_true_time() -> None:
    """Nothing is translated."""
    clock = Clock(start_ns=7)
    assert clock.is_perfect
    assert (clock.local_of(1_000), clock.true_of(1_000)) == (1_000, 1_000)


@given(offset_ns=OFFSETS, drift_ppm=DRIFTS, elapsed_ns=ELAPSED)
def test_true_of_is_the_first_instant_at_which_the_clock_shows_it(
    offset_ns: int, drift_ppm: int, elapsed_ns: int
) -> None:
    """Who is woken at that instant sees a clock that has reached the wanted time, not earlier."""
    start_ns = 1_000 * SECOND
    clock = Clock(start_ns=start_ns, offset_ns=offset_ns, drift_ppm=drift_ppm)
    local_ns = clock.local_of(start_ns + elapsed_ns)
    true_ns = clock.true_of(local_ns)
    assert clock.local_of(true_ns) >= local_ns
    assert clock.local_of(true_ns - 2) < local_ns or true_ns <= start_ns + elapsed_ns


@given(first_ppm=DRIFTS, second_ppm=DRIFTS, elapsed_ns=ELAPSED)
def test_another_drift_changes_the_speed_and_not_the_time(
    first_ppm: int, second_ppm: int, elapsed_ns: int
) -> None:
    """The clock does not jump, and never goes back."""
    clock = Clock(start_ns=0, drift_ppm=first_ppm)
    before_ns = clock.local_of(elapsed_ns)
    clock.drift(second_ppm, elapsed_ns)
    assert clock.local_of(elapsed_ns) == before_ns
    assert clock.local_of(elapsed_ns + 1) >= before_ns
    later_ns = clock.local_of(elapsed_ns + SECOND) - before_ns
    assert later_ns == SECOND + SECOND * second_ppm // 1_000_000
