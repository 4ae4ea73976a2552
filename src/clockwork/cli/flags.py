"""Command line flags out of tables of settings, and what every program does with them."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeVar

import click

from clockwork.errors import ConfigurationError
from clockwork.live.options import resolve_settings
from clockwork.live.settings import Kind, Origin, Setting, describe

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_LEVELS: Final = ("debug", "info", "warning", "error")


def with_settings(
    settings: tuple[Setting, ...], *, aliases: Mapping[str, Sequence[str]] | None = None
) -> Callable[[CommandT], CommandT]:
    """Return a decorator that adds a flag per setting, and the flags of all programs.

    Values stay text (None where not given): they are read and checked by `resolve_settings`,
    exactly as those of files and environment variables.

    Args:
        settings: one flag each.
        aliases: further flags by name of setting.
    """

    def decorate(function: CommandT) -> CommandT:
        for option in reversed(_COMMON):
            function = option(function)
        for setting in reversed(settings):
            function = _flag(setting, (aliases or {}).get(setting.name, ()))(function)
        return function

    return decorate


def read_settings(
    settings: tuple[Setting, ...],
    flags: Mapping[str, object],
    *,
    config: str | None,
    print_config: bool,
) -> list[Origin]:
    """Return the settings of a program; with `print_config`, print them and end the command.

    Raises:
        ConfigurationError: a value in any place is wrong.
    """
    origins = resolve_settings(settings, flags=flags, environ=os.environ, config=config)
    if print_config:
        click.echo(describe(origins))
        click.get_current_context().exit(0)
    return origins


def announce(origins: Sequence[Origin]) -> None:
    """Print the version, and the settings that are not the defaults."""
    click.echo(f"Clockwork {version('clockwork-serving')}")
    changed = [origin for origin in origins if origin.source != "default"]
    if changed:
        click.echo(describe(changed))


def start_logging(level: str) -> None:
    """Send log lines of at least `level` to stderr.

    Raises:
        ConfigurationError: there is no such level.
    """
    if level.lower() not in _LEVELS:
        raise ConfigurationError(f"log_level is {level!r}: choose one of {', '.join(_LEVELS)}")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(message)s")


def _flag(setting: Setting, aliases: Sequence[str]) -> Callable[[CommandT], CommandT]:
    short = ["-p"] if setting.name == "port" else []
    if setting.kind is Kind.SWITCH:
        # `--live` alone switches on; `--live 0` overrules a file.
        return click.option(
            setting.flag,
            setting.name,
            is_flag=False,
            flag_value="1",
            metavar=setting.kind.value,
            help=f"{setting.help}  [default: {setting.default}]",
        )
    shown = f"{setting.env} or {setting.default}" if setting.env else setting.default
    return click.option(
        *short,
        *aliases,
        setting.flag,
        setting.name,
        metavar=setting.kind.value,
        help=f"{setting.help}  [default: {shown}]" if shown else setting.help,
    )


_COMMON: Final = (
    click.option("-c", "--config", metavar="FILE", help="Configuration file, TOML or libconfig."),
    click.option("--print-config", is_flag=True, help="Show all settings and where each is from."),
    click.option("--parent", type=int, hidden=True, help="End when this process ends."),
)
