"""Replays: rates follow the counts, work is carried over, totals and phases are right."""

from array import array
from bisect import bisect
from collections import Counter
from random import Random
from statistics import fmean

import pytest

from clockwork.client.arrivals import Source, source_of
from clockwork.client.workload import Recorded, TraceReplay
from clockwork.units import FOREVER_NS, MINUTE, SECOND


class Scripted(Random):
    """A generator whose exponentials are given."""

    def __init__(self, *exponentials: float) -> None:
        super().__init__(0)
        self.exponentials = list(exponentials)

    def expovariate(self, lambd: float = 1.0) -> float:
        """Return the next one of the script."""
        return self.exponentials.pop(0) if self.exponentials else 1e9


def started(spec: TraceReplay | Recorded, rng: Random, at_ns: int = 0) -> Source:
    """Return a source that was started."""
    source = source_of(spec, rng)
    source.start(at_ns)
    return source


def taken(source: Source, until_ns: int) -> list[int]:
    """Return the arrivals until an instant."""
    found = []
    while source.next_ns < until_ns:
        found.append(source.next_ns)
        source.advance()
    return found


def test_work_is_carried_over_boundaries_exactly() -> None:
    """An exponential of 2.5 is worked off at 1, 0, 2 and 4 per minute in four minutes."""
    spec = TraceReplay(counts=(1, 0, 2, 4), interval_ns=MINUTE)
    # 1 in the first minute, nothing in the second, 1.5 of 2 in the third.
    source = started(spec, Scripted(2.5, 0.5, 1.0))
    assert taken(source, 4 * MINUTE) == [
        2 * MINUTE + MINUTE * 3 // 4,
        3 * MINUTE,
        3 * MINUTE + MINUTE // 4,
    ]


def test_a_replay_wraps_to_its_first_interval() -> None:
    """After the last interval comes the first."""
    source = started(TraceReplay(counts=(0, 6)), Scripted(6.5, 5.75))
    assert source.next_ns == 3 * MINUTE + 5 * SECOND
    source.advance()
    assert source.next_ns == 5 * MINUTE + 5 * SECOND // 2


def test_a_rare_function_leaps_over_whole_passes() -> None:
    """A gap of a million passes is found without walking through them."""
    spec = TraceReplay(counts=(0, 1), scale=1e-6)
    # Two million passes, and half of the busy minute of the next one.
    first = started(spec, Scripted(2 + 0.5e-6)).next_ns
    assert first == pytest.approx((2 * 2_000_000 + 1.5) * MINUTE, abs=10)


def test_counts_are_per_minute_whatever_the_interval() -> None:
    """Intervals of a second with counts of 600 have 10 arrivals each."""
    spec = TraceReplay(counts=(600,) * 100, interval_ns=SECOND)
    assert len(taken(started(spec, Random(2)), 100 * SECOND)) == pytest.approx(1000, rel=0.1)


