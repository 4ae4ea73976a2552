"""Estimates against their rule spelled out."""

from hypothesis import given
from hypothesis import strategies as st

from clockwork.parts.estimator import OUTLIER_RATIO, PERCENT, WINDOW, Estimator, percentile


@given(
    profile_ns=st.integers(1, 40),
    measured_ns=st.lists(st.integers(0, 40), max_size=60),
)
def test_an_estimate_is_the_percentile_of_its_window(
    profile_ns: int, measured_ns: list[int]
) -> None:
    """What spares a look at the whole window never changes the result, ties included."""
    estimator, window, expected_ns = Estimator(profile_ns), [profile_ns], profile_ns
    for sample_ns in measured_ns:
        window.append(min(max(sample_ns, 1), OUTLIER_RATIO * expected_ns))
        window = window[-WINDOW:]
        expected_ns = percentile(sorted(window), PERCENT)
        estimator.add(sample_ns)
        assert estimator.estimate_ns == expected_ns
