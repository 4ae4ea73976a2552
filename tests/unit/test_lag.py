"""The histogram of event-loop lag."""

import random

from clockwork.telemetry.lag import PAUSE_NS, LagHistogram
from clockwork.units import MS, US


def test_percentiles_are_right_to_an_eighth() -> None:
    """A percentile is at least the true value, and at most an eighth above it."""
    rng = random.Random(1)
    lags = sorted(int(rng.lognormvariate(11, 2)) for _ in range(5_000))
    histogram = LagHistogram()
    for lag_ns in lags:
        histogram.add(lag_ns)
    for percent in (1, 50, 90, 99, 99.9):
        true_ns = lags[max(0, -(-int(percent * 100) * len(lags) // 10_000) - 1)]
        assert true_ns <= histogram.percentile_ns(percent) <= true_ns * 9 / 8 + 1
    assert histogram.max_ns == lags[-1] == histogram.percentile_ns(100)


def test_small_and_huge_lags_have_a_bucket() -> None:
    """Every lag from nothing to 63 bits can be counted."""
    for lag_ns in [*range(64), 2**40, 2**62 + 1, 2**63 - 1]:
        histogram = LagHistogram()
        histogram.add(lag_ns)
        assert histogram.percentile_ns(50) == lag_ns == histogram.max_ns


def test_timers_that_come_early_have_no_lag() -> None:
    """A negative lag counts as zero."""
    histogram = LagHistogram()
    histogram.add(-5)
    assert (histogram.count, histogram.max_ns) == (1, 0)


def test_pauses_are_counted() -> None:
    """Lags above the limit are counted as pauses, and the line shows all figures."""
    histogram = LagHistogram()
    for lag_ns in (100 * US, PAUSE_NS, PAUSE_NS + 1, 20 * MS):
        histogram.add(lag_ns)
    assert histogram.pauses == 2
    assert histogram.line() == "Event loop lag p50=5.24 p99=20.00 max=20.00 pauses=2"


def test_an_empty_histogram_has_zeros() -> None:
    """Without lags all figures are zero, also after a reset."""
    histogram = LagHistogram()
    histogram.add(MS)
    histogram.reset()
    assert histogram.line() == "Event loop lag p50=0.00 p99=0.00 max=0.00 pauses=0"
