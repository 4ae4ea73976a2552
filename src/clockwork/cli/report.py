"""``clockwork report``: what happened in a run, by its logs."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from clockwork.cli.duration import DURATION
from clockwork.telemetry.extras import extra
from clockwork.telemetry.report_text import report_text
from clockwork.telemetry.summary import Analysis

_BAR_FROM_BYTES: Final = 64 << 20
"""Logs from this size show a progress bar: half a second of reading."""

_FILE_COLUMNS: Final = 120
"""Width of tables that no terminal limits."""


@click.command()
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option("--json", "json_file", metavar="FILE", help="Write all figures as JSON; - is stdout.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw the plots into this directory, as PDF and PNG.",
)
@click.option(
    "--per-model",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Rows of the tables per model and per tenant.",
)
@click.option("--from", "from_ns", type=DURATION, default="0", help="Leave out the time before.")
@click.option("--to", "to_ns", type=DURATION, help="Leave out this time and what follows.")
@click.option("--bucket", "bucket_ns", type=DURATION, help="Width of buckets in plots over time.")
def report(
    logdir: Path,
    json_file: str | None,
    out: Path | None,
    per_model: int,
    from_ns: int,
    to_ns: int | None,
    bucket_ns: int | None,
) -> None:
    """Show what happened in a run, by the logs in LOGDIR.

    Prints goodput, SLO attainment, latency up to p99.99, cold starts, batch sizes, utilization
    and prediction errors, over all and per model and tenant. Times such as --from are counted
    from the begin of the logs and have a unit: 90s, 10m.
    """
    with extra("report", purpose="clockwork report"):
        from clockwork.telemetry import report as reader
        from clockwork.telemetry.log_reader import log_bytes

        if out is not None:
            from clockwork.telemetry import plots
    with reading_bar(log_bytes(logdir)) as progress:
        analysis = reader.read_report(
            logdir, from_ns=from_ns, to_ns=to_ns, bucket_ns=bucket_ns, progress=progress
        )
    if json_file is not None:
        _write_json(json_file, reader.to_json(analysis.report))
    if json_file != "-":
        _print(analysis, per_model)
    if out is not None:
        for path in plots.draw_all(analysis, out):
            click.echo(f"wrote {path}", err=json_file == "-")


@contextmanager
def reading_bar(size_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while logs are read, if they are long; yield what is told of bytes."""
    with Progress(
        TextColumn("reading logs"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=size_bytes < _BAR_FROM_BYTES,
    ) as bar:
        task = bar.add_task("reading", total=size_bytes)

        def advance(read_bytes: int) -> None:
            bar.advance(task, read_bytes)

        yield advance


def _write_json(file: str, data: bytes) -> None:
    if file == "-":
        sys.stdout.buffer.write(data)
    else:
        Path(file).write_bytes(data)


def _print(analysis: Analysis, per_model: int) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _FILE_COLUMNS
    console.print(report_text(analysis.report, per_model=per_model))
