"""How much earlier than needed an alarm is set, so that who sleeps is awake in time.

Why: waking a processor that sleeps takes some 20 us on real machines and 60 to 140 on virtual ones,
and none if it is awake. Who has to be exact sets the alarm earlier by what it mostly takes, and
waits out the rest. The lead follows the lower quartile of what waking took: an alarm out of four
comes early, so little time is waited out, and a busy process, which wakes at once, hardly waits.

Invariant: 0 <= `lead_ns` <= `LEAD_MAX_NS`.

Source: stochastic approximation of a quantile (Robbins and Monro, 1951), with constant steps.
"""

from typing import Final

from clockwork.units import US

LEAD_MAX_NS: Final = 100 * US
"""More is never waited out; chosen: a third of what emulated devices promise."""
UP_NS: Final = 1 * US
"""Step after an alarm that came late. Chosen: 100 alarms reach the longest lead."""
DOWN_NS: Final = 3 * UP_NS
"""Step after one that came early: both balance when one out of four does."""


class WakeLead:
    """Learns from how early or late alarms are."""

    __slots__ = ("lead_ns",)

    def __init__(self) -> None:
        """Begin without a lead."""
        self.lead_ns = 0

    def note(self, late_ns: int) -> None:
        """Take in how late after the instant itself (negative: before it) an alarm came."""
        if late_ns < 0:
            self.lead_ns = max(self.lead_ns - DOWN_NS, 0)
        elif self.lead_ns < LEAD_MAX_NS:
            self.lead_ns += UP_NS
