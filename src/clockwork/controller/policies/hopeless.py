"""Finds the models whose first waiting request has become hopeless.

Only requests that stay in their queue at the end of a step are watched. (With a timer for every
request, most of which leave in the step in which they came, setting and dropping timers took 4 us
per request with 4,000 models, in plain Python.)

Invariant: after each step every model with waiting requests has a timer that is set no later than
to the instant at which the first of them becomes hopeless.

Waking up for this alone costs more than the refusal, so the timers are looked at whenever something
happens, and wake the controller only when nothing has happened for `SLACK_NS`. That is never later
than half an execution after the instant: the refusal still leaves before the deadline.

Not here: what becomes of hopeless requests (``infer4.py``).
"""

from typing import Final

from clockwork.controller.policies.waiting import Waiting
from clockwork.parts.timers import Timers
from clockwork.units import MS

SLACK_NS: Final = 4 * MS
"""How long a hopeless request may wait for something else to happen. (Measured with real models,
300 requests/s with an SLO of 100 ms, a third of them refused: this and the slack of `dispatch.py`
take 10 % off the controller's time.)"""


class Hopeless:
    """Timers of models with waiting requests."""

    def __init__(self) -> None:
        self._timers: Timers[Waiting] = Timers()

    @property
    def next_ns(self) -> int | None:
        """When the first request that is hopeless should be refused if nothing happens before."""
        first = self._timers.first
        if first is None:
            return None
        due_ns, waiting = first
        return due_ns + min(SLACK_NS, waiting.model.exec_ns[0] // 2)

    def watch(self, waiting: Waiting) -> None:
        """See to it that a model with waiting requests comes due in time."""
        when_ns = waiting.hopeless_ns
        if waiting.timer_ns is None or when_ns < waiting.timer_ns:
            waiting.timer_ns = when_ns
            self._timers.set(when_ns, waiting)

    def pop_due(self, now_ns: int) -> Waiting | None:
        """Return the next model whose timer is due; it has no timer then."""
        waiting = self._timers.pop_due(now_ns)
        if waiting is not None:
            waiting.timer_ns = None
        return waiting
