"""``clockwork controller``: the process that decides everything."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from clockwork.cli.flags import announce, read_settings, start_logging, with_settings
from clockwork.cli.roles import journaled
from clockwork.controller.config import ControllerConfig
from clockwork.controller.policies.registry import POLICIES
from clockwork.errors import ConfigurationError
from clockwork.live.addresses import parse_addresses
from clockwork.live.options import CONTROLLER, POSITIONAL, ControllerSettings, controller_settings
from clockwork.live.processes import die_with_parent
from clockwork.telemetry.journal import Header

if TYPE_CHECKING:
    from clockwork.live.controller_program import ControllerProgramConfig
    from clockwork.live.state_keeper import StateKeeper

WORKER_PORT: Final = 12345
SWITCH_INTERVAL_S: Final = 100e-6
"""How long a thread may keep the GIL when another wants it; as in the worker."""


@click.command()
@click.argument("type_", metavar="TYPE")
@click.argument("workers", metavar="HOST:PORT[,HOST:PORT]|-")
@click.argument("positional", metavar="[OPTION]...", nargs=-1)
@with_settings(CONTROLLER)
def controller(
    type_: str,
    workers: str,
    positional: tuple[str, ...],
    config: str | None,
    print_config: bool,
    parent: int | None,
    **flags: object,
) -> int:
    """Run a controller for one or more workers.

    Workers are dialled at HOST:PORT; `-` dials none and waits for those that join (clockwork
    worker --join).

    TYPE is INFER4 (keeps deadlines), ECHO (answers at once, to measure the network) or DIRECT
    (forwards everything to the first worker, to debug it). The original's options by position
    still work, in their order: generate_inputs max_gpus schedule_ahead default_slo max_exec
    max_batch; plain numbers are nanoseconds.
    """
    from clockwork.live.controller_program import ControllerProgramConfig, run_controller
    from clockwork.live.process import say
    from clockwork.live.scheduling import answer_promptly, take_precedence
    from clockwork.live.state_keeper import StateKeeper
    from clockwork.telemetry.log_files import LogFiles

    die_with_parent(parent)
    if type_ not in POLICIES:
        raise click.UsageError(f"Invalid controller type {type_}; there are {', '.join(POLICIES)}")
    given = _with_positional(flags, positional)
    origins = read_settings(CONTROLLER, given, config=config, print_config=print_config)
    settings = controller_settings(origins)
    start_logging(settings.log_level)
    announce(origins)
    # Before any thread starts, which would keep what this process has now.
    take_precedence()
    answer_promptly()
    program = ControllerProgramConfig(
        workers=() if workers == "-" else parse_addresses(workers, default_port=WORKER_PORT),
        host=settings.host,
        port=settings.port,
        interval_ns=settings.interval_ns,
    )
    state = None
    if settings.state:
        state = StateKeeper(Path(settings.state), [str(each) for each in program.workers], say)
    header = _header(type_, settings, program, state)
    _greet(settings)
    # Threads that draw or write must not keep the event loop waiting for Python's 5 ms.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with journaled(header, settings.journal) as role:
        run = partial(
            run_controller, program, role, sinks=[LogFiles(Path(settings.log_dir))], state=state
        )
        if not settings.live or not sys.stdout.isatty():
            return run()
        from clockwork.telemetry.live_table import LiveTable, controller_table

        with LiveTable() as table:
            return run(display=lambda figures, lag: table.show(controller_table(figures, lag)))


def _header(
    policy: str,
    settings: ControllerSettings,
    program: "ControllerProgramConfig",
    state: "StateKeeper | None",
) -> Header:
    """Return how the role is to be made."""
    return Header(
        policy=policy,
        worker_count=len(program.workers),
        config=_role_config(settings),
        remembered=state.remembered if state is not None else None,
        makes_inputs=settings.generate_inputs,
        compresses_inputs=settings.compress_inputs,
        worker_addresses=tuple(map(str, program.workers)),
    )


def _with_positional(flags: dict[str, object], positional: tuple[str, ...]) -> dict[str, object]:
    """Return `flags` with the options that were given by position."""
    if len(positional) > len(POSITIONAL):
        names = " ".join(setting.name for setting in POSITIONAL)
        raise click.UsageError(f"{len(positional)} options after WORKERS, at most: {names}")
    given = dict(flags)
    for setting, value in zip(POSITIONAL, positional, strict=False):
        if given[setting.name] is not None:
            raise ConfigurationError(
                f"{setting.name} is given twice: {value} by position and {setting.flag} "
                f"{given[setting.name]}"
            )
        given[setting.name] = value
    return given


def _role_config(settings: ControllerSettings) -> ControllerConfig:
    return ControllerConfig(
        default_slo_ns=settings.default_slo_ns,
        schedule_ahead_ns=settings.schedule_ahead_ns,
        max_gpus=settings.max_gpus,
        max_exec_ns=settings.max_exec_ns,
        max_batch=settings.max_batch,
        load_stage_timeout_ns=settings.load_stage_timeout_ns,
        buffer_ns=settings.buffer_ns,
        is_model_set_fixed=settings.fixed_models,
        profile_models=settings.profile_models,
    )


def _greet(settings: ControllerSettings) -> None:
    """Print the original's first lines."""
    click.echo("Starting Clockwork Controller")
    click.echo(f"Logging requests to {settings.log_dir}/clockwork_request_log.tsv")
    click.echo(f"Logging actions to {settings.log_dir}/clockwork_action_log.tsv")
    click.echo("ConcurrentInferAndLoadScheduler using:")
    for name, value in (
        ("default_slo", settings.default_slo_ns),
        ("latest_delta", settings.schedule_ahead_ns),
        ("schedule_ahead", settings.schedule_ahead_ns),
        ("max_allowable_exec_time", settings.max_exec_ns),
        ("max_batch_size", settings.max_batch),
        ("generate_inputs", int(settings.generate_inputs)),
        ("max_gpus", settings.max_gpus),
    ):
        click.echo(f"\t{name}={value}")
