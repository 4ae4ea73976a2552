"""Simulated processes and their turns."""

from collections.abc import Sequence

from clockwork.messages.role import WAKEUP, Wakeup
from clockwork.sim.clocks import Clock
from clockwork.sim.host import Host, Kind
from clockwork.sim.loop import Loop
from clockwork.sim.scenario import Turn

AT_ONCE = Turn()


class Diary:
    """A role that notes what it is given, and wants to be woken when a test says so."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[object]]] = []
        self.wakeup_ns: int | None = None

    def handle(self, batch: Sequence[str | Wakeup], now_ns: int) -> list[str]:
        """Note a step; a wakeup is asked for once."""
        self.steps.append((now_ns, list(batch)))
        if self.wakeup_ns is not None and self.wakeup_ns <= now_ns:
            self.wakeup_ns = None
        return [f"done {len(batch)}"]

    def check(self) -> None:
        """Nothing can be wrong."""


def start(turn: Turn = AT_ONCE, *, drift_ppm: int = 0) -> tuple[Loop, Diary, Host[str, str]]:
    """Return a process with a diary."""
    loop, role = Loop(0), Diary()
    host: Host[str, str] = Host(
        loop,
        role,
        kind=Kind.WORKER,
        index=0,
        clock=Clock(start_ns=0, drift_ppm=drift_ppm),
        turn=turn,
        taps=(),
        carry_out=lambda effects: None,
    )
    return loop, role, host


def test_without_a_turn_events_are_handled_at_once() -> None:
    """Each delivery is a step at its instant."""
    loop, role, host = start()
    for when_ns in (10, 20):
        loop.at(when_ns, host.deliver, [f"at {when_ns}"])
    loop.run(100)
    assert role.steps == [(10, ["at 10"]), (20, ["at 20"])]


def test_a_turn_collects_what_arrives_meanwhile() -> None:
    """The first event fixes the instant; all that came by then is one batch."""
    loop, role, host = start(Turn(latency_ns=5))
    for when_ns, event in ((10, "a"), (12, "b"), (15, "c"), (16, "d")):
        loop.at(when_ns, host.deliver, [event])
    loop.run(100)
    assert role.steps == [(15, ["a", "b", "c"]), (21, ["d"])]


def test_a_busy_process_lets_events_wait() -> None:
    """Computing takes time per event, and everything behind it waits."""
    loop, role, host = start(Turn(latency_ns=1, event_ns=10))
    for when_ns, events in ((0, ["a", "b"]), (5, ["c"]), (6, ["d"])):
        loop.at(when_ns, host.deliver, events)
    loop.run(100)
    assert role.steps == [(1, ["a", "b"]), (21, ["c", "d"])]


def test_a_role_is_woken_when_it_wants() -> None:
    """Also when it changes its mind, to an earlier or a later instant."""
    loop, role, host = start()
    role.wakeup_ns = 50
    host.look()
    role.wakeup_ns = 30
    host.look()
    loop.run(40)
    assert role.steps == [(30, [WAKEUP])]
    role.wakeup_ns = 60
    host.look()
    loop.run(100)
    assert role.steps[1:] == [(60, [WAKEUP])]
    assert len(loop) == 0


def test_a_wakeup_is_an_instant_of_the_processs_own_clock() -> None:
    """A fast clock is woken earlier, in true time, and sees the instant it asked for."""
    loop, role, host = start(drift_ppm=100_000)
    role.wakeup_ns = 1_100
    host.look()
    loop.run(2_000)
    ((now_ns, _),) = role.steps
    assert now_ns == 1_100


def test_a_dead_process_does_nothing() -> None:
    """What it had not handled is lost, and it is not woken."""
    loop, role, host = start(Turn(latency_ns=5))
    role.wakeup_ns = 50
    host.look()
    host.deliver(["a"])
    host.die()
    host.deliver(["b"])
    loop.run(100)
    assert role.steps == []
