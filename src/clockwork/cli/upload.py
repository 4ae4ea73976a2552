"""``clockwork upload``: a model directory of this machine for all workers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

import clockwork
from clockwork.units import format_bytes

LINE_STEP: Final = 0.25
"""Share of an upload after which there is a new line where no bar can be drawn."""

Progress = Callable[[int, int], None]


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("address", metavar="HOST:PORT")
@click.option("--name", help="What the model is called there; default: as DIR is.")
@click.option("--load", "is_loaded", is_flag=True, help="Load it, too.")
@click.option("--copies", type=click.IntRange(1), default=1, show_default=True,
              help="Models to make of it with --load.")  # fmt: skip
def upload(directory: Path, address: str, name: str | None, is_loaded: bool, copies: int) -> None:
    """Send a model directory to all workers that lack it.

    It arrives as a whole, with its checksums checked, or not at all. Afterwards it can be loaded
    by its name. Workers keep uploads in --upload-dir, or else in the first of --model-dirs that
    they may write.
    """
    with clockwork.connect(address) as client:
        with _progress() as progress:
            done = client.upload(directory, name=name, progress=progress)
        click.echo(describe(done.name, done.size_bytes, sent=done.sent_count, had=done.had_count))
        if is_loaded:
            model = client.load_model(done.name, copies)
            click.echo(f"loaded {model.model_id} {model.name}")


def describe(name: str, size_bytes: int, *, sent: int, had: int) -> str:
    """Return what an upload did, in one line."""
    text = f"{name} ({format_bytes(size_bytes)}): sent to {_workers(sent)}"
    return f"{text}, {_workers(had)} had it" if had else text


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield what shows how far an upload is: a bar in a terminal, else a few lines."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn()) as bar:
        task = bar.add_task("upload", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Prints a line whenever another quarter has arrived."""

    def __init__(self) -> None:
        self._next_share = LINE_STEP

    def __call__(self, done: int, total: int) -> None:
        share = done / total if total else 1.0
        if share >= self._next_share:
            self._next_share = share - share % LINE_STEP + LINE_STEP
            click.echo(f"{format_bytes(done)} of {format_bytes(total)} sent")
