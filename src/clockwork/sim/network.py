"""Simulated connections: two links that keep order, take their time, and can be cut.

A `Path` is what lies between two processes; faults change it while it is in use. A `Connection`
stands on a path between end *a* (always the controller) and end *b* (a worker or a client), like a
TCP connection: parcels arrive in order or not at all, and each end learns by itself, and late, that
the connection is gone:

- an end that dies sends a last parcel (FIN): what it had sent before still arrives;
- a reset loses what is on its way in both directions;
- a partition holds everything back; parcels arrive when it heals, unless it lasts longer than
  `dead_after_ns`, after which both ends give up (TCP's keep-alive).

A parcel is what one batch of a role sends to one peer: one coalesced write, as in the live shell.

Clocks: each parcel carries its sender's clock, from which both ends estimate the other's offset
exactly as the live shell does (`parts.clock_offset`); ends with perfect clocks skip that.

Not here: what parcels hold (`links.py`), who dials (`controller_shell.py`).
"""

from collections.abc import Callable
from random import Random
from typing import Generic, TypeVar

from clockwork.parts.clock_offset import ClockOffset
from clockwork.sim.clocks import Clock
from clockwork.sim.loop import Loop
from clockwork.units import SECOND

ItemT = TypeVar("ItemT")
AToBT = TypeVar("AToBT")
BToAT = TypeVar("BToAT")

Closed = Callable[[str], None]
"""Tells an end that the connection is gone, and why."""


class Path:
    """The way between two processes, in both directions."""

    def __init__(
        self, *, delay_ns: int, jitter_ns: int, bytes_per_s: int | None, rng: Random
    ) -> None:
        """Make a path that works.

        Args:
            delay_ns: least time on the way.
            jitter_ns: up to so much more, drawn uniformly per parcel.
            bytes_per_s: bandwidth per direction; None: unlimited.
        """
        self.delay_ns = delay_ns
        self._jitter_ns = jitter_ns
        self.bytes_per_s = bytes_per_s
        self._rng = rng
        # Set by faults: more delay, and a partition.
        self.extra_ns = 0
        self.is_cut = False
        # How often it was cut: tells one partition from the next.
        self.cut_count = 0
        # What to call when a partition heals, in order; only while cut.
        self._waiting: list[Callable[[], None]] = []

    def travel_ns(self, size_bytes: int) -> int:
        """Return how long a parcel that starts now is on its way."""
        taken_ns = self.delay_ns + self.extra_ns
        if self._jitter_ns:
            taken_ns += self._rng.randrange(self._jitter_ns)
        if self.bytes_per_s is not None:
            taken_ns += size_bytes * SECOND // self.bytes_per_s
        return taken_ns

    def cut(self) -> None:
        """Begin a partition."""
        self.is_cut = True
        self.cut_count += 1

    def await_healing(self, call: Callable[[], None]) -> None:
        """Have `call` made when the partition heals."""
        self._waiting.append(call)

    def heal(self, cut_count: int) -> None:
        """End the partition that had this number; everything held back arrives now, in order."""
        if not self.is_cut or self.cut_count != cut_count:
            return
        self.is_cut = False
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


class Link(Generic[ItemT]):
    """One direction of a connection."""

    __slots__ = ("_finished", "_last_ns", "_loop", "_path", "_receive", "is_open")

    def __init__(
        self,
        loop: Loop,
        path: Path,
        *,
        receive: Callable[[list[ItemT], int, int], None],
        finished: Closed,
    ) -> None:
        self._loop = loop
        self._path = path
        # Takes items, the sender's clock and the smallest delta that the sender has seen.
        self._receive = receive
        self._finished = finished
        # When the last parcel arrives: none overtakes it.
        self._last_ns = 0
        # False: nothing arrives any more.
        self.is_open = True

    def send(
        self, items: list[ItemT], *, size_bytes: int = 0, clock_ns: int = 0, minimum_ns: int = 0
    ) -> None:
        """Send items on their way; they belong to the receiver from now on."""
        loop = self._loop
        when_ns = loop.now_ns + self._path.travel_ns(size_bytes)
        if when_ns < self._last_ns:
            when_ns = self._last_ns
        self._last_ns = when_ns
        loop.at(when_ns, self._arrive, (items, clock_ns, minimum_ns))

    def finish(self, reason: str) -> None:
        """Tell the receiver, after all that was sent before, that nothing more comes."""
        when_ns = max(self._loop.now_ns + self._path.travel_ns(0), self._last_ns)
        self._loop.at(when_ns, self._end, reason)

    def _arrive(self, parcel: tuple[list[ItemT], int, int]) -> None:
        if not self.is_open:
            return
        if self._path.is_cut:
            self._path.await_healing(lambda: self._arrive(parcel))
        else:
            self._receive(parcel[0], parcel[1], parcel[2])

    def _end(self, reason: str) -> None:
        if not self.is_open:
            return
        if self._path.is_cut:
            self._path.await_healing(lambda: self._end(reason))
        else:
            self._finished(reason)


