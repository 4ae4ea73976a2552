"""How late an event loop runs what it had promised for an instant: a histogram of lag.

Why: a pause of the controller delays every request, and only a histogram tells a rare pause of
20 ms from a steady lag of 0.1 ms. A shell asks for a timer every few milliseconds and adds how
late it came.

Invariants: buckets grow by at most an eighth, so percentiles are right to 12.5 %; the maximum is
exact. Adding costs one increment; memory is fixed.
"""

from typing import Final

from clockwork.units import MS

PAUSE_NS: Final = 5 * MS
"""A lag above this is counted as a pause: what the controller must not do under load."""

_STEPS_BITS: Final = 3
_STEPS: Final = 1 << _STEPS_BITS
# Values of up to 63 bits: eight steps for each power of two above the first eight values.
_BUCKETS: Final = (64 - _STEPS_BITS) * _STEPS


class LagHistogram:
    """Counts of lags in buckets that grow with the lag."""

    __slots__ = ("_counts", "count", "max_ns", "pauses")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._counts = [0] * _BUCKETS
        # Lags added.
        self.count = 0
        # The largest lag added; 0 without one.
        self.max_ns = 0
        # Lags above `PAUSE_NS`.
        self.pauses = 0

    def add(self, lag_ns: int) -> None:
        """Count one lag; a timer that came early counts as one without lag."""
        if lag_ns < 0:
            lag_ns = 0
        self._counts[_bucket(lag_ns)] += 1
        self.count += 1
        if lag_ns > self.max_ns:
            self.max_ns = lag_ns
        if lag_ns > PAUSE_NS:
            self.pauses += 1

    def percentile_ns(self, percent: float) -> int:
        """Return a lag that `percent` (0 to 100) of the lags do not exceed; 0 without any."""
        wanted = percent / 100 * self.count
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_largest_ns(bucket), self.max_ns)
        return self.max_ns

    def line(self) -> str:
        """Return the console's line, times in milliseconds."""
        return (
            f"Event loop lag p50={self.percentile_ns(50) / MS:.2f}"
            f" p99={self.percentile_ns(99) / MS:.2f} max={self.max_ns / MS:.2f}"
            f" pauses={self.pauses}"
        )


def _bucket(lag_ns: int) -> int:
    """Return the index: values below 16 have their own, then eight per power of two."""
    shift = max(lag_ns.bit_length() - _STEPS_BITS - 1, 0)
    return shift * _STEPS + (lag_ns >> shift)


def _largest_ns(bucket: int) -> int:
    """Return the largest lag that falls into a bucket."""
    shift = max(bucket // _STEPS - 1, 0)
    return ((bucket - shift * _STEPS + 1) << shift) - 1
