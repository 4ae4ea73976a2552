"""Units of time and size, and how they are read and shown.

Units: instants and durations are ``int`` nanoseconds (names end in ``_ns``), sizes are ``int``
bytes (``_bytes``). Instants count from the Unix epoch.
"""

import re
from typing import Final

US: Final = 1_000
"""One microsecond in nanoseconds."""
MS: Final = 1_000_000
"""One millisecond in nanoseconds."""
SECOND: Final = 1_000_000_000
"""One second in nanoseconds."""
MINUTE: Final = 60 * SECOND

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

FOREVER_NS: Final = 2**63 - 1
"""The instant that never comes: the `latest` of an action without a deadline."""

_DURATIONS: Final = {
    "": 1,
    "ns": 1,
    "us": US,
    "ms": MS,
    "s": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "h": 60 * MINUTE,
}
_SIZES: Final = {
    "": 1,
    "b": 1,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
}
_QUANTITY: Final = re.compile(r"\s*(\d+(?:_\d+)*(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_duration_ns(text: str) -> int:
    """Return the duration that `text` names: ``100ms``, ``2.5s``, or plain nanoseconds.

    Raises:
        ValueError: `text` is not a number with a known unit.
    """
    return _parse(text, units=_DURATIONS, example="100ms, 2.5s or 1000000 (nanoseconds)")


def parse_bytes(text: str) -> int:
    """Return the size that `text` names: ``512MiB``, ``1.5GB``, or plain bytes.

    Raises:
        ValueError: `text` is not a number with a known unit.
    """
    return _parse(text, units=_SIZES, example="512MiB, 2GB or 16777216 (bytes)")


def format_duration(duration_ns: int) -> str:
    """Return `duration_ns` in the unit that reads best: ``850ns``, ``1.5ms``, ``20s``."""
    for name, unit_ns in (("h", 60 * MINUTE), ("s", SECOND), ("ms", MS), ("us", US)):
        if abs(duration_ns) >= unit_ns:
            return f"{round(duration_ns / unit_ns, 3):g}{name}"
    return f"{duration_ns}ns"


def format_bytes(size_bytes: int) -> str:
    """Return `size_bytes` in the binary unit that reads best: ``16MiB``."""
    for name, unit in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size_bytes) >= unit:
            return f"{round(size_bytes / unit, 2):g}{name}"
    return f"{size_bytes}B"


def _parse(text: str, *, units: dict[str, int], example: str) -> int:
    match = _QUANTITY.fullmatch(text)
    unit = units.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"cannot read {text!r}: write it like {example}")
    number = match[1].replace("_", "")
    return round(float(number) * unit) if "." in number else int(number) * unit
