"""A heap of instants at which something is to be looked at.

Entries are never removed early: who set one checks at the time whether it still matters, which is
cheaper than finding it in the heap. `sequence` breaks ties in the order of setting.
"""

from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class Timers(Generic[T]):
    """Items by the instant at which they are due."""

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_ns(self) -> int | None:
        """The earliest instant that is set, or None."""
        return self._heap[0][0] if self._heap else None

    @property
    def first(self) -> tuple[int, T] | None:
        """The earliest instant that is set and its item, or None."""
        if not self._heap:
            return None
        when_ns, _, item = self._heap[0]
        return when_ns, item

    def set(self, when_ns: int, item: T) -> None:
        """Have `item` come due at `when_ns`."""
        self._sequence += 1
        heappush(self._heap, (when_ns, self._sequence, item))

    def pop_due(self, now_ns: int) -> T | None:
        """Remove and return the next item that is due by `now_ns`, or None."""
        if self._heap and self._heap[0][0] <= now_ns:
            return heappop(self._heap)[2]
        return None


def earliest_ns(*times: int | None) -> int | None:
    """Return the earliest of some instants, leaving out those that are None.

    A third of the time of `min` over a generator (measured); roles ask after every step.
    """
    earliest: int | None = None
    for when_ns in times:
        if when_ns is not None and (earliest is None or when_ns < earliest):
            earliest = when_ns
    return earliest
