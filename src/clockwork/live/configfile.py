"""Configuration files: TOML of ours, and the part of libconfig that the original's files use.

A file ending in ``.toml`` is TOML; anything else is read as libconfig, whose root group must be
``WorkerConfig``. Both give the same flat mapping of full keys to raw values, so that
``memory_settings.io_pool_size`` means the same in both.

Source: clockwork: src/clockwork/config.cpp (keys and root group).
"""

import re
from pathlib import Path
from typing import Final

import msgspec

from clockwork.errors import ConfigurationError
from clockwork.live.settings import ConfigFile

LIBCONFIG_ROOT: Final = "WorkerConfig"


def read_config_file(path: str) -> ConfigFile:
    """Return the settings in the file at `path`.

    Raises:
        ConfigurationError: the file cannot be read or understood; the message says where.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read configuration file {path}: {error}") from None
    if path.endswith(".toml"):
        return ConfigFile(path=path, values=_read_toml(text, path))
    return ConfigFile(path=path, values=_read_libconfig(text, path))


def _read_toml(text: str, path: str) -> dict[str, object]:
    try:
        tree = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path} is no valid TOML: {error}") from None
    return _flatten(tree, "")


def _flatten(tree: dict[str, object], prefix: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _read_libconfig(text: str, path: str) -> dict[str, object]:
    tree = _Parser(text, path).read_groups()
    roots = sorted(tree)
    root = tree.get(LIBCONFIG_ROOT)
    if roots != [LIBCONFIG_ROOT] or not isinstance(root, dict):
        raise ConfigurationError(
            f"{path}: the root group must be {LIBCONFIG_ROOT}, not {', '.join(roots) or 'empty'}; "
            f"name the file .toml if it is TOML"
        )
    return _flatten(root, "")


# A comment of each of the three kinds, a string, a word or number, or a sign.
_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<word>[A-Za-z0-9_.+\-*]+)
      | (?P<sign>[{}=:;,])""",
    re.VERBOSE | re.DOTALL,
)
_INTEGER: Final = re.compile(r"([+-]?\d+|0[xX][0-9a-fA-F]+)L{0,2}")


class _Parser:
    """A reader of libconfig groups with scalar values; no lists, arrays or includes."""

    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._tokens = self._split(text)
        self._position = 0

    def read_groups(self) -> dict[str, object]:
        """Return the whole file as nested dictionaries."""
        tree = self._read_members()
        if self._position < len(self._tokens):
            raise self._error("a closing brace without its group")
        return tree

    def _split(self, text: str) -> list[tuple[int, str]]:
        tokens: list[tuple[int, str]] = []
        offset = 0
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            line = text.count("\n", 0, offset) + 1
            if match is None:
                raise ConfigurationError(f"{self._path}:{line}: cannot read {text[offset]!r}")
            if match.lastgroup != "skip":
                tokens.append((line, match.group()))
            offset = match.end()
        return tokens

    def _read_members(self) -> dict[str, object]:
        members: dict[str, object] = {}
        while self._position < len(self._tokens) and self._peek() != "}":
            name = self._take()
            if self._take() not in {"=", ":"}:
                raise self._error(f"expected = after {name}")
            members[name] = self._read_value()
            while self._peek() in {";", ","}:
                self._take()
        return members

    def _read_value(self) -> object:
        token = self._take()
        if token != "{":
            return self._read_scalar(token)
        group = self._read_members()
        if self._take() != "}":
            raise self._error("a group without its closing brace")
        return group

    def _read_scalar(self, token: str) -> object:
        if token.startswith('"'):
            return token[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        if token.lower() in {"true", "false"}:
            return token.lower() == "true"
        number = _INTEGER.fullmatch(token)
        if number is not None:
            return int(number[1], 0) if "x" in number[1].lower() else int(number[1])
        raise self._error(f"cannot read the value {token}")

    def _peek(self) -> str:
        return self._tokens[self._position][1] if self._position < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        if not token:
            raise self._error("the file ends too early")
        self._position += 1
        return token

    def _error(self, reason: str) -> ConfigurationError:
        last = min(max(self._position - 1, 0), len(self._tokens) - 1)
        line = self._tokens[last][0] if self._tokens else 1
        return ConfigurationError(f"{self._path}:{line}: {reason}")
