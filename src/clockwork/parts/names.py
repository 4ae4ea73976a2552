"""Which names that come over the network may become names of files and directories.

One rule for models and for the files in them: no separators, no dots at the beginning, nothing
that a shell or another system would take for more than a name.
"""

import re
from typing import Final

NAME_MAX: Final = 128
"""Longest name in characters: half of what file systems take, so that endings can follow."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def is_file_name(name: str) -> bool:
    """Return whether `name` may become the name of a file."""
    return len(name) <= NAME_MAX and _NAME.fullmatch(name) is not None


def explain_name(name: str) -> str:
    """Return why `name` may not become the name of a file, and what may."""
    return (
        f"{name[:NAME_MAX]!r} is no name for a model or its files: use up to {NAME_MAX} letters, "
        "digits and _ . + - and begin with a letter, a digit or _"
    )