def test_arrivals_follow_the_counts_of_their_intervals() -> None:
    """Each interval has its expected number of arrivals over many passes."""
    counts = (60, 0, 600, 6)
    times = taken(started(TraceReplay(counts=counts), Random(7)), 4000 * MINUTE)
    per_interval = Counter(time // MINUTE % 4 for time in times)
    for index, count in enumerate(counts):
        assert per_interval[index] / 1000 == pytest.approx(count, rel=0.05)


def test_a_single_pass_ends() -> None:
    """A replay that does not wrap has ended after its last interval."""
    source = started(TraceReplay(counts=(100, 100), once=True), Random(1))
    times = taken(source, FOREVER_NS)
    assert source.has_ended
    assert times[-1] < 2 * MINUTE
    assert len(times) == pytest.approx(200, rel=0.2)


def test_a_silent_trace_has_ended_before_it_starts() -> None:
    """Counts of zero alone never send and never loop."""
    for exact in (False, True):
        source = started(TraceReplay(counts=(0, 0), exact=exact), Random(1))
        assert source.has_ended
        assert source.next_ns == FOREVER_NS


def test_an_unset_start_is_uniform_over_the_trace() -> None:
    """Functions start in any interval, and anywhere within it."""
    counts = (6000, 0, 0, 0)
    firsts = [
        started(TraceReplay(counts=counts, start=None), Random(seed)).next_ns
        for seed in range(2000)
    ]
    # A quarter starts within the busy minute; the others wait for up to three minutes.
    assert sum(first < SECOND for first in firsts) / 2000 == pytest.approx(0.25, abs=0.03)
    waits = [first / MINUTE for first in firsts if first >= SECOND]
    assert fmean(waits) == pytest.approx(1.5, rel=0.05)
    quarters = Counter(bisect((0.75, 1.5, 2.25), wait) for wait in waits)
    assert all(
        quarters[quarter] / len(waits) == pytest.approx(0.25, abs=0.04) for quarter in range(4)
    )


def test_a_replay_may_start_at_an_interval() -> None:
    """The given interval is the first to be played."""
    source = started(TraceReplay(counts=(0, 0, 60), start=2), Random(1))
    assert source.next_ns < MINUTE


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_an_exact_replay_has_the_counts_of_its_intervals(scale: float) -> None:
    """Every interval has its scaled count; fractions are made up for in the next ones."""
    counts = array("I", [5, 0, 17, 1, 0, 3] * 50)
    times = taken(
        started(TraceReplay(counts=counts, scale=scale, exact=True, once=True), Random(3)),
        FOREVER_NS,
    )
    assert times == sorted(times)
    assert abs(len(times) - sum(counts) * scale) < 1
    per_interval = Counter(time // MINUTE for time in times)
    for index, count in enumerate(counts):
        assert abs(per_interval[index] - count * scale) <= 1


def test_exact_replays_of_rare_functions_have_the_right_mean() -> None:
    """A function with a tenth of a call in expectation is called once by a tenth of all seeds."""
    spec = TraceReplay(counts=(1, 0), scale=0.1, exact=True, once=True)
    calls = [len(taken(started(spec, Random(seed)), FOREVER_NS)) for seed in range(2000)]
    assert set(calls) == {0, 1}
    assert fmean(calls) == pytest.approx(0.1, abs=0.02)


def test_an_exact_replay_of_a_rare_function_leaps_over_passes() -> None:
    """Millions of passes without an arrival cost nothing."""
    spec = TraceReplay(counts=(0, 1), scale=1e-9, exact=True)
    first = started(spec, Random(1)).next_ns
    assert first > 2 * MINUTE * 10_000_000
    assert first % (2 * MINUTE) >= MINUTE


def test_a_tuned_replay_has_the_new_rate_at_once() -> None:
    """A silent scale becomes a loud one in the middle of an interval."""
    source = started(TraceReplay(counts=(1, 2, 3), scale=0.001), Random(1))
    assert source.next_ns > MINUTE
    source.tune(100.0, 30 * SECOND)  # type: ignore[attr-defined]
    times = taken(source, 3 * MINUTE)
    assert times[0] >= 30 * SECOND
    per_interval = Counter(time // MINUTE for time in times)
    assert per_interval[0] == pytest.approx(50, rel=0.4)
    assert per_interval[1] == pytest.approx(200, rel=0.2)
    assert per_interval[2] == pytest.approx(300, rel=0.2)


def test_tuning_an_exact_replay_counts_from_the_next_interval() -> None:
    """The interval that has begun keeps its count."""
    source = started(TraceReplay(counts=(10, 10), exact=True), Random(1))
    source.tune(3.0, 0)  # type: ignore[attr-defined]
    per_interval = Counter(time // MINUTE for time in taken(source, 2 * MINUTE))
    assert per_interval == {0: 10, 1: 30}


def test_recorded_arrivals_are_played_as_they_were() -> None:
    """Offsets are kept to the nanosecond, pass after pass."""
    spec = Recorded(offsets_ns=(5, 5, 80), period_ns=100)
    assert taken(started(spec, Random(1), at_ns=1000), 1200) == [
        1005,
        1005,
        1080,
        1105,
        1105,
        1180,
    ]


def test_recorded_arrivals_end_after_a_single_pass() -> None:
    """A single pass has each arrival once."""
    source = started(Recorded(offsets_ns=(5, 80), period_ns=100, once=True), Random(1))
    assert taken(source, FOREVER_NS) == [5, 80]
    assert source.has_ended


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_scaled_recordings_have_the_mean_number_of_copies(scale: float) -> None:
    """Arrivals are dropped or repeated at random so that the mean is right."""
    offsets = tuple(range(0, 100_000, 10))
    spec = Recorded(offsets_ns=offsets, period_ns=100_000, scale=scale, once=True)
    times = taken(started(spec, Random(1)), FOREVER_NS)
    assert len(times) == pytest.approx(10_000 * scale, rel=0.05)
    assert set(times) <= set(offsets)


def test_tuning_a_recording_changes_its_copies() -> None:
    """A scale of zero ends the run at the end of the pass, another repeats arrivals."""
    source = started(Recorded(offsets_ns=(1, 2, 3), period_ns=10), Random(1))
    source.tune(2.0, 0)  # type: ignore[attr-defined]
    assert taken(source, 10) == [1, 2, 2, 3, 3]
    source.tune(0.0, 10)  # type: ignore[attr-defined]
    taken(source, 100)
    assert source.has_ended
