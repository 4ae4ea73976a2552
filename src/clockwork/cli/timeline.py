"""``clockwork timeline``: the actions of a run as a trace that viewers open."""

from pathlib import Path

import click

from clockwork.cli.duration import DURATION
from clockwork.cli.report import reading_bar
from clockwork.telemetry.extras import extra


@click.command()
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="trace.json.gz",
    show_default=True,
    help="The file to write; compressed if its name ends in .gz.",
)
@click.option("--from", "from_ns", type=DURATION, default="0", help="Leave out the time before.")
@click.option("--to", "to_ns", type=DURATION, help="Leave out this time and what follows.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Actions at most, the first ones of the window.",
)
def timeline(logdir: Path, out: Path, from_ns: int, to_ns: int | None, limit: int) -> None:
    """Export the actions of a run, by the logs in LOGDIR, as a trace.

    Open the file with https://ui.perfetto.dev or chrome://tracing. It has a track for what each
    GPU executes and loads, with predictions beside measurements, and an arrow from each request
    to the batch that answered it. Times such as --from are counted from the begin of the logs.
    """
    with extra("report", purpose="clockwork timeline"):
        from clockwork.telemetry import trace_file
        from clockwork.telemetry.log_reader import log_bytes
    with reading_bar(log_bytes(logdir)) as progress:
        counts = trace_file.write_trace(
            logdir, out, from_ns=from_ns, to_ns=to_ns, limit=limit, progress=progress
        )
    click.echo(
        f"wrote {out}: {counts.actions:,} actions, {counts.requests:,} requests, "
        f"{counts.linked:,} of them with an arrow to their batch"
    )
    if counts.is_cut:
        click.echo(
            f"there are more: --limit ended the trace after {limit:,} actions; choose a window "
            "with --from and --to"
        )
