"""Reads a TOML file so that every complaint about it can name its line.

TOML parsers forget where a value stood. The files here are simple (tables, arrays of tables,
keys at the start of a line), so a second look at the text finds the lines again. Where it does not
(a key within an inline table), the nearest key or table above is named.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from clockwork.errors import ConfigurationError

T = TypeVar("T")
Place = tuple[str, int]
"""A table: its name ("" for the top of the file) and its index among those of the name."""
TOP: Final[Place] = ("", 0)

KNOWN_MAX: Final = 20
"""Names listed in a message."""

_HEADER: Final = re.compile(r"\s*\[(\[?)\s*([\w-]+)\s*(?:\.\s*([\w.-]+)\s*)?\]\]?")
_KEY: Final = re.compile(r"""\s*["']?([\w.-]+?)["']?\s*=""")
_PATH: Final = re.compile(r" - at `\$\.?(.*)`$")
_AT: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`")


class TomlFile:
    """The tables of a file, and what is wrong with it so far."""

    def __init__(
        self,
        path: Path,
        read_custom: Callable[[type, Any], Any],
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Read `path`.

        Args:
            read_custom: makes values of types that TOML does not have; raises ValueError.
            choices: all values of keys that allow a few words, by key ("arrivals.kind").

        Raises:
            ConfigurationError: it cannot be read or is no TOML.
        """
        self._path = path
        self._read_custom = read_custom
        self._choices = choices or {}
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
        try:
            text = raw.decode()
            self.data: dict[str, Any] = tomllib.loads(text)
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigurationError(f"{path}:{line}: this is no TOML: it is not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(_as_complaint(path, text, str(error))) from None
        self._lines = _find_lines(text)
        # What is wrong, by line.
        self._problems: list[tuple[int, str]] = []

    def complain(self, place: Place, key: str, text: str) -> None:
        """Note that `key` of a table is wrong ("" for the table as a whole)."""
        names = key.split(".")
        tries = [(place, ".".join(names[:count])) for count in range(len(names), 0, -1)]
        line = next((self._lines[each] for each in tries if each in self._lines), None)
        if line is None:
            line = self._lines.get((place, ""), 1)
        self._problems.append((line, f"{key}: {text}" if key else text))

    def convert(self, place: Place, raw: object, kind: type[T]) -> T | None:
        """Return a table as a record, or None after complaining."""
        try:
            return msgspec.convert(raw, kind, dec_hook=self._read_custom)
        except msgspec.ValidationError as error:
            message = str(error)
            found = _PATH.search(message)
            key = re.sub(r"\[.*", "", found[1]) if found else ""
            message = _PATH.sub("", message)
            if field := _UNKNOWN.search(message):
                key = f"{key}.{field[1]}" if key else field[1]
                message = "unknown key" + _near(field[1], _fields(kind))
            elif message.startswith("Invalid"):
                message = unknown(_value_at(raw, key), self._choices.get(key, ()))
            elif message.startswith("Expected") and ", got" not in message:
                message += f", got {_value_at(raw, key)!r}"
            self.complain(place, key, message)
            return None

    def tables(self, name: str, *, least: int = 0) -> list[tuple[Place, object]]:
        """Return an array of tables with their places; complain if there are too few."""
        raw = self.data.get(name, [])
        if not isinstance(raw, list):
            self.complain(TOP, name, f"write each of the {name} as [[{name}]]")
            return []
        if len(raw) < least:
            self.complain(TOP, name, f"at least {least} [[{name}]] must be there")
        return [((name, index), each) for index, each in enumerate(raw)]

    def raise_problems(self) -> None:
        """Raise everything that is wrong as one error, a line each.

        Raises:
            ConfigurationError: something is wrong.
        """
        if self._problems:
            lines = [f"{self._path}:{line}: {text}" for line, text in sorted(self._problems)]
            raise ConfigurationError("\n".join(lines))


def unknown(value: object, known: Sequence[str]) -> str:
    """Return what to say about a name that is none of the known ones."""
    return f"there is no {value!r}{_near(str(value), known)}"


def _as_complaint(path: Path, text: str, message: str) -> str:
    """Return what a TOML parser says with the line where all other complaints have it."""
    found = _AT.search(message)
    line = int(found[1]) if found else max(1, len(text.splitlines()))
    return f"{path}:{line}: this is no TOML: {_AT.sub('', message)}"


def _near(value: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (known: {', '.join(known[:KNOWN_MAX])})" if known else ""


def _value_at(raw: object, key: str) -> object:
    """Return what stands at a key of a table; None if nothing does."""
    for name in key.split("."):
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw


def _fields(kind: type) -> list[str]:
    return list(kind.__struct_fields__) if issubclass(kind, msgspec.Struct) else []


def _find_lines(text: str) -> dict[tuple[Place, str], int]:
    """Return the line of each key and table (key "")."""
    lines: dict[tuple[Place, str], int] = {}
    counts: dict[str, int] = {}
    place, prefix = TOP, ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            is_array, name, rest = header.groups()
            if is_array and not rest:
                counts[name] = counts.get(name, -1) + 1
            place = (name, counts.get(name, 0))
            prefix = f"{rest}." if rest else ""
            lines.setdefault((place, rest or ""), number)
        elif key := _KEY.match(line):
            lines.setdefault((place, prefix + key[1]), number)
    return lines
