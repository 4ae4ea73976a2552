"""Predicts how long an action travels to its worker, from how long the last ones did.

A base that any message needs (high percentile of recent small ones) plus a cost per byte (decaying
mean of what large ones took beyond the base). This replaces the original's fixed 1 ms and its rule
of two sends at once (clockwork 4.7).
"""

from typing import Final

from clockwork.units import MS, US

INITIAL_NS: Final = 1 * MS
"""Before anything was measured (the original's constant)."""
FLOOR_NS: Final = 50 * US
"""Never promise less: a wake-up of the receiving process costs this much (measured)."""
CEILING_NS: Final = 20 * MS
"""Never allow more: a stalled peer must not push every start out of reach (chosen)."""
LARGE_BYTES: Final = 65_536
"""Messages from this size on tell something about bandwidth (chosen)."""


class SendLatency:
    """The network path to one worker."""

    __slots__ = ("base_ns", "is_fresh", "per_mib_ns")

    def __init__(self) -> None:
        # Rises at once to a slower message and decays by an eighth per faster one, which follows
        # a high percentile without keeping a window.
        self.base_ns = INITIAL_NS
        self.per_mib_ns = 0
        # True if something was measured since the last `doubt`.
        self.is_fresh = False

    def estimate_ns(self, size_bytes: int) -> int:
        """Return how long a message with a payload of `size_bytes` will travel."""
        return self.base_ns + (self.per_mib_ns * size_bytes >> 20)

    def add(self, *, size_bytes: int, taken_ns: int) -> None:
        """Take in how long one message took."""
        self.is_fresh = True
        if size_bytes >= LARGE_BYTES:
            if taken_ns < self.base_ns:
                # Even with its bytes it took less than any message should need.
                self.base_ns += (max(taken_ns, FLOOR_NS) - self.base_ns) >> 3
            beyond_ns = min(max(taken_ns - self.base_ns, 0), CEILING_NS)
            measured = (beyond_ns << 20) // size_bytes
            self.per_mib_ns += (measured - self.per_mib_ns) >> 3
            # Faster than a small one should be: without this, workers that only get large inputs
            # would be planned with the first guess for ever.
            self.base_ns -= max(self.base_ns - max(taken_ns, FLOOR_NS), 0) >> 3
            return
        taken_ns = min(max(taken_ns, FLOOR_NS), CEILING_NS)
        if taken_ns > self.base_ns:
            # Half of the way up: one late wake-up is no new normal.
            self.base_ns = (self.base_ns + taken_ns) >> 1
        else:
            self.base_ns += (taken_ns - self.base_ns) >> 3

    def doubt(self) -> None:
        """Forget half of what exceeds the first guess, unless something was measured since.

        A high estimate keeps the very messages away that would correct it.
        """
        if not self.is_fresh:
            self.base_ns -= max(self.base_ns - INITIAL_NS, 0) >> 1
            self.per_mib_ns >>= 1
        self.is_fresh = False
