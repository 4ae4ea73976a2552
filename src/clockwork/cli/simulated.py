"""Turns what was asked of ``clockwork simulate`` into a scenario."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.azure import Trace
from clockwork.client.catalogue import WORKLOADS, find_workload
from clockwork.client.named import NamedWorkload, Setting, Value
from clockwork.client.trace_generator import generate
from clockwork.client.workload import Workload
from clockwork.controller.config import ControllerConfig
from clockwork.errors import ConfigurationError
from clockwork.live.model_zoo import list_zoo
from clockwork.live.options import client_environment
from clockwork.live.trace_files import find_trace, read_trace
from clockwork.live.workload_files import read_workload_file
from clockwork.sim.presets import PRESETS, Size, rack
from clockwork.sim.profiles import published_zoo
from clockwork.sim.scenario import Hardware, Scenario
from clockwork.units import MINUTE

TRACE_FUNCTIONS: Final = 4_000
"""Functions of the synthetic trace that stands in for a missing one (chosen)."""


class Options(Struct, frozen=True, kw_only=True):
    """What the user asked for."""

    # A preset, or a named workload, and its parameters as NAME=VALUE.
    scenario: str
    parameters: Sequence[str]
    # A workload file instead.
    workload: Path | None
    seed: int
    duration_ns: int
    workers: int
    gpus: int
    models: int
    rate_per_s: float
    slo_ns: int


def scenario_of(options: Options) -> Scenario:
    """Return the scenario.

    Raises:
        ConfigurationError: there is no such scenario, or a parameter or file is wrong.
    """
    hardware = Hardware(workers=options.workers, gpus_per_worker=options.gpus)
    config = ControllerConfig(
        default_slo_ns=options.slo_ns, max_gpus=options.workers * options.gpus
    )
    if options.workload is None and options.scenario in PRESETS:
        if options.parameters:
            raise ConfigurationError(
                f"{options.scenario} takes no parameters: use --models, --rate and --duration"
            )
        size = Size(
            hardware=hardware,
            models=options.models,
            rate_per_s=options.rate_per_s,
            duration_ns=options.duration_ns,
            seed=options.seed,
        )
        return replace(PRESETS[options.scenario](size), controller=config)
    workload = _workload(options)
    return rack(
        workload.name,
        workload,
        hardware=hardware,
        duration_ns=options.duration_ns,
        seed=options.seed,
        controller=config,
    )


def _workload(options: Options) -> Workload:
    environment = client_environment(os.environ)
    zoo = list_zoo(environment.model_dir) if environment.model_dir else published_zoo()
    if options.workload is not None:
        return read_workload_file(options.workload, zoo=zoo, seed=options.seed)
    named = find_workload(options.scenario)
    if named is None:
        known = ", ".join([*PRESETS, *WORKLOADS])
        raise ConfigurationError(f"no scenario {options.scenario!r}; there are: {known}")
    given = _values(named, options.parameters)
    setting = Setting(
        zoo=zoo,
        trace=_trace(named, given, environment.azure_trace_dir, options),
        seed=options.seed,
    )
    return replace(named.make(given, setting), seed=options.seed)


def _values(named: NamedWorkload, parameters: Sequence[str]) -> dict[str, Value]:
    """Return the values of NAME=VALUE arguments, each of its parameter's kind."""
    kinds = {parameter.name: parameter.kind for parameter in named.parameters}
    values: dict[str, Value] = {}
    for text in parameters:
        name, _, value = text.partition("=")
        kind = kinds.get(name)
        if kind is None or not value:
            some = ", ".join(f"{each}=..." for each in kinds) or "none"
            raise ConfigurationError(f"cannot read {text!r}; {named.name} takes: {some}")
        try:
            values[name] = value.lower() in ("1", "true", "yes") if kind is bool else kind(value)
        except ValueError:
            raise ConfigurationError(f"{name} is {value!r}, expected: {kind.__name__}") from None
    return values


def _trace(
    named: NamedWorkload, given: dict[str, Value], directory: str | None, options: Options
) -> Trace | None:
    """Return the trace that a workload replays: the one asked for, or else a synthetic one."""
    if not named.replays_trace:
        return None
    file = given.get("trace-file")
    if file:
        return read_trace(Path(str(file)))
    if directory:
        return read_trace(find_trace(directory, int(given.get("trace", 1))))
    minutes = max(1, -(-options.duration_ns // MINUTE))
    return generate(functions=TRACE_FUNCTIONS, minutes=minutes, seed=options.seed)
