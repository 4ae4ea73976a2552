"""The command ``clockwork``: a table of sub-commands, each imported only when it is used.

Why a table: ``clockwork --help`` and a mistyped word answer at once, without importing numpy, an
engine or a plotting library. A test proves that every line of the table agrees with its command.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Final

import click

from clockwork.cli.table import COMMANDS, SECTIONS
from clockwork.errors import ClockworkError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
"""128 plus SIGINT, as shells report it."""


class LazyGroup(click.Group):
    """A group whose commands come from `COMMANDS` and are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command called `cmd_name`, or None."""
        if cmd_name not in COMMANDS:
            return None
        row = COMMANDS[cmd_name]
        command = getattr(import_module(f"clockwork.cli.{row.module}"), row.attribute)
        assert isinstance(command, click.Command), f"{row.module}.{row.attribute} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any of them."""
        for section in SECTIONS:
            rows = [(name, row.help) for name, row in COMMANDS.items() if row.section == section]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(
    version("clockwork-serving"), "-V", "--version", message="clockwork %(version)s"
)
def clockwork() -> None:
    """Serve many models on few devices and keep every latency promise.

    Start with `clockwork serve DIR`, or see everything at work with `clockwork demo`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process: 0 done, 1 failed, 2 wrong usage.

    What a user can mend (a `ClockworkError`, a missing file) becomes one line on stderr; anything
    else is a bug and keeps its traceback.
    """
    if not __debug__:
        _complain("Clockwork checks itself with assertions: run Python without -O")
        sys.exit(EXIT_USAGE)
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        outcome = clockwork.main(arguments, prog_name="clockwork", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`| head`): nobody is there to be told.
        sys.stderr.close()
        return EXIT_FAILED
    except (ClockworkError, OSError) as error:
        _complain(str(error))
        return EXIT_FAILED
    return outcome if isinstance(outcome, int) else 0


def _complain(message: str) -> None:
    click.echo(f"error: {message}", err=True)
