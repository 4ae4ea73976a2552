"""Estimates of durations."""

import pytest

from clockwork.parts.estimator import WINDOW, Estimator, percentile

# The original's checklist for a sliding window: samples, then percentiles 0, 25, 50, 75, 100.
CHECKLIST = [
    ([70], [70, 70, 70, 70, 70]),
    ([50, 70], [50, 55, 60, 65, 70]),
    ([50, 70, 90], [50, 60, 70, 80, 90]),
    ([70, 90, 110], [70, 80, 90, 100, 110]),
    ([20, 90, 110], [20, 55, 90, 100, 110]),
    ([20, 20, 110], [20, 20, 20, 65, 110]),
]


@pytest.mark.parametrize(("ordered", "expected"), CHECKLIST)
def test_percentiles_are_interpolated_linearly(ordered: list[int], expected: list[int]) -> None:
    """Percentiles of a sorted window are those of the original's own checklist."""
    assert [percentile(ordered, percent) for percent in (0, 25, 50, 75, 100)] == expected


def test_the_99th_percentile_of_ten_leans_on_the_two_largest() -> None:
    """With ten samples the estimate is 0.91 of the largest and 0.09 of the second."""
    assert percentile([100] * 8 + [200, 300], 99) == 200 + 100 * 91 // 100


def test_the_profile_is_the_estimate_before_any_measurement() -> None:
    """A new estimator promises its profile."""
    assert Estimator(5_000).estimate_ns == 5_000


def test_one_outlier_raises_the_estimate_at_most_twofold() -> None:
    """A single wild measurement cannot poison admission."""
    estimator = Estimator(1_000)
    for _ in range(WINDOW):
        estimator.add(1_000)
    estimator.add(1_000_000)
    assert 1_000 < estimator.estimate_ns <= 2_000


def test_an_outlier_is_forgotten_after_a_window() -> None:
    """Ten ordinary measurements later the estimate is what it was."""
    estimator = Estimator(1_000)
    estimator.add(1_000_000)
    for _ in range(WINDOW):
        estimator.add(1_000)
    assert estimator.estimate_ns == 1_000


def test_a_real_slow_down_is_believed_quickly() -> None:
    """Eight times slower is believed within a handful of measurements."""
    estimator = Estimator(1_000)
    for _ in range(5):
        estimator.add(8_000)
    assert estimator.estimate_ns >= 7_500


def test_a_profile_that_was_too_high_leaves_with_the_window() -> None:
    """Faster measurements take over once the profile has left the window."""
    estimator = Estimator(9_000)
    for _ in range(WINDOW):
        estimator.add(1_000)
    assert estimator.estimate_ns == 1_000


def test_doubts_end_at_the_profile() -> None:
    """An estimate that nothing confirms comes all the way back, and soon."""
    estimator = Estimator(4_000)
    for _ in range(3):
        estimator.add(16_000)
    assert estimator.is_raised
    doubts = 0
    while estimator.is_raised:
        estimator.doubt(estimator.profile_ns)
        doubts += 1
    assert (estimator.estimate_ns, doubts) == (4_000, 5)
