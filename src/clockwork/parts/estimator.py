"""Estimates a duration from its last measurements: a window of 10, its 99th percentile.

The rule for new evidence: the profile is the window's first sample, so measurements take over
gently, and a measurement above twice the current estimate counts as twice the estimate. One
outlier therefore raises an estimate at most twofold and is forgotten ten measurements later, while
a real slow-down is believed within log2 of its size.

An estimate that is too high may keep the very requests away that would correct it. Who holds one
that nothing confirms any more has to `doubt` it.

Source: clockwork 4.7 (window percentile, linear interpolation); the original forgets the profile
at the first measurement and takes outliers at face value.
"""

from array import array
from typing import Final

WINDOW: Final = 10
"""Measurements that count (original)."""
PERCENT: Final = 99
"""The percentile that is promised (original)."""
OUTLIER_RATIO: Final = 2
"""A measurement counts as at most this many times the estimate (chosen, see above)."""
RAISED_PERCENT: Final = 110
"""Of the profile: from here on an estimate may cost requests that could be met (chosen; at 125, a
device that had been a fifth too slow for a second was refused work with tight SLOs for ever)."""


def percentile(ordered: list[int], percent: int) -> int:
    """Return the percentile of a non-empty ascending list, interpolated linearly, rounded down."""
    index, hundredths = divmod(percent * (len(ordered) - 1), 100)
    below = ordered[index]
    if not hundredths:
        return below
    return below + (ordered[index + 1] - below) * hundredths // 100


class Estimator:
    """The expected duration of one kind of task; read `estimate_ns`, feed `add`.

    There is one per model, GPU and batch size, so that most are never measured: these keep no
    window: with thousands of models, most of what a request looks at is not in the processor's
    cache, so that memory is time.
    """

    __slots__ = ("_oldest", "_recent", "_second_ns", "estimate_ns", "profile_ns")

    def __init__(self, profile_ns: int) -> None:
        assert profile_ns > 0, f"profile must be positive: {profile_ns}"
        # What was expected before anything was measured.
        self.profile_ns = profile_ns
        # The expected duration now.
        self.estimate_ns = profile_ns
        # The samples in the window, a ring once it is full; None: just the estimate.
        self._recent: array[int] | None = None
        # Position of the oldest sample in a full window.
        self._oldest = 0
        # The largest sample but one.
        self._second_ns = 0

    def add(self, measured_ns: int) -> None:
        """Take in one measurement and renew the estimate."""
        estimate_ns, recent = self.estimate_ns, self._recent
        sample = measured_ns if measured_ns > 0 else 1
        if sample > estimate_ns * OUTLIER_RATIO:
            sample = estimate_ns * OUTLIER_RATIO
        if recent is None:
            self._recent = recent = array("q", (estimate_ns, sample))
            self._oldest = 0
        elif len(recent) < WINDOW:
            recent.append(sample)
        else:
            oldest = self._oldest
            leaving = recent[oldest]
            recent[oldest] = sample
            self._oldest = oldest + 1 if oldest + 1 < WINDOW else 0
            second_ns = self._second_ns
            if leaving == sample or (leaving < second_ns and sample <= second_ns):
                # The two largest stay, and nothing else counts: two of three samples end here.
                return
        ordered = sorted(recent)
        self._second_ns = ordered[-2]
        self.estimate_ns = percentile(ordered, PERCENT)

    def expect(self, estimate_ns: int) -> None:
        """Take over an estimate that was made elsewhere; doubts still go back to the profile."""
        self.estimate_ns = max(estimate_ns, 1)
        self._recent = None

    @property
    def is_raised(self) -> bool:
        """True if much more is expected than the profile says."""
        return self.estimate_ns > self.profile_ns * RAISED_PERCENT // 100

    def doubt(self, normal_ns: int) -> None:
        """Forget half of what exceeds the normal: nothing has confirmed it for a while.

        What is little more than the normal is forgotten whole: a tight SLO may lie in between.

        Args:
            normal_ns: what to expect instead, at least the profile.
        """
        excess_ns = self.estimate_ns - normal_ns
        if excess_ns > 0:
            half_ns = excess_ns // 2
            is_little = half_ns <= normal_ns * (RAISED_PERCENT - 100) // 100
            self.estimate_ns = normal_ns if is_little else normal_ns + half_ns
            self._recent = None
