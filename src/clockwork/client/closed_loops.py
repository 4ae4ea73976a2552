"""Closed loops: a fixed number of requests in flight, each answer makes place for the next.

A loop has `concurrency` places. A place is either in flight, or ready from some instant on (at
once after a success; the holder may say later after a failure, see `client.core`).

Source: clockwork SPEC 7.2. The original's request limit counted from the first answer and wrapped
below zero, so that a limited loop sent more than it was told, some of them without end; here
exactly `requests` are sent.
"""

from heapq import heappop, heappush
from random import Random

from clockwork.client.workload import BurstyClosed, ClosedLoop
from clockwork.units import FOREVER_NS


class ClosedLoopSource:
    """A plain closed loop."""

    __slots__ = ("_places", "_unsent", "next_ns")

    def __init__(self, spec: ClosedLoop) -> None:
        self.next_ns = FOREVER_NS
        # Requests that may still be sent; negative: no limit, and it only falls further.
        self._unsent = -1 if spec.requests is None else spec.requests
        # A heap of the instants from which places are ready. Before the start it has the places
        # with offset 0.
        self._places = [0] * spec.concurrency

    @property
    def has_ended(self) -> bool:
        """True if there will never be another request."""
        return self._unsent == 0

    def start(self, now_ns: int) -> None:
        """Make all places ready at `now_ns`."""
        self._places = [now_ns] * len(self._places)
        self._look()

    def advance(self) -> None:
        """Put the place that is ready first in flight."""
        heappop(self._places)
        self._unsent -= 1
        self._look()

    def on_answer(self, ready_ns: int) -> None:
        """Give a place back, ready from `ready_ns` on."""
        heappush(self._places, ready_ns)
        self._look()

    def _look(self) -> None:
        self.next_ns = self._places[0] if self._places and self._unsent else FOREVER_NS


class BurstyClosedSource:
    """A closed loop that puts nothing in flight between bursts; it starts in a burst."""

    __slots__ = ("_burst_from_ns", "_burst_ns", "_burst_to_ns", "_idle_ns", "_places", "_rng")

    has_ended = False

    def __init__(self, spec: BurstyClosed, rng: Random) -> None:
        self._rng = rng
        self._burst_ns = spec.burst_ns
        self._idle_ns = spec.idle_ns
        self._places = [0] * spec.concurrency
        # The current burst is [from, to).
        self._burst_from_ns = 0
        self._burst_to_ns = 0

    @property
    def next_ns(self) -> int:
        """When the next place is ready and a burst is on; FOREVER_NS: all are in flight."""
        if not self._places:
            return FOREVER_NS
        ready_ns = self._places[0]
        while ready_ns >= self._burst_to_ns:
            self._begin_burst(self._burst_to_ns + self._draw(self._idle_ns))
        return max(ready_ns, self._burst_from_ns)

    def start(self, now_ns: int) -> None:
        """Make all places ready at `now_ns`, in the first burst."""
        self._places = [now_ns] * len(self._places)
        self._begin_burst(now_ns)

    def advance(self) -> None:
        """Put the place that is ready first in flight."""
        heappop(self._places)

    def on_answer(self, ready_ns: int) -> None:
        """Give a place back, ready from `ready_ns` on."""
        heappush(self._places, ready_ns)

    def _begin_burst(self, from_ns: int) -> None:
        self._burst_from_ns = from_ns
        self._burst_to_ns = from_ns + self._draw(self._burst_ns)

    def _draw(self, mean_ns: int) -> int:
        # At least a nanosecond, so that every burst can hold a request and loops here end.
        return max(1, round(self._rng.expovariate(1.0) * mean_ns))