class Connection(Generic[AToBT, BToAT]):
    """Two links and the two ends' knowledge about them."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        *,
        clock_a: Clock,
        clock_b: Clock,
        has_stamps: bool,
        deliver_to_a: Callable[[list[BToAT]], None],
        deliver_to_b: Callable[[list[AToBT]], None],
        a_lost: Closed,
        b_lost: Closed,
    ) -> None:
        """Open a connection; both ends may send at once.

        Args:
            has_stamps: False where all clocks are perfect: parcels then carry none.
            a_lost: called once when end a learns that the connection is gone; then a's end is
                closed. Not called if a itself died.
            b_lost: the same for end b.
        """
        self._loop = loop
        self._path = path
        self._clock_a, self._clock_b = clock_a, clock_b
        self._deliver_to_a, self._deliver_to_b = deliver_to_a, deliver_to_b
        self._a_lost, self._b_lost = a_lost, b_lost
        self._to_b: Link[AToBT] = Link(
            loop, path, receive=self._arrive_at_b, finished=self._close_b
        )
        self._to_a: Link[BToAT] = Link(
            loop, path, receive=self._arrive_at_a, finished=self._close_a
        )
        self._has_stamps = has_stamps
        # What each end knows about the other's clock.
        self._offset_at_a = ClockOffset()
        self.offset_at_b = ClockOffset()
        # Whether each end believes that the connection stands.
        self.is_open_at_a = True
        self.is_open_at_b = True
        # Parcels on their way, for judges.
        self.under_way = 0

    @property
    def counts_bytes(self) -> bool:
        """True if sizes matter: the path has a bandwidth."""
        return self._path.bytes_per_s is not None

    def send_to_b(self, items: list[AToBT], size_bytes: int = 0) -> None:
        """Send from end a; lost if a has been told that the connection is gone."""
        if not self.is_open_at_a:
            return
        self.under_way += 1
        if not self._has_stamps:
            self._to_b.send(items, size_bytes=size_bytes)
            return
        self._to_b.send(
            items,
            size_bytes=size_bytes,
            clock_ns=self._clock_a.local_of(self._loop.now_ns),
            minimum_ns=self._offset_at_a.local_minimum_ns,
        )

    def send_to_a(self, items: list[BToAT], size_bytes: int = 0) -> None:
        """Send from end b; lost if b has been told that the connection is gone."""
        if not self.is_open_at_b:
            return
        self.under_way += 1
        if not self._has_stamps:
            self._to_a.send(items, size_bytes=size_bytes)
            return
        self._to_a.send(
            items,
            size_bytes=size_bytes,
            clock_ns=self._clock_b.local_of(self._loop.now_ns),
            minimum_ns=self.offset_at_b.local_minimum_ns,
        )

    def die_at_a(self, reason: str) -> None:
        """End a's process is gone: b gets what was sent, then learns it."""
        self.is_open_at_a = False
        self._to_a.is_open = False
        self._to_b.finish(reason)

    def die_at_b(self, reason: str) -> None:
        """End b's process is gone: a gets what was sent, then learns it."""
        self.is_open_at_b = False
        self._to_b.is_open = False
        self._to_a.finish(reason)

    def reset(self, reason: str) -> None:
        """Lose everything on the way; both ends learn it after the usual delay."""
        self._to_a.is_open = self._to_b.is_open = False
        when_ns = self._loop.now_ns + self._path.delay_ns
        self._loop.at(when_ns, self._close_a, reason)
        self._loop.at(when_ns, self._close_b, reason)

    def _arrive_at_b(self, items: list[AToBT], clock_ns: int, minimum_ns: int) -> None:
        self.under_way -= 1
        if self._has_stamps:
            delta_ns = self._clock_b.local_of(self._loop.now_ns) - clock_ns
            self.offset_at_b.observe(delta_ns, minimum_ns)
        self._deliver_to_b(items)

    def _arrive_at_a(self, items: list[BToAT], clock_ns: int, minimum_ns: int) -> None:
        self.under_way -= 1
        if self._has_stamps:
            delta_ns = self._clock_a.local_of(self._loop.now_ns) - clock_ns
            self._offset_at_a.observe(delta_ns, minimum_ns)
        self._deliver_to_a(items)

    def _close_a(self, reason: str) -> None:
        if self.is_open_at_a:
            self.is_open_at_a = False
            self._to_a.is_open = False
            self._a_lost(reason)

    def _close_b(self, reason: str) -> None:
        if self.is_open_at_b:
            self.is_open_at_b = False
            self._to_b.is_open = False
            self._b_lost(reason)
