"""Settings of a program: read once, checked whole, with where each value came from.

Why apart: precedence is decided here and nowhere else. A flag wins over an environment variable,
that over the configuration file, that over the default. The programs get a finished record and
read neither environment nor file afterwards.

Not here: which settings there are (`clockwork.live.options`), how files are read
(`clockwork.live.configfile`).
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

from clockwork.errors import ConfigurationError
from clockwork.units import format_bytes, format_duration, parse_bytes, parse_duration_ns

Value = int | float | bool | str | tuple[str, ...]
"""What a setting can be once it is read."""


FROM_FILE: Final = "file "
"""How the source of a value from a file begins; its path follows."""


class Kind(Enum):
    """How a setting is written; the value is the placeholder that help texts show."""

    DURATION = "DURATION"
    BYTES = "SIZE"
    COUNT = "N"
    SWITCH = "0|1"
    TEXT = "TEXT"
    PATH = "PATH"
    PATHS = "PATH[:PATH]"


class Setting(Struct, frozen=True):
    """One setting of one program."""

    # With underscores, as in files; the flag has dashes instead.
    name: str
    kind: Kind
    # As a user would write it.
    default: str
    help: str
    # Section of the configuration file; empty for the top level.
    section: str
    env: str | None = None
    # Smallest value allowed, in ns, bytes or as a number.
    minimum: int = 0

    @property
    def key(self) -> str:
        """The setting's full name in a configuration file: ``memory_settings.io_pool_size``."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def flag(self) -> str:
        """The setting's name on the command line: ``--io-pool-size``."""
        return "--" + self.name.replace("_", "-")

    @property
    def field(self) -> str:
        """The setting's name in a record, with its unit: ``io_pool_size_bytes``."""
        return self.name + _FIELD_SUFFIX.get(self.kind, "")


class ConfigFile(Struct, frozen=True):
    """A configuration file as read: full keys and raw values."""

    path: str
    values: dict[str, object]


class Origin(Struct, frozen=True):
    """A setting's value, and where it came from."""

    setting: Setting
    value: Value
    source: str


def resolve(
    settings: Sequence[Setting],
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: ConfigFile | None = None,
) -> list[Origin]:
    """Return every setting's value by the rule of precedence, in the order of `settings`.

    Args:
        flags: raw values by setting name; None where the flag was not given.

    Raises:
        ConfigurationError: a value cannot be read or is too small; the message names its source.
    """
    return [_resolve_one(each, flags=flags, environ=environ, file=file) for each in settings]


def fields(origins: Iterable[Origin]) -> dict[str, Value]:
    """Return values by record field name, ready for ``msgspec.convert``."""
    return {origin.setting.field: origin.value for origin in origins}


def describe(origins: Sequence[Origin]) -> str:
    """Return the lines of ``--print-config``: key, value and source, aligned."""
    rows = [(each.setting.key, _show(each), each.source) for each in origins]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return "\n".join(
        f"{key:<{key_width}} = {value:<{value_width}}  # {source}" for key, value, source in rows
    )


def check_keys(file: ConfigFile, known: Iterable[str]) -> None:
    """Check that every key of `file` is one of `known`.

    Raises:
        ConfigurationError: a key is unknown; the message names it and the nearest known one.
    """
    allowed = sorted(known)
    for key in file.values:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(allowed)}"
            raise ConfigurationError(f"{file.path}: unknown key {key}; {hint}")


def _resolve_one(
    setting: Setting,
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: ConfigFile | None,
) -> Origin:
    raw: object = flags.get(setting.name)
    if raw is not None:
        return _read(setting, raw, f"flag {setting.flag}")
    if setting.env is not None and environ.get(setting.env):
        return _read(setting, environ[setting.env], f"environment {setting.env}")
    if file is not None and setting.key in file.values:
        return _read(setting, file.values[setting.key], f"{FROM_FILE}{file.path}")
    return _read(setting, setting.default, "default")


def _read(setting: Setting, raw: object, source: str) -> Origin:
    try:
        value = _READERS[setting.kind](raw)
    except ValueError as error:
        raise ConfigurationError(f"{setting.key} ({source}): {error}") from None
    if isinstance(value, int) and value < setting.minimum:
        limit = _show(Origin(setting=setting, value=setting.minimum, source=source))
        raise ConfigurationError(f"{setting.key} ({source}): {raw} is below {limit}, the smallest")
    return Origin(setting=setting, value=value, source=source)


def _read_duration(raw: object) -> int:
    return parse_duration_ns(_as_text(raw))


def _read_bytes(raw: object) -> int:
    return parse_bytes(_as_text(raw))


def _read_count(raw: object) -> int:
    text = _as_text(raw)
    if not text.isdecimal():
        raise ValueError(f"cannot read {text!r}: write a whole number")
    return int(text)


def _read_switch(raw: object) -> bool:
    text = _as_text(raw).lower()
    if text not in _SWITCHES:
        raise ValueError(f"cannot read {text!r}: write 1 or 0")
    return _SWITCHES[text]


def _read_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"cannot read {raw!r}: write a text in quotes")
    return raw


def _read_paths(raw: object) -> tuple[str, ...]:
    if isinstance(raw, list | tuple):
        return tuple(_read_text(each) for each in raw)
    return tuple(part for part in _read_text(raw).split(":") if part)


def _as_text(raw: object) -> str:
    if not isinstance(raw, str | int | float):
        raise ValueError(f"cannot read {raw!r}: write one value")
    return str(raw)


def _show(origin: Origin) -> str:
    value = origin.value
    if isinstance(value, bool):
        return "1" if value else "0"
    if origin.setting.kind is Kind.DURATION and isinstance(value, int):
        return format_duration(value)
    if origin.setting.kind is Kind.BYTES and isinstance(value, int):
        return format_bytes(value)
    return ":".join(value) if isinstance(value, tuple) else str(value)


_FIELD_SUFFIX: Final = {Kind.DURATION: "_ns", Kind.BYTES: "_bytes"}
_SWITCHES: Final = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}
_READERS: Final[dict[Kind, Callable[[object], Value]]] = {
    Kind.DURATION: _read_duration,
    Kind.BYTES: _read_bytes,
    Kind.COUNT: _read_count,
    Kind.SWITCH: _read_switch,
    Kind.TEXT: _read_text,
    Kind.PATH: _read_text,
    Kind.PATHS: _read_paths,
}
