"""Measures how late an event loop runs what was promised for an instant."""

import asyncio
from typing import Final

from clockwork.live.clock import now_ns
from clockwork.live.timer import PreciseTimer
from clockwork.telemetry.lag import LagHistogram
from clockwork.units import MS

PROBE_NS: Final = 10 * MS
"""Time between two looks; chosen: costs 0.1 % of a core."""


class LagWatch:
    """Fills `histogram` for as long as it is open; its owner resets it per interval."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to watch `loop`."""
        self.histogram = LagHistogram()
        self._timer = PreciseTimer(loop, self._on_timer)
        self._due_ns = 0
        self._arm()

    def close(self) -> None:
        """Watch no more."""
        self._timer.close()

    def _on_timer(self) -> None:
        self.histogram.add(now_ns() - self._due_ns)
        self._arm()

    def _arm(self) -> None:
        self._due_ns = now_ns() + PROBE_NS
        self._timer.arm(self._due_ns)
