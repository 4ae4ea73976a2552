"""``clockwork trace``: makes synthetic traces, and tells what a trace looks like."""

from pathlib import Path

import click

from clockwork.client.trace_generator import DAY_MINUTES, generate
from clockwork.client.trace_statistics import describe as statistics_of
from clockwork.client.trace_statistics import lines_of
from clockwork.errors import ConfigurationError
from clockwork.live.trace_files import read_trace, write_trace


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def trace() -> None:
    """Make a synthetic trace of functions, or describe one."""


@trace.command("generate")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write, in the format of the 2019 data set.",
)
@click.option("--functions", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--minutes", type=click.IntRange(1), default=DAY_MINUTES, show_default=True)
@click.option(
    "--first-minute",
    type=click.IntRange(1, DAY_MINUTES),
    default=1,
    show_default=True,
    help="Of the day, at which the trace begins.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def generate_trace(out: Path, functions: int, minutes: int, first_minute: int, seed: int) -> None:
    """Write a synthetic trace with the statistics of the Azure Functions of 2019."""
    made = generate(functions=functions, minutes=minutes, seed=seed, first_minute=first_minute - 1)
    write_trace(made, out, first_minute=first_minute)
    for line in lines_of(statistics_of(made)):
        click.echo(line)
    silent = sum(not function.total for function in made.functions)
    unread = f"; {silent} functions are never called, and are left out when it is read"
    click.echo(f"Wrote {out}{unread if silent else ''}")


@trace.command("describe")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def describe_trace(file: Path) -> None:
    """Print what a trace of either published format looks like."""
    found = read_trace(file)
    if not found.functions:
        raise ConfigurationError(f"{file} has no calls")
    for line in lines_of(statistics_of(found)):
        click.echo(line)
