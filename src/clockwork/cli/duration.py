"""The type of options that are durations: ``100ms``, ``2.5s``, ``10m``."""

from typing import Final

import click

from clockwork.units import parse_duration_ns


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
            return parse_duration_ns(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION: Final = DurationType()
"""For ``type=DURATION``."""
