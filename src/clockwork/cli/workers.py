"""``clockwork workers`` and ``clear-cache``: a look at the workers of a running controller."""

from collections.abc import Sequence

import click
import msgspec

import clockwork
from clockwork.messages.models import GpuReport, WorkerReport
from clockwork.units import format_bytes


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document instead.")
def workers(address: str, is_json: bool) -> None:
    """Show the workers of a controller, their GPUs, and what is in their caches.

    This is what the controller believes; workers are not asked.
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
    for title, side in (
        ("worker", "right"), ("address", "left"), ("state", "left"), ("models", "right"),
        ("GPU", "right"), ("pages used", "right"), ("of", "right"), ("cache", "right"),
        ("warm", "right"), ("loading", "right"), ("open actions", "right"),
    ):  # fmt: skip
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    for report in reports:
        for row in rows_of(report):
            table.add_row(*row)
    Console(highlight=False).print(table)


def rows_of(report: WorkerReport) -> list[tuple[str, ...]]:
    """Return the cells of a worker's rows; its own stand in the first row only."""
    state = "connected" if report.is_connected else "not connected"
    worker = (str(report.worker_id), report.address or "-", state, str(report.model_count))
    gpus = [_gpu_cells(gpu, report.page_bytes) for gpu in report.gpus] or [("-",) * 7]
    return [(*(("",) * 4 if index else worker), *cells) for index, cells in enumerate(gpus)]


def _gpu_cells(gpu: GpuReport, page_bytes: int) -> tuple[str, ...]:
    return (
        str(gpu.gpu_id),
        str(gpu.pages - gpu.free_pages),
        str(gpu.pages),
        format_bytes(gpu.pages * page_bytes),
        str(len(gpu.warm)),
        str(len(gpu.loading)),
        str(gpu.open_actions),
    )
