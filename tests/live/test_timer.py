"""The precise timer, on a real loop."""

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from clockwork.live.clock import now_ns
from clockwork.live.timer import PreciseTimer
from clockwork.units import MS, SECOND


class Bell:
    """A timer's callback that can be waited for."""

    def __init__(self) -> None:
        self.rung_ns: list[int] = []
        self._news = asyncio.Event()
        self.timer = PreciseTimer(asyncio.get_running_loop(), self._ring)

    async def wait_for(self, count: int) -> None:
        """Wait until it has rung so often."""
        while len(self.rung_ns) < count:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 30)

    def _ring(self) -> None:
        self.rung_ns.append(now_ns())
        self._news.set()


def play(scenario: Callable[[Bell], Awaitable[None]]) -> None:
    """Run a scenario with a bell."""

    async def whole() -> None:
        bell = Bell()
        try:
            await scenario(bell)
        finally:
            bell.timer.close()

    uvloop.run(whole())


def test_it_calls_back_once_and_not_before_the_instant() -> None:
    """Afterwards it is disarmed and can be armed again."""

    async def scenario(bell: Bell) -> None:
        for count in (1, 2, 3):
            at_ns = now_ns() + 2 * MS + 345
            bell.timer.arm(at_ns)
            assert bell.timer.armed_ns == at_ns
            await bell.wait_for(count)
            assert bell.rung_ns[-1] >= at_ns
            assert bell.timer.armed_ns is None

    play(scenario)


def test_an_instant_in_the_past_calls_back_soon() -> None:
    """However long ago."""

    async def scenario(bell: Bell) -> None:
        bell.timer.arm(now_ns() - SECOND)
        await bell.wait_for(1)
        bell.timer.arm(0)
        await bell.wait_for(2)

    play(scenario)


def test_only_the_last_instant_counts() -> None:
    """Arming again moves the instant in both directions; disarming removes it."""

    async def scenario(bell: Bell) -> None:
        begin_ns = now_ns()
        bell.timer.arm(begin_ns + 3600 * SECOND)
        bell.timer.arm(begin_ns + MS)
        bell.timer.arm(begin_ns + 5 * MS)
        await bell.wait_for(1)
        assert bell.rung_ns[0] >= begin_ns + 5 * MS
        bell.timer.arm(now_ns() - 1)
        bell.timer.disarm()
        assert bell.timer.armed_ns is None
        other = Bell()
        other.timer.arm(now_ns() + 2 * MS)
        await other.wait_for(1)
        other.timer.close()
        assert len(bell.rung_ns) == 1

    play(scenario)
