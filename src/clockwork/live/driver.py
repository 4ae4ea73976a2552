"""Runs a role on an event loop: what happens in one turn is one batch.

::

    events --post--> batch --role.handle--> effects --by type--> methods that carry them out

A turn that brings many events is cut into batches that take about BATCH_NS each: the first effects
leave before the last events are looked at, and nobody waits longer for a turn of the loop. How many
events that are is learnt from how long full batches took: it depends on the machine, and on what
the role has to decide. Events that were posted as urgent overtake the others: under overload
requests pile up here, and results that wait behind them would leave devices idle and make every
plan stale. They fill batches too: at half of the capacity of two cores, up to 420 came at once.

A role that raises has a bug. The driver then stops for good and tells its owner, who ends the
process: a role in an unknown state must not decide anything any more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from clockwork.live.clock import now_ns
from clockwork.live.timer import PreciseTimer
from clockwork.messages.role import WAKEUP, Role, Wakeup
from clockwork.units import MS

BATCH_NS: Final = 2 * MS
"""What a full batch should take. An action is planned for the instant at which its batch began and
leaves when it ends, which has to be well inside the windows of actions. (With 4,096 events a batch
three of four actions came too late at twice the load that the controller holds; with too few, a
policy that is behind finds too little for large infers, and falls behind further.) A loop that
also reads what came, and waits for its core, is then back at its timers within 5 ms: measured at
25,000 requests/s on two cores, all but 5 of 60,000 times in 10 minutes; with 4 ms, 30 times a
minute it was not."""
BATCH_EVENTS: Final = 128
"""Events of the first full batches, before it is known how long they take."""
BATCH_EVENTS_MIN: Final = 32
BATCH_EVENTS_MAX: Final = 1024
"""Bounds of what is learnt (chosen)."""

EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")


class RoleDriver(Generic[EventT, EffectT]):
    """Feeds a role with batches of events and has its effects carried out, in order."""

    def __init__(
        self,
        role: Role[EventT | Wakeup, EffectT],
        methods: Mapping[type, Callable[[Any], None]],
        *,
        on_batch_end: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Start with an empty batch on the running loop.

        Args:
            role: what is driven; nobody else calls it.
            methods: what carries out an effect, by its type; all types of the role's effects.
            on_batch_end: called when all effects of a batch are carried out (flush sockets).
            on_failure: called once with the exception when the role or a method raised.
        """
        self._role = role
        self._methods = methods
        self._on_batch_end = on_batch_end
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._urgent: deque[EventT | Wakeup] = deque()
        self._others: deque[EventT | Wakeup] = deque()
        self._is_due = False
        # Events of a full batch.
        self._batch_events = BATCH_EVENTS
        self._timer = PreciseTimer(self._loop, self._on_timer)
        self._is_closed = False

    def post(self, event: EventT | Wakeup) -> None:
        """Add an event to the current batch, which is handled in the loop's next turn."""
        self._others.append(event)
        self._run_soon()

    def post_urgent(self, event: EventT | Wakeup) -> None:
        """Add an event that overtakes those of `post`."""
        self._urgent.append(event)
        self._run_soon()

    def close(self) -> None:
        """Handle nothing any more; events that were posted are dropped."""
        if not self._is_closed:
            self._is_closed = True
            self._timer.close()

    def _run_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        batch: list[EventT | Wakeup] = []
        for queue in (self._urgent, self._others):
            for _ in range(min(len(queue), self._batch_events - len(batch))):
                batch.append(queue.popleft())
        self._is_due = False
        if self._urgent or self._others:
            self._run_soon()
        if self._is_closed:
            return
        try:
            self._handle(batch)
        except Exception as error:
            self.close()
            self._on_failure(error)

    def _handle(self, batch: Sequence[EventT | Wakeup]) -> None:
        now = now_ns()
        methods = self._methods
        for effect in self._role.handle(batch, now):
            methods[type(effect)](effect)
        self._on_batch_end()
        self._batch_events = next_batch_events(
            self._batch_events, events=len(batch), taken_ns=now_ns() - now
        )
        if self._is_closed:
            return
        wakeup_ns = self._role.wakeup_ns
        if wakeup_ns is None:
            self._timer.disarm()
        else:
            self._timer.arm(wakeup_ns)

    def _on_timer(self) -> None:
        self.post_urgent(WAKEUP)


def next_batch_events(batch_events: int, *, events: int, taken_ns: int) -> int:
    """Return how many events the next full batch has: so many that hardly any exceeds BATCH_NS.

    An event costs up to twice as much as another, by what the processor's caches hold. So a batch
    that took too long is believed at once, one that was quick only by a 32nd part: most full ones
    then end before BATCH_NS. (With steps of a quarter both ways every other one took longer, and
    one of 170 events up to 3.8 ms.) One that was not full tells something only if it took too
    long nevertheless.

    Args:
        batch_events: how many the last full one was to have; at least half of that comes out.
        events: how many the last one had, full or not.
        taken_ns: how long it took.
    """
    if taken_ns > BATCH_NS:
        size = max(events * BATCH_NS // taken_ns, batch_events // 2)
    elif events < batch_events:
        return batch_events
    else:
        fitting = events * BATCH_NS // max(taken_ns, 1)
        size = min(fitting, batch_events + max(batch_events // 32, 1))
    return min(max(size, BATCH_EVENTS_MIN), BATCH_EVENTS_MAX)
