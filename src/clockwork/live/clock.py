"""The clock of a live process: nanoseconds since the Unix epoch that never step.

Why: roles want instants that can be compared with a log of another machine (epoch) and that never
jump when somebody sets the time (monotonic). The epoch is read once, when this module is imported;
from then on only the monotonic clock counts. What two machines disagree about is measured per
connection (`clockwork.parts.clock_offset`).
"""

from time import monotonic_ns, time_ns
from typing import Final

_EPOCH_NS: Final = time_ns() - monotonic_ns()


def now_ns() -> int:
    """Return this process's clock: ns since the Unix epoch, never decreasing."""
    return _EPOCH_NS + monotonic_ns()


def monotonic_from(instant_ns: int) -> int:
    """Return `instant_ns` of `now_ns` as an instant of `time.monotonic_ns` (CLOCK_MONOTONIC)."""
    return instant_ns - _EPOCH_NS
