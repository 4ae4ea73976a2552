"""Which worker gets which id, among those that join by themselves.

A worker that connects again gets its old id, so that its GPUs keep their indexes and its
measurements still mean something. By what it says of itself:

1. the same process: its own seat, even if we have not noticed yet that its connection broke;
2. the same name: a seat of that name whose worker is gone (a restarted worker; workers that share
   a name are taken for alike);
3. else the seat of whoever has been gone for longest, if that is longer than `KEEP_NS`, so that
   ids stay few however often workers with new names come and go;
4. else a new one.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from clockwork.messages.ids import WorkerId
from clockwork.units import SECOND

KEEP_NS: Final = 60 * SECOND
"""How long a seat is kept for the one that left it (chosen: a machine restarts in less)."""


class Seat(Struct, frozen=True):
    """The id of a worker, and whose it is."""

    worker_id: WorkerId
    # What the worker calls itself, and which start of it this is.
    name: str
    process: str


class Seats:
    """Gives ids to workers that join."""

    def __init__(
        self, first_id: int, remembered: Iterable[Seat], *, is_taken: Callable[[WorkerId], bool]
    ) -> None:
        """Begin with the seats of an earlier life.

        Args:
            first_id: ids below belong to workers of the controller's own list.
            remembered: seats whose workers may come back.
            is_taken: tells whether a seat's worker is connected.
        """
        self._is_taken = is_taken
        self._by_id = {seat.worker_id: seat for seat in remembered if seat.worker_id >= first_id}
        # When its worker went, by seat. Those of an earlier life went when first asked about.
        self._gone_at_ns: dict[WorkerId, int] = {}
        self._next_id = max([first_id, *(worker_id + 1 for worker_id in self._by_id)])

    @property
    def seats(self) -> list[Seat]:
        """All seats, by id."""
        return [seat for _, seat in sorted(self._by_id.items())]

    def take(self, name: str, process: str, now_ns: int) -> Seat:
        """Return the seat of a worker that has connected; whoever sits there is to be sent away."""
        seat = Seat(self._choose(name, process, now_ns), name, process)
        self._by_id[seat.worker_id] = seat
        self._gone_at_ns.pop(seat.worker_id, None)
        return seat

    def leave(self, worker_id: WorkerId, now_ns: int) -> None:
        """Take note that a seat's worker is gone."""
        self._gone_at_ns[worker_id] = now_ns

    def _choose(self, name: str, process: str, now_ns: int) -> WorkerId:
        for seat in self._by_id.values():
            if process and seat.process == process:
                return seat.worker_id
        free = [seat for seat in self.seats if not self._is_taken(seat.worker_id)]
        for seat in free:
            if seat.name == name:
                return seat.worker_id
        given_up = [
            (gone_ns, seat.worker_id)
            for seat in free
            if (gone_ns := self._gone_at_ns.setdefault(seat.worker_id, now_ns)) + KEEP_NS < now_ns
        ]
        if given_up:
            return min(given_up)[1]
        self._next_id += 1
        return WorkerId(self._next_id - 1)
