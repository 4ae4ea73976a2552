"""Which trace an experiment replays: a file, a day of the data set, or a synthetic one."""

from pathlib import Path
from typing import Final

from clockwork.client.azure import Trace, resampled
from clockwork.client.trace_generator import generate
from clockwork.errors import ConfigurationError
from clockwork.live.trace_files import find_trace, read_trace

MINUTES: Final = 480
"""Length of a synthetic trace: the paper's eight hours."""
FIRST_MINUTE: Final = 480
"""Of the day: the busy hours from eight in the morning on."""


def choose_trace(*, file: Path | None, azure_dir: str | None, functions: int, seed: int) -> Trace:
    """Return a trace with at least so many functions.

    Args:
        file: of the user; has precedence.
        azure_dir: AZURE_TRACE_DIR, whose first day is used; None: there is none.
        functions: a trace with fewer is resampled.

    Raises:
        ConfigurationError: the file is no trace, or has no calls.
    """
    if file is None and azure_dir is None:
        return generate(functions=functions, minutes=MINUTES, seed=seed, first_minute=FIRST_MINUTE)
    trace = read_trace(file or find_trace(azure_dir, 1))
    if not trace.functions:
        raise ConfigurationError(f"{trace.source} has no calls")
    return resampled(trace, functions, seed) if len(trace.functions) < functions else trace
