"""Says which Clockwork a benchmark measures: plain Python, or compiled by ``make fast``."""

from clockwork.controller import core


def is_compiled() -> bool:
    """Return whether the modules that run for every request are compiled."""
    return not str(core.__file__).endswith(".py")


def how_built() -> str:
    """Return a line to print above figures."""
    if is_compiled():
        return "compiled (`make fast`)"
    return "plain Python (`make fast` first: about twice as fast)"
