"""The type of options that are durations: ``100ms``, ``2.5s``, ``10m``."""

from typing import Final

import click

from clockwork.units import US, parse_duration_ns


class DurationType(click.ParamType[int]):
    """Turns text with a unit into nanoseconds."""

    name = "duration"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return nanoseconds; text that is no duration becomes a usage error."""
        if isinstance(value, int):
            return value
        try:
            duration_ns = parse_duration_ns(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if value.isdecimal() and 0 < duration_ns < US:
            # Nobody means nanoseconds by that.
            hint = f"add a unit, as in {value}s"
            self.fail(f"{value} is {duration_ns} nanoseconds: {hint}", param, ctx)
        return duration_ns


DURATION: Final = DurationType()
"""For ``type=DURATION``."""
