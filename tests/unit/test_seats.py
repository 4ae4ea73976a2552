"""Which worker gets which id when it joins."""

from clockwork.live.seats import KEEP_NS, Seat, Seats
from clockwork.messages.ids import WorkerId
from clockwork.units import SECOND

NOW_NS = 1_000 * SECOND


class Stage:
    """Seats behind two workers of the list, and who is connected."""

    def __init__(self, *remembered: Seat) -> None:
        self.up: set[int] = set()
        self.seats = Seats(2, remembered, is_taken=lambda worker_id: worker_id in self.up)
        self.now_ns = NOW_NS

    def join(self, name: str, process: str) -> int:
        """A worker connects; return its id."""
        seat = self.seats.take(name, process, self.now_ns)
        assert (seat.name, seat.process) == (name, process)
        self.up.add(seat.worker_id)
        return seat.worker_id

    def go(self, worker_id: int) -> None:
        """A worker's connection ends."""
        self.up.remove(worker_id)
        self.seats.leave(WorkerId(worker_id), self.now_ns)


def test_new_workers_get_new_ids_behind_the_list() -> None:
    """Two workers of one machine are two workers."""
    stage = Stage()
    assert [stage.join("a", "p1"), stage.join("a", "p2"), stage.join("b", "p3")] == [2, 3, 4]


def test_a_process_that_dials_again_keeps_its_id() -> None:
    """Also while its old connection is not known to be broken."""
    stage = Stage()
    stage.join("a", "p1")
    assert stage.join("a", "p2") == 3
    assert stage.join("a", "p1") == 2
    stage.go(3)
    assert stage.join("a", "p2") == 3


def test_a_restarted_worker_gets_a_seat_of_its_name() -> None:
    """A process that nobody knows sits where one of its name is missing."""
    stage = Stage()
    stage.join("a", "p1")
    stage.join("b", "p2")
    stage.go(2)
    stage.go(3)
    assert stage.join("b", "p3") == 3
    assert stage.join("a", "p4") == 2


def test_a_stranger_gets_the_seat_of_who_has_been_gone_for_long() -> None:
    """Ids stay few: the one that is gone longest gives way, but not at once."""
    stage = Stage()
    for name in "abc":
        stage.join(name, f"of {name}")
    stage.go(3)
    stage.now_ns += SECOND
    stage.go(2)
    assert stage.join("d", "of d") == 5
    stage.now_ns += KEEP_NS + 1
    assert stage.join("e", "of e") == 3
    assert stage.join("f", "of f") == 2
    assert stage.join("g", "of g") == 6


def test_seats_of_an_earlier_life_are_kept_like_those_of_this_one() -> None:
    """The clock of who has not come back starts when somebody else asks."""
    old = [Seat(WorkerId(2), "a", "p1"), Seat(WorkerId(5), "b", "p2")]
    stage = Stage(*old)
    assert stage.seats.seats == old
    assert stage.join("c", "p3") == 6
    assert stage.join("b", "p2") == 5
    stage.now_ns += KEEP_NS + 1
    assert stage.join("d", "p4") == 2


def test_ids_of_the_list_are_nobodys_seats() -> None:
    """A list that became longer takes over the ids."""
    stage = Stage(Seat(WorkerId(1), "a", "p1"))
    assert stage.join("a", "p1") == 2
