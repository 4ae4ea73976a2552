"""The driver: one turn of the loop is one batch, effects in order, wakeups, and bugs of roles."""

import asyncio
import random
from collections.abc import Sequence

import uvloop

from clockwork.live.clock import now_ns
from clockwork.live.driver import (
    BATCH_EVENTS,
    BATCH_EVENTS_MAX,
    BATCH_EVENTS_MIN,
    BATCH_NS,
    RoleDriver,
    next_batch_events,
)
from clockwork.messages.role import WAKEUP, Wakeup
from clockwork.units import MS


class Diary:
    """A role of strings and numbers that keeps its batches, and echoes each event as an effect."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.instants_ns: list[int] = []
        self.wakeup_ns: int | None = None
        self.bug: Exception | None = None

    def handle(self, batch: Sequence[str | Wakeup], now_ns: int) -> list[str | int]:
        """Keep the batch; effects are the strings, then their count."""
        if self.bug is not None:
            raise self.bug
        if self.wakeup_ns is not None and now_ns >= self.wakeup_ns:
            self.wakeup_ns = None
        self.batches.append(list(batch))
        self.instants_ns.append(now_ns)
        return [event for event in batch if isinstance(event, str)] + [len(batch)]

    def check(self) -> None:
        """Nothing can be wrong."""


class Stage:
    """A driven diary, and what its effects did."""

    def __init__(self) -> None:
        self.diary = Diary()
        self.done: list[str | int] = []
        self.failures: list[BaseException] = []
        self.is_woken = asyncio.Event()
        self.driver: RoleDriver[str, str | int] = RoleDriver(
            self.diary,
            {str: self.done.append, int: self._end_effect},
            on_batch_end=lambda: self.done.append("end"),
            on_failure=self.failures.append,
        )

    def _end_effect(self, count: int) -> None:
        self.done.append(count)
        if any(WAKEUP in batch for batch in self.diary.batches):
            self.is_woken.set()


async def turns(count: int = 3) -> None:
    """Let the loop go round a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_events_of_one_turn_are_one_batch() -> None:
    """What is posted before the loop goes round is handled together, in order."""

    async def scenario() -> None:
        stage = Stage()
        stage.driver.post("a")
        stage.driver.post("b")
        await turns()
        stage.driver.post("c")
        await turns()
        assert stage.diary.batches == [["a", "b"], ["c"]]
        assert stage.done == ["a", "b", 2, "end", "c", 1, "end"]
        stage.driver.close()

    uvloop.run(scenario())


def test_a_flood_is_cut_into_batches() -> None:
    """Not everything is handled at once, and nothing is lost."""

    async def scenario() -> None:
        stage = Stage()
        for number in range(BATCH_EVENTS + 10):
            stage.driver.post(str(number))
        await turns(5)
        assert [len(batch) for batch in stage.diary.batches] == [BATCH_EVENTS, 10]
        assert [*stage.diary.batches[0], *stage.diary.batches[1]] == [
            str(number) for number in range(BATCH_EVENTS + 10)
        ]
        stage.driver.close()

    uvloop.run(scenario())


def test_a_role_is_woken_when_it_asked_for_it() -> None:
    """The wakeup comes at the instant or after it, never before, and only once."""

    async def scenario() -> None:
        stage = Stage()
        stage.diary.wakeup_ns = wanted_ns = now_ns() + 2 * MS
        stage.driver.post("a")
        await stage.is_woken.wait()
        await turns()
        assert stage.diary.batches == [["a"], [WAKEUP]]
        assert stage.diary.instants_ns[1] >= wanted_ns
        stage.driver.close()

    uvloop.run(scenario())


def test_a_role_that_raises_is_not_called_again() -> None:
    """Its owner gets the exception once; events that come later are dropped."""

    async def scenario() -> None:
        stage = Stage()
        stage.diary.bug = AssertionError("pages are missing")
        stage.driver.post("a")
        await turns()
        stage.driver.post("b")
        await turns()
        assert stage.failures == [stage.diary.bug]
        assert stage.diary.batches == []
        stage.driver.close()

    uvloop.run(scenario())


def test_an_unknown_effect_is_a_bug() -> None:
    """The table of methods has to name every effect of the role."""

    async def scenario() -> None:
        stage = Stage()
        del stage.driver._methods[int]  # type: ignore[attr-defined]
        stage.driver.post("a")
        await turns()
        assert isinstance(stage.failures[0], KeyError)

    uvloop.run(scenario())


def test_urgent_events_overtake_the_others() -> None:
    """What is posted as urgent is handled before what was posted earlier."""

    async def scenario() -> None:
        stage = Stage()
        stage.driver.post("request")
        stage.driver.post_urgent("result")
        await turns()
        assert stage.diary.batches == [["result", "request"]]
        stage.driver.close()

    uvloop.run(scenario())


def test_urgent_events_fill_batches_too() -> None:
    """Many results at once do not make one long batch; those that are left still come first."""

    async def scenario() -> None:
        stage = Stage()
        stage.driver.post("request")
        for number in range(BATCH_EVENTS + 10):
            stage.driver.post_urgent(str(number))
        await turns()
        first, second = stage.diary.batches
        assert len(first) == BATCH_EVENTS
        assert second == [*(str(BATCH_EVENTS + number) for number in range(10)), "request"]
        stage.driver.close()

    uvloop.run(scenario())


def test_full_batches_grow_and_shrink_towards_their_time() -> None:
    """However long an event takes, batches end up at BATCH_NS each, within the bounds."""
    for event_ns, expected in ((BATCH_NS // 200, 200), (BATCH_NS, 32), (1, 1024)):
        size = BATCH_EVENTS
        for _ in range(120):
            size = next_batch_events(size, events=size, taken_ns=size * event_ns)
        assert size == expected
        assert BATCH_EVENTS_MIN <= size <= BATCH_EVENTS_MAX


def test_most_batches_end_in_time_however_much_events_differ() -> None:
    """Where one batch's events cost twice as much as another's, three of four take no longer."""
    chance = random.Random(5)
    size, late = BATCH_EVENTS, 0
    for _ in range(2_000):
        taken_ns = round(size * BATCH_NS / 150 * chance.uniform(0.7, 1.4))
        late += taken_ns > BATCH_NS
        size = next_batch_events(size, events=size, taken_ns=taken_ns)
    assert 0 < late < 500


def test_one_slow_batch_is_soon_forgotten() -> None:
    """A pause of the machine makes the next batch half as large, not tiny."""
    size = next_batch_events(200, events=200, taken_ns=100 * BATCH_NS)
    assert size == 100
    for _ in range(30):
        size = next_batch_events(size, events=size, taken_ns=size * BATCH_NS // 200)
    assert size == 200


def test_batches_that_are_not_full_tell_only_when_they_took_too_long() -> None:
    """A small batch says nothing about full ones, unless it took longer than a full one should."""
    assert next_batch_events(200, events=100, taken_ns=BATCH_NS // 100) == 200
    assert next_batch_events(200, events=100, taken_ns=BATCH_NS) == 200
    assert next_batch_events(200, events=190, taken_ns=BATCH_NS * 190 // 180) == 180
