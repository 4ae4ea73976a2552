"""How a ladder climbs: the value after each period, what is said, and when it ends.

Source: clockwork SPEC 7.2. A ladder of SLO factors ends without saying or applying the value that
is too large; the other two say and apply it and end then. Both are kept.
"""

from msgspec import Struct

from clockwork.client.workload import Knob, Ladder, Step


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


def _next(value: float, ladder: Ladder) -> float:
    match ladder.step:
        case Step.ADD:
            return value + ladder.by
        case Step.MULTIPLY:
            return value * ladder.by
        case Step.TOGGLE:
            return ladder.by if value == ladder.start else ladder.start
