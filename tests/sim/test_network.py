"""Simulated connections."""

from random import Random

from clockwork.sim.clocks import Clock
from clockwork.sim.loop import START_NS, Loop
from clockwork.sim.network import Connection, Path
from clockwork.units import MS, SECOND, US

DELAY_NS = 50 * US


class Ends:
    """Two ends of a connection that write down what they hear, and when."""

    def __init__(
        self,
        *,
        jitter_ns: int = 0,
        bytes_per_s: int | None = None,
        offset_ns: int = 0,
        drift_ppm: int = 0,
    ) -> None:
        self.loop = Loop()
        self.path = Path(
            delay_ns=DELAY_NS, jitter_ns=jitter_ns, bytes_per_s=bytes_per_s, rng=Random(1)
        )
        self.at_a: list[tuple[int, str]] = []
        self.at_b: list[tuple[int, str]] = []
        self.link: Connection[str, str] = Connection(
            self.loop,
            self.path,
            clock_a=Clock(start_ns=START_NS),
            clock_b=Clock(start_ns=START_NS, offset_ns=offset_ns, drift_ppm=drift_ppm),
            has_stamps=bool(offset_ns or drift_ppm),
            deliver_to_a=lambda items: self.note(self.at_a, items),
            deliver_to_b=lambda items: self.note(self.at_b, items),
            a_lost=lambda reason: self.note(self.at_a, [f"lost: {reason}"]),
            b_lost=lambda reason: self.note(self.at_b, [f"lost: {reason}"]),
        )

    def note(self, heard: list[tuple[int, str]], items: list[str]) -> None:
        """Write down items, in microseconds since the begin."""
        heard += [((self.loop.now_ns - START_NS) // US, item) for item in items]

    def run(self, for_ns: int = SECOND) -> None:
        """Let time pass."""
        self.loop.run(self.loop.now_ns + for_ns)


def test_a_parcel_takes_its_time() -> None:
    """What is sent arrives after the delay, whole."""
    ends = Ends()
    ends.link.send_to_b(["x", "y"])
    ends.run()
    assert ends.at_b == [(50, "x"), (50, "y")]
    assert ends.link.under_way == 0


def test_size_takes_time_where_there_is_a_bandwidth() -> None:
    """A megabyte at a gigabyte per second takes a millisecond."""
    ends = Ends(bytes_per_s=1_000_000_000)
    assert ends.link.counts_bytes
    ends.link.send_to_b(["x"], 1_000_000)
    ends.run()
    assert ends.at_b == [(1_050, "x")]


def test_parcels_never_overtake_each_other() -> None:
    """With any jitter, order is kept."""
    ends = Ends(jitter_ns=10 * MS)
    for number in range(100):
        ends.link.send_to_b([str(number)])
    ends.run()
    assert [item for _, item in ends.at_b] == [str(number) for number in range(100)]


def test_who_dies_is_missed_after_all_that_it_had_sent() -> None:
    """The other end gets what is on its way, and learns then; the dead one gets nothing."""
    ends = Ends()
    ends.link.send_to_a(["last word"])
    ends.link.send_to_b(["too late"])
    ends.link.die_at_b("it died")
    ends.run()
    assert ends.at_a == [(50, "last word"), (50, "lost: it died")]
    assert ends.at_b == []
    ends.link.send_to_b(["nobody there"])
    ends.run()
    assert ends.at_b == []


def test_a_reset_loses_what_is_on_its_way_and_both_learn_it() -> None:
    """Nothing arrives in either direction."""
    ends = Ends()
    ends.link.send_to_a(["x"])
    ends.link.send_to_b(["y"])
    ends.link.reset("reset")
    ends.run()
    assert ends.at_a == [(50, "lost: reset")]
    assert ends.at_b == [(50, "lost: reset")]


def test_a_partition_holds_everything_back_in_order() -> None:
    """What was sent before and during a partition arrives when it heals, also the last word."""
    ends = Ends()
    ends.link.send_to_b(["before"])
    ends.path.cut()
    ends.link.send_to_b(["during"])
    ends.link.die_at_a("it died")
    ends.run()
    assert ends.at_b == []
    ends.path.heal(ends.path.cut_count)
    assert [item for _, item in ends.at_b] == ["before", "during", "lost: it died"]


def test_the_end_of_an_old_partition_does_not_heal_a_new_one() -> None:
    """Each partition has its number."""
    ends = Ends()
    ends.path.cut()
    first = ends.path.cut_count
    ends.path.heal(first)
    ends.path.cut()
    ends.path.heal(first)
    assert ends.path.is_cut


def test_ends_learn_how_far_the_others_clock_is_off() -> None:
    """After a few parcels in both directions the estimate is as good as the delays are equal."""
    offset_ns = 3 * SECOND
    ends = Ends(offset_ns=offset_ns)
    for _ in range(3):
        ends.link.send_to_a(["x"])
        ends.run(MS)
        ends.link.send_to_b(["y"])
        ends.run(MS)
    assert ends.link.offset_at_b.offset_ns == -offset_ns
    assert ends.link.offset_at_b.round_trip_ns == 2 * DELAY_NS
