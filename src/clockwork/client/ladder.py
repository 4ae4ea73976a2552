"""How a ladder climbs: the value after each period, what is said, and when it ends.

Source: clockwork SPEC 7.2. A ladder of SLO factors ends without saying or applying the value that
is too large; the other two say and apply it and end then. Both are kept.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from clockwork.client.streams import Streams
from clockwork.client.workload import Knob, Ladder, Step
from clockwork.parts.timers import Timers
from clockwork.units import MS

TUNES_MAX: Final = 128
TUNE_GAP_NS: Final = 4 * MS
"""A ladder turns so many streams at once, the next ones so much later: 12 us each, measured."""


class Rung(Struct, frozen=True):
    """What a ladder does at the end of one period."""

    value: float
    # Whether the streams get the value.
    applies: bool
    # Whether the run is over then.
    ends: bool
    lines: tuple[str, ...]


class Climber:
    """A ladder in use."""

    __slots__ = ("ladder", "value")

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder
        self.value = ladder.start

    def climb(self) -> Rung:
        """Go one step up and return what is to be done."""
        ladder = self.ladder
        self.value = _next(self.value, ladder)
        ends = ladder.end is not None and self.value > ladder.end
        applies = not ends or ladder.knob is not Knob.SLO_FACTOR
        lines = [f"{ladder.knob.value} {self.value:g}"] if applies else []
        if ends:
            lines.append("Terminating engine")
        return Rung(value=self.value, applies=applies, ends=ends, lines=tuple(lines))


class Ladders:
    """All ladders of a run in use: each takes a step per period, until they are stopped."""

    def __init__(
        self,
        streams: Streams,
        timers: Timers[Callable[[int], None]],
        *,
        say: Callable[[str], None],
        end: Callable[[int], None],
    ) -> None:
        """Prepare.

        Args:
            streams: get the values.
            timers: call what is set there at its instant.
            say: takes lines for the console.
            end: is called when a ladder has passed its end.
        """
        self._streams = streams
        self._timers = timers
        self._say = say
        self._end = end
        self._is_stopped = False

    def start(self, ladders: Sequence[Ladder], now_ns: int) -> None:
        """Have each ladder take its first step after one period."""
        for ladder in ladders:
            self._wait_on(Climber(ladder), now_ns)

    def stop(self) -> None:
        """Take no more steps."""
        self._is_stopped = True

    def _wait_on(self, climber: Climber, from_ns: int) -> None:
        """Have a ladder take its next step one period after `from_ns`."""
        self._timers.set(
            from_ns + climber.ladder.period_ns, lambda at_ns: self._climb(climber, at_ns)
        )

    def _climb(self, climber: Climber, at_ns: int) -> None:
        if self._is_stopped:
            return
        rung = climber.climb()
        for line in rung.lines:
            self._say(line)
        if rung.applies:
            self._tune(climber, 0, at_ns)
        if rung.ends:
            self._end(at_ns)
        else:
            self._wait_on(climber, at_ns)

    def _tune(self, climber: Climber, first: int, at_ns: int) -> None:
        """Give the ladder's value to its streams from place `first` on, bit by bit."""
        ladder, last = climber.ladder, first + TUNES_MAX
        self._streams.tune(ladder.streams[first:last], ladder.knob, climber.value, at_ns)
        if last < len(ladder.streams):
            self._timers.set(at_ns + TUNE_GAP_NS, lambda ns: self._tune(climber, last, ns))


def _next(value: float, ladder: Ladder) -> float:
    match ladder.step:
        case Step.ADD:
            return value + ladder.by
        case Step.MULTIPLY:
            return value * ladder.by
        case Step.TOGGLE:
            return ladder.by if value == ladder.start else ladder.start
