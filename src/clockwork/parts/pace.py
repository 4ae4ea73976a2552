"""How often something may be done: on average at most once per gap, at once after a rest.

Why: waking up costs a live process some 40 us (system calls, the loop, small writes), whatever it
then does. When events are rare each is handled at once; when they are many, one wake-up serves
several.

Invariants: the next time is never more than one gap after the last; over any stretch there are at
most `stretch / gap + CREDIT` times.
"""

from typing import Final

CREDIT: Final = 4
"""Times that may follow each other without a gap after a rest; chosen."""


class Pace:
    """Spaces out wake-ups."""

    __slots__ = ("_gap_ns", "_rest_ns", "next_ns")

    def __init__(self, gap_ns: int) -> None:
        """Allow the first time at once; a gap of 0 limits nothing."""
        self._gap_ns = gap_ns
        self._rest_ns = CREDIT * gap_ns
        # Before this instant it should not be done again.
        self.next_ns = 0

    def note(self, now_ns: int) -> None:
        """Take in that it was done, whether it was time or not."""
        next_ns = max(self.next_ns, now_ns - self._rest_ns) + self._gap_ns
        self.next_ns = min(next_ns, now_ns + self._gap_ns)
