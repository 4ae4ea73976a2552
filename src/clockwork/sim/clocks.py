"""Clocks of simulated processes: true time plus an offset that drifts.

Invariants: a clock never runs backwards, and `true_of` gives the first true instant at which the
clock shows at least the wanted one.

Units: drift in parts per million; a good quartz has 20, a bad one 200.
"""

from typing import Final

MILLION: Final = 1_000_000


class Clock:
    """One process's clock."""

    __slots__ = ("_base_local_ns", "_base_true_ns", "_drift_ppm", "is_perfect")

    def __init__(self, *, start_ns: int, offset_ns: int = 0, drift_ppm: int = 0) -> None:
        """Begin at true instant `start_ns` with an offset."""
        assert abs(drift_ppm) < MILLION, f"a drift of {drift_ppm} ppm stops the clock"
        self._base_true_ns = start_ns
        self._base_local_ns = start_ns + offset_ns
        self._drift_ppm = drift_ppm
        # True while it shows true time: the border then has nothing to translate.
        self.is_perfect = not offset_ns and not drift_ppm

    def local_of(self, true_ns: int) -> int:
        """Return what the clock shows at a true instant."""
        if self.is_perfect:
            return true_ns
        elapsed_ns = true_ns - self._base_true_ns
        return self._base_local_ns + elapsed_ns + elapsed_ns * self._drift_ppm // MILLION

    def true_of(self, local_ns: int) -> int:
        """Return the first true instant at which the clock shows `local_ns` or more."""
        if self.is_perfect:
            return local_ns
        elapsed_ns = local_ns - self._base_local_ns
        true_ns = self._base_true_ns + elapsed_ns * MILLION // (MILLION + self._drift_ppm)
        while self.local_of(true_ns) < local_ns:
            true_ns += 1
        return true_ns

    def drift(self, drift_ppm: int, true_ns: int) -> None:
        """Drift at another speed from true instant `true_ns` on; what it shows does not jump."""
        self._base_local_ns = self.local_of(true_ns)
        self._base_true_ns = true_ns
        self._drift_ppm = drift_ppm
        self.is_perfect = self.is_perfect and not drift_ppm
