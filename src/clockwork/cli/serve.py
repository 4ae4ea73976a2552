"""``clockwork serve``: models of this machine, served with one command."""

import asyncio
import signal
from pathlib import Path

import click

from clockwork.cli.duration import DURATION
from clockwork.live.processes import die_with_parent
from clockwork.live.serve import ServeConfig, Serving, find_offers
from clockwork.units import format_duration


@click.command()
@click.argument(
    "directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--host", default="0.0.0.0", show_default=True, help="Address for clients.")
@click.option(
    "-p", "--port", type=click.IntRange(0, 65535), default=12346, show_default=True,
    help="Port for clients; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--worker-port", type=click.IntRange(0, 65535), default=0, show_default=True,
    help="Port of the worker, on this machine only; 0 takes a free one.",
)  # fmt: skip
@click.option("--copies", type=click.IntRange(1), default=1, help="Models to make of each DIR.")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices.")
@click.option(
    "--cores", type=click.IntRange(1), default=1, show_default=True, help="CPU cores per device."
)
@click.option("--cache", metavar="SIZE", default="2GiB", show_default=True,
              help="Memory per device that holds weights.")  # fmt: skip
@click.option("--page", metavar="SIZE", help="Unit in which weights are placed.")
@click.option("--slo", type=DURATION, default="100ms", show_default=True,
              help="SLO of requests that name none.")  # fmt: skip
@click.option("--upload-dir", type=click.Path(path_type=Path),
              help="Folder for models that clients upload; made if it is not there.")  # fmt: skip
@click.option("--log-dir", type=click.Path(path_type=Path), help="Folder for the two logs.")
@click.option("--emulated", is_flag=True, help="Emulate GPUs instead of computing.")
@click.option("--parent", type=int, hidden=True)
def serve(
    directories: tuple[Path, ...],
    host: str,
    port: int,
    worker_port: int,
    copies: int,
    gpus: int,
    cores: int,
    cache: str,
    page: str | None,
    slo: int,
    upload_dir: Path | None,
    log_dir: Path | None,
    emulated: bool,
    parent: int | None,
) -> int:
    """Serve every model in DIR until stopped.

    DIR is a model directory, or a folder of them. Starts a controller and a worker on this
    machine, loads the models, and says when it is ready.
    """
    die_with_parent(parent)
    worker_arguments = [
        f"--gpus={gpus}",
        f"--cores-per-gpu={cores}",
        f"--weights-cache-size={cache}",
    ]
    if page is not None:
        worker_arguments.append(f"--weights-cache-page-size={page}")
    if upload_dir is not None:
        worker_arguments.append(f"--upload-dir={upload_dir}")
    controller_arguments = [f"--default-slo={slo}"]
    if log_dir is not None:
        log_dir.mkdir(parents=True, exist_ok=True)
        controller_arguments.append(f"--log-dir={log_dir}")
    config = ServeConfig(
        offers=find_offers(directories, copies=copies),
        host=host,
        port=port,
        worker_port=worker_port,
        is_emulated=emulated,
        worker_arguments=tuple(worker_arguments),
        controller_arguments=tuple(controller_arguments),
    )
    click.echo(f"Loading {len(config.offers)} models, default SLO {format_duration(slo)}")
    return asyncio.run(_serve(config))


async def _serve(config: ServeConfig) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    stopping = asyncio.ensure_future(stopped.wait())
    running = asyncio.ensure_future(_run(config))
    await asyncio.wait([stopping, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        stopping.cancel()
        await running
        return 1
    click.echo("Stopping")
    running.cancel()
    await asyncio.wait([running])
    return 0


async def _run(config: ServeConfig) -> None:
    """Serve until cancelled, or until a child dies, which raises."""
    async with Serving(config, _show) as serving:
        click.echo(f"Ready: {len(serving.models)} models at {serving.address}")
        await serving.wait()


def _show(name: str, line: str) -> None:
    click.echo(f"{name:<12} | {line}")
