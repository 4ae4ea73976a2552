"""A simulated process: a role, its clock, and the turns in which it handles what has arrived.

A process with a `Turn` collects events and handles them in one batch, some time after the first of
them and not before it is done with the last batch: the batching of the live event loop, and its
queue when it is overloaded. Without one it handles each delivery at once.

Roles change their minds about when to be woken at almost every step. So an entry is made in the
agenda only if it is earlier than all that this process has there; one that turns out to be too
early looks, finds nothing to do, and plans again. Entries are thus a stack, the earliest on top.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar

from clockwork.messages.role import WAKEUP, Role, Wakeup
from clockwork.sim.clocks import Clock
from clockwork.sim.loop import Loop
from clockwork.sim.scenario import Turn

EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")


class Kind(Enum):
    """What a process is."""

    CONTROLLER = "controller"
    WORKER = "worker"
    CLIENT = "client"


class Tap(Protocol):
    """Watches processes from outside: a judge, the digest, a journal."""

    def on_begin(self, host: "AnyHost") -> None:
        """A process has been started."""

    def on_step(
        self, host: "AnyHost", batch: Sequence[Any], effects: Sequence[Any], now_ns: int
    ) -> None:
        """A process has handled a batch; `now_ns` is its own clock. Nothing is carried out yet."""

    def on_end(self, host: "AnyHost") -> None:
        """A process is gone."""


class Host(Generic[EventT, EffectT]):
    """One process from its start to its death; another one takes its place with a new `Host`."""

    def __init__(
        self,
        loop: Loop,
        role: Role[EventT | Wakeup, EffectT],
        *,
        kind: Kind,
        index: int,
        clock: Clock,
        turn: Turn,
        taps: Sequence[Tap],
        carry_out: Callable[[list[EffectT]], None],
    ) -> None:
        """Start a process; nothing happens before the first delivery or `look`."""
        self.role = role
        self.kind = kind
        # Which of its kind; the processes that take each other's place have the same.
        self.index = index
        self.name = f"{kind.value} {index}"
        self.clock = clock
        self.is_alive = True
        # True time until which it is busy, or paused by a fault.
        self.busy_until_ns = 0
        self._loop = loop
        self._latency_ns, self._event_ns = turn.latency_ns, turn.event_ns
        self._is_immediate = turn == Turn()
        self._taps = taps
        self._carry_out = carry_out
        self._inbox: list[EventT | Wakeup] = []
        # When the inbox is to be handled; means nothing while it is empty.
        self._inbox_due_ns = 0
        # Instants of this process's entries in the agenda, descending.
        self._entries: list[int] = []
        for tap in taps:
            tap.on_begin(self)

    def __repr__(self) -> str:
        return self.name

    @property
    def now_ns(self) -> int:
        """The process's own clock."""
        return self.clock.local_of(self._loop.now_ns)

    @property
    def inbox_size(self) -> int:
        """Events that wait to be handled."""
        return len(self._inbox)

    def deliver(self, events: list[EventT]) -> None:
        """Take events that happened now."""
        if not self.is_alive:
            return
        if self._is_immediate and self._loop.now_ns >= self.busy_until_ns and not self._inbox:
            self._step(events)
            self.look()
            return
        if not self._inbox:
            self._inbox_due_ns = due_ns = self._loop.now_ns + self._latency_ns
            self._plan_at(due_ns if due_ns > self.busy_until_ns else self.busy_until_ns)
        self._inbox += events

    def look(self) -> None:
        """Plan a turn for when the role wants to be woken, if it does."""
        wakeup_ns = self.role.wakeup_ns
        if wakeup_ns is None:
            return
        if not self.clock.is_perfect:
            wakeup_ns = self.clock.true_of(wakeup_ns)
        entries = self._entries
        if entries and entries[-1] <= wakeup_ns:
            return  # It looks again then.
        now_ns = self._loop.now_ns
        when_ns = (wakeup_ns if wakeup_ns > now_ns else now_ns) + self._latency_ns
        self._plan_at(when_ns if when_ns > self.busy_until_ns else self.busy_until_ns)

    def die(self) -> None:
        """End the process: what it has not handled is lost."""
        self.is_alive = False
        self._inbox = []
        for tap in self._taps:
            tap.on_end(self)

    def _step(self, batch: Sequence[EventT | Wakeup]) -> None:
        now_ns, clock = self._loop.now_ns, self.clock
        if self._event_ns:
            self.busy_until_ns = now_ns + self._event_ns * len(batch)
        local_ns = now_ns if clock.is_perfect else clock.local_of(now_ns)
        effects = self.role.handle(batch, local_ns)
        for tap in self._taps:
            tap.on_step(self, batch, effects, local_ns)
        if effects:
            self._carry_out(effects)

    def _plan_at(self, when_ns: int) -> None:
        entries = self._entries
        if not entries or when_ns < entries[-1]:
            entries.append(when_ns)
            self._loop.at(when_ns, self._on_turn, None)

    def _on_turn(self, _: None) -> None:
        self._entries.pop()
        if not self.is_alive:
            return
        now_ns = self._loop.now_ns
        if now_ns < self.busy_until_ns:
            self._plan_at(self.busy_until_ns)
            return
        if self._inbox:
            if now_ns < self._inbox_due_ns:
                self._plan_at(self._inbox_due_ns)
                return
            batch, self._inbox = self._inbox, []
            self._step(batch)
        else:
            wakeup_ns = self.role.wakeup_ns
            if wakeup_ns is not None and wakeup_ns <= self.clock.local_of(now_ns):
                self._step(_WAKEUPS)
        self.look()


_WAKEUPS: Final = (WAKEUP,)
AnyHost = Host[Any, Any]
"""A process of any kind."""
