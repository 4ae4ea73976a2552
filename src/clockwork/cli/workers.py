"""``clockwork workers`` and ``clear-cache``: a look at the workers of a running controller."""

import sys
from collections.abc import Sequence
from typing import Final

import click
import msgspec

import clockwork
from clockwork.messages.models import GpuReport, WorkerReport
from clockwork.units import format_bytes

TITLES: Final = (
    "worker", "address", "state", "models", "GPU", "pages", "cache", "warm", "loading", "open",
)  # fmt: skip
"""Of the columns; pages are used/all, open are actions without a result."""
LEFT: Final = {"address", "state"}
WIDTH: Final = 160
"""Columns where there is no terminal."""


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document instead.")
def workers(address: str, is_json: bool) -> None:
    """Show the workers of a controller, their GPUs, and what is in their caches.

    This is what the controller believes; workers are not asked. Pages are used/all, open actions
    those without a result.
    """
    with clockwork.connect(address) as client:
        reports = client.workers()
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(reports)).decode())
        return
    print_table(reports)


@click.command("clear-cache")
@click.argument("address", metavar="HOST:PORT")
def clear_cache(address: str) -> None:
    """Evict the weights of all models from all GPUs.

    The models stay loaded: the next request for each is a cold start.
    """
    with clockwork.connect(address) as client:
        client.clear_cache()
    click.echo("all caches are empty")


def print_table(reports: Sequence[WorkerReport]) -> None:
    """Print a row per GPU, and one for each worker without any."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in TITLES:
        table.add_column(title, justify="left" if title in LEFT else "right")
    for report in reports:
        for row in rows_of(report):
            table.add_row(*row)
    # Who reads it from a pipe wants whole words.
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(table)


def rows_of(report: WorkerReport) -> list[tuple[str, ...]]:
    """Return the cells of a worker's rows; its own stand in the first row only."""
    state = "connected" if report.is_connected else "missing"
    worker = (str(report.worker_id), report.address or "-", state, str(report.model_count))
    gpus = [_gpu_cells(gpu, report.page_bytes) for gpu in report.gpus] or [("-",) * 6]
    return [(*(("",) * 4 if index else worker), *cells) for index, cells in enumerate(gpus)]


def _gpu_cells(gpu: GpuReport, page_bytes: int) -> tuple[str, ...]:
    return (
        str(gpu.gpu_id),
        f"{gpu.pages - gpu.free_pages}/{gpu.pages}",
        format_bytes(gpu.pages * page_bytes),
        str(len(gpu.warm)),
        str(len(gpu.loading)),
        str(gpu.open_actions),
    )
