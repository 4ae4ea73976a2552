"""``clockwork worker`` and ``clockwork worker_dummy``: processes that carry out actions."""

from collections.abc import Sequence

import click

from clockwork.cli.flags import announce, read_settings, start_logging, with_settings
from clockwork.live.options import WORKER, WORKER_DUMMY, worker_settings
from clockwork.live.processes import die_with_parent
from clockwork.live.settings import FROM_FILE, Origin, Setting


@click.command()
@with_settings(WORKER)
def worker(config: str | None, print_config: bool, parent: int | None, **flags: object) -> int:
    """Run a worker that computes on this machine.

    It loads nothing by itself, waits for a controller, and runs until it is stopped.
    """
    return _run(WORKER, flags, config, print_config, parent)


@click.command()
@with_settings(WORKER_DUMMY, aliases={"gpus": ("-n", "--num_gpus")})
def worker_dummy(
    config: str | None, print_config: bool, parent: int | None, **flags: object
) -> int:
    """Run a worker that emulates GPUs.

    It needs no GPU and no weights: actions take as long as the models' measurements say, and
    outputs are zeros.
    """
    return _run(WORKER_DUMMY, flags, config, print_config, parent)


def _run(
    table: tuple[Setting, ...],
    flags: dict[str, object],
    config: str | None,
    print_config: bool,
    parent: int | None,
) -> int:
    from clockwork.live.worker_program import run_worker

    die_with_parent(parent)
    origins = read_settings(table, flags, config=config, print_config=print_config)
    settings = worker_settings(origins)
    start_logging(settings.log_level)
    announce(origins)
    for line in config_lines(origins):
        click.echo(line)
    return run_worker(settings, is_emulated=table is WORKER_DUMMY)


def config_lines(origins: Sequence[Origin]) -> list[str]:
    """Return the original's lines about its configuration: the file, and what it overwrites."""
    lines = ["Loading Clockwork worker default config (built in)"]
    from_file = [origin for origin in origins if origin.source.startswith(FROM_FILE)]
    if from_file:
        path = from_file[0].source.removeprefix(FROM_FILE)
        lines.append(f"Overriding default config using values in {path}")
        lines += [f" {origin.setting.key} = {origin.value}" for origin in from_file]
    return lines
