"""Finds the models whose first waiting request has become hopeless.

Only requests that stay in their queue at the end of a step are watched. (With a timer for every
request, most of which leave in the step in which they came, setting and dropping timers took 4 us
per request with 4,000 models, in plain Python.)

Invariant: after each step every model with waiting requests has a timer that is set no later than
to the instant at which the first of them becomes hopeless.

Not here: what becomes of hopeless requests (``infer4.py``).
"""

from clockwork.controller.policies.waiting import Waiting
from clockwork.parts.timers import Timers


class Hopeless:
    """Timers of models with waiting requests."""

    def __init__(self) -> None:
        self._timers: Timers[Waiting] = Timers()

    @property
    def next_ns(self) -> int | None:
        """When the next timer is due."""
        return self._timers.next_ns

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
