"""``clockwork client``: runs a workload against a controller.

The workloads are commands of their own, made from the catalogue: every parameter is an argument,
as in the original, and a flag.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from clockwork.cli.duration import DURATION
from clockwork.client.catalogue import WORKLOADS, find_workload
from clockwork.client.named import NamedWorkload, Parameter, Setting, Value
from clockwork.client.workload import Stream, Workload
from clockwork.live.addresses import Address, parse_address
from clockwork.live.load_generator import RunOptions, run_client
from clockwork.live.model_zoo import list_zoo
from clockwork.live.options import ClientEnvironment, client_environment
from clockwork.live.trace_files import find_trace, read_trace
from clockwork.live.workload_files import read_workload_file

DEFAULT_PORT: Final = 12346
EXIT_UNKNOWN: Final = 1
"""As the original for a workload that does not exist."""

_HELP_FLAGS: Final = ("-h", "--help")
_CONTEXT: Final = {"help_option_names": list(_HELP_FLAGS), "max_content_width": 100}
_TYPES: Final[dict[type[Value], "click.ParamType[Any]"]] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
    bool: click.BOOL,
}


class ClientCommand(click.Command):
    """``client HOST:PORT WORKLOAD ...``, where each workload has its own parameters."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave all arguments to `client`, which knows how to read them."""
        ctx.args = args
        return []

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, and the workloads."""
        super().format_help_text(ctx, formatter)
        with formatter.section("Workloads"):
            formatter.write_dl([(each.name, each.summary) for each in WORKLOADS.values()])
        with formatter.section("Options of all workloads"):
            records = [each.get_help_record(ctx) for each in _common_options()]
            formatter.write_dl([record for record in records if record is not None])
        with formatter.section("Environment"):
            formatter.write_dl(_ENVIRONMENT)


@click.command(
    cls=ClientCommand,
    context_settings=_CONTEXT,
    options_metavar="HOST:PORT WORKLOAD [PARAMETERS] [OPTIONS]",
)
@click.pass_context
def client(ctx: click.Context) -> int:
    """Run a workload against a controller.

    Write `clockwork client HOST:PORT WORKLOAD [PARAMETERS] [OPTIONS]` for one of the workloads
    below, or `clockwork client HOST:PORT --workload FILE [OPTIONS]` for a workload file.
    `clockwork client HOST:PORT WORKLOAD -h` explains a workload.
    """
    args = list(ctx.args)
    if any(arg in _HELP_FLAGS for arg in args[:2]) and not find_workload(args[0]):
        click.echo(ctx.get_help())
        return 0
    if args and (named := find_workload(args[0])) is not None:
        # Without an address there is nothing to run, but something to explain.
        return _run(_command(named, None), ctx, ["-h"])
    if len(args) < 2:
        return _complain(ctx, "HOST:PORT and a workload are needed.")
    rest = args[1:]
    address = parse_address(args[0], default_port=DEFAULT_PORT)
    if rest[0].startswith("-"):
        return _run(_file_command(address), ctx, rest)
    named = find_workload(rest[0])
    if named is None:
        return _complain(ctx, f"Unknown workload: {rest[0]}")
    return _run(_command(named, address), ctx, rest[1:])


def _complain(ctx: click.Context, message: str) -> int:
    """Say what is wrong, and how it is right."""
    path = ctx.command_path
    click.echo(
        f"{message}\n\nUsage: {path} HOST:PORT WORKLOAD [PARAMETERS] [OPTIONS]\n"
        f"Workloads: {', '.join(WORKLOADS)}\n"
        f"{path} -h explains them.",
        err=True,
    )
    return EXIT_UNKNOWN


def _run(command: click.Command, ctx: click.Context, args: Sequence[str]) -> int:
    name = "HOST:PORT" if command.name == ctx.info_name else f"HOST:PORT {command.name}"
    with command.make_context(name, list(args), parent=ctx) as child:
        outcome = command.invoke(child)
    return outcome if isinstance(outcome, int) else 0


def _command(named: NamedWorkload, address: Address | None) -> click.Command:
    """Return the command that runs a named workload."""

    def run(**values: Any) -> int:
        assert address is not None, "only helped without an address"
        given = {
            each.name: value
            for each in named.parameters
            if (value := _value_of(each, values)) is not None
        }
        return _run_named(named, given, address, values)

    positional = [each for each in named.parameters if each.is_positional]
    return click.Command(
        named.name,
        callback=run,
        params=[
            *(_argument(each) for each in positional),
            *(_option(each) for each in named.parameters),
            *_common_options(),
        ],
        help=named.help,
        context_settings=_CONTEXT,
    )


def _file_command(address: Address) -> click.Command:
    """Return the command that runs a workload file."""

    def run(**values: Any) -> int:
        if values["workload"] is None:
            raise click.UsageError("Name a workload (before its options), or give --workload FILE.")
        environment = client_environment(os.environ)
        zoo = list_zoo(environment.model_dir) if environment.model_dir else {}
        workload = read_workload_file(values["workload"], zoo=zoo, seed=values["seed"])
        return _play(workload, address, environment, values)

    option = click.Option(
        ["--workload"],
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A workload in TOML.",
    )
    return click.Command(
        "client",
        callback=run,
        params=[option, *_common_options()],
        context_settings=_CONTEXT,
    )


def _run_named(
    named: NamedWorkload, given: dict[str, Value], address: Address, values: dict[str, Any]
) -> int:
    environment = client_environment(os.environ)
    zoo = list_zoo(environment.model_dir)
    trace = None
    if named.replays_trace:
        file = given.get("trace-file")
        day = int(given.get("trace", 1))
        path = Path(str(file)) if file else find_trace(environment.azure_trace_dir, day)
        trace = read_trace(path)
    setting = Setting(
        zoo=zoo,
        chosen=tuple(filter(None, (values["models"] or "").split(","))),
        trace=trace,
        seed=values["seed"] or 0,
    )
    workload = named.make(given, setting)
    found = f"Found {len(zoo)} models in {environment.model_dir}"
    workload = msgspec.structs.replace(workload, notes=(found, *workload.notes), seed=setting.seed)
    return _play(workload, address, environment, values)


def _play(
    workload: Workload, address: Address, environment: ClientEnvironment, values: dict[str, Any]
) -> int:
    """Run a workload with what the common options say."""
    if values["duration"] is not None:
        workload = msgspec.structs.replace(workload, duration_ns=values["duration"])
    if values["warm_up"] is not None:
        workload = msgspec.structs.replace(workload, warm_up_ns=values["warm_up"])
    if values["slo"] is not None:
        streams = tuple(_with_slo(stream, values["slo"]) for stream in workload.streams)
        workload = msgspec.structs.replace(workload, streams=streams)
    options = RunOptions(
        address=address,
        sends_inputs=not environment.are_inputs_disabled,
        compresses_inputs=values["compress"],
        interval_ns=values["interval"],
        reconnect_ns=values["reconnect"],
        unloads=values["unload"],
        throttles=not values["no_throttle"],
        json_path=values["json"],
    )
    return run_client(workload, options)


def _with_slo(stream: Stream, slo_ns: int) -> Stream:
    """Return `stream` with an SLO, unless it has one of its own."""
    if stream.slo_factor or stream.slo_ns:
        return stream
    return msgspec.structs.replace(stream, slo_ns=slo_ns)


def _value_of(parameter: Parameter, values: dict[str, Any]) -> Value | None:
    """Return what was given for a parameter, by position or by flag; None: neither."""
    by_flag: Value | None = values[_variable(parameter)]
    by_position: Value | None = values.get(f"at_{_variable(parameter)}")
    if by_flag is not None and by_position is not None:
        raise click.UsageError(
            f"{parameter.name} is given twice: {by_position} by position and "
            f"--{parameter.name} {by_flag}"
        )
    return by_flag if by_flag is not None else by_position


def _argument(parameter: Parameter) -> click.Argument:
    return click.Argument(
        [f"at_{_variable(parameter)}"],
        required=False,
        type=_type(parameter),
        metavar=f"[{parameter.name.upper().replace('-', '_')}]",
    )


def _option(parameter: Parameter) -> click.Option:
    if parameter.kind is bool:
        return click.Option(
            [f"--{parameter.name}", _variable(parameter)],
            is_flag=True,
            default=None,
            help=parameter.help,
        )
    default = "needed" if parameter.default is None else f"default: {parameter.default}"
    return click.Option(
        [f"--{parameter.name}", _variable(parameter)],
        type=_type(parameter),
        help=f"{parameter.help}  [{default if parameter.default != '' else 'default: none'}]",
    )


def _type(parameter: Parameter) -> "click.ParamType[Any]":
    return click.Choice(parameter.choices) if parameter.choices else _TYPES[parameter.kind]


def _variable(parameter: Parameter) -> str:
    return parameter.name.replace("-", "_") + "_value"


def _common_options() -> list[click.Option]:
    return [
        click.Option(
            ["--duration"], type=DURATION, help="Send for so long (60s, 5m); default: no end."
        ),
        click.Option(
            ["--warm-up"], type=DURATION, help="Send so long before counting (5s); default: 0."
        ),
        click.Option(["--seed"], type=click.IntRange(0), help="Of everything random; default: 0."),
        click.Option(
            ["--slo"],
            type=DURATION,
            help="SLO where the workload gives none (100ms); default: the controller's.",
        ),
        click.Option(
            ["--models"],
            metavar="NAME,...",
            help="Use these models of the zoo instead of the workload's own.",
        ),
        click.Option(
            ["--interval"],
            type=DURATION,
            default="10s",
            show_default=True,
            help="Time between lines on the console.",
        ),
        click.Option(["--compress"], is_flag=True, help="Send inputs as LZ4 blocks."),
        click.Option(
            ["--reconnect"],
            type=DURATION,
            default="30s",
            show_default=True,
            help="Dial again for so long when the connection breaks; 0s: end the run then.",
        ),
        click.Option(
            ["--no-throttle"],
            is_flag=True,
            help="Send everything, even to a controller that says that it is overloaded.",
        ),
        click.Option(["--unload"], is_flag=True, help="Unload the models of the run at its end."),
        click.Option(
            ["--json"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the summary to a file as JSON, too.",
        ),
    ]


_ENVIRONMENT: Final = [
    ("CLOCKWORK_MODEL_DIR", "The model zoo: a directory of model directories."),
    ("CLOCKWORK_DISABLE_INPUTS", "1: send requests without inputs."),
    ("AZURE_TRACE_DIR", "Directory with the Azure Functions traces."),
]
