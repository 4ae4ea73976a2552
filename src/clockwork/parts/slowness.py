"""How much longer than profiled a device takes lately, in thousandths of the profile.

Each measurement is compared with its own profile, so that all models and batch sizes of a device
tell about it. The answer is what four of five measurements stay below: it rises by a quarter of a
difference and falls by a sixteenth. A measurement counts as at most twice what was expected: one
stall is soon forgotten, a device that is really slower is believed within some measurements.

Why: an estimate that is not measured any more has to be doubted (`controller/policies/ageing.py`),
and its profile is no good guess for a device on which everything else takes longer.
"""

from typing import Final

AS_PROFILED: Final = 1_000
"""A device that takes as long as profiled."""
RISE_SHARE: Final = 4
FALL_SHARE: Final = 16
"""What part of a difference is taken over (chosen, see above)."""
OUTLIER_RATIO: Final = 2
"""A measurement counts as at most this many times what was expected (chosen)."""
TRUSTED: Final = 1_150
"""Up to here it may be mere noise, and a profile is still the best guess (chosen: durations that
vary by a tenth come to 1,110)."""


class Slowness:
    """Feed `add`, ask `normal_ns`, and `doubt` it regularly; never less than as profiled."""

    __slots__ = ("_is_fresh", "_permille")

    def __init__(self) -> None:
        self._permille = AS_PROFILED
        # True if something was measured since the last `doubt`.
        self._is_fresh = False

    def add(self, measured_ns: int, profile_ns: int) -> None:
        """Take in a measurement of something with a (positive) profile."""
        permille = self._permille
        self._is_fresh = True
        sample = min(measured_ns * AS_PROFILED // profile_ns, permille * OUTLIER_RATIO)
        share = RISE_SHARE if sample > permille else FALL_SHARE
        self._permille = max(permille + (sample - permille) // share, AS_PROFILED)

    def normal_ns(self, profile_ns: int) -> int:
        """Return what something with a profile should take now."""
        permille = self._permille
        return profile_ns if permille <= TRUSTED else profile_ns * permille // AS_PROFILED

    def doubt(self) -> None:
        """Forget half of it if nothing was measured since the last time."""
        if not self._is_fresh:
            self._permille = AS_PROFILED + (self._permille - AS_PROFILED) // 2
        self._is_fresh = False
