"""Turns the absence of an optional library into an error that says what to install."""

from collections.abc import Iterator
from contextlib import contextmanager

from clockwork.errors import ConfigurationError


@contextmanager
def extra(name: str, *, purpose: str) -> Iterator[None]:
    """Guard imports of libraries that only the extra `name` installs.

    Raises:
        ConfigurationError: a library is missing; the message names it and the extra.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"{purpose} needs {missing.name}, which is not installed: "
            f"pip install 'clockwork-serving[{name}]'"
        ) from missing
