"""Named workloads that replay a trace of Azure Functions (SPEC 7.4)."""

from typing import Final

import msgspec

from clockwork.client.azure import (
    COPIES_BY_MEMORY_FACTOR,
    RESNETS_BY_MEMORY_FACTOR,
    WORKER_CAPACITY,
    ReplayOptions,
    Trace,
    in_blocks,
    in_turn,
    played,
    resampled,
)
from clockwork.client.named import NamedWorkload, Parameter, Setting, Values
from clockwork.client.workload import (
    COUNT_MAX,
    Knob,
    Ladder,
    ModelSet,
    Recorded,
    Step,
    TraceReplay,
    Workload,
)
from clockwork.errors import ConfigurationError
from clockwork.units import SECOND, format_duration

MODELS_WARNED: Final = 3100
"""More models than this did not fit the host memory of the original's machines."""
HALF_MODELS: Final = 3100
SMALL_COPIES: Final = 3

_TRACE: Final = Parameter("trace", "Day of the trace, 1 to 14.", int, 1, least=1)
_TRACE_FLAG: Final = msgspec.structs.replace(_TRACE, is_positional=False)
_MEMORY: Final = Parameter(
    "memory-load-factor", "How many models: 1 (few) to 4 (most).", int, 4, least=1
)
_REPLAY: Final = (
    Parameter("scale", "Multiplies all rates once more.", float, 1.0, is_positional=False),
    Parameter(
        "stretch",
        "Plays the trace so many times as long, with the same requests in total.",
        float,
        1.0,
        is_positional=False,
        least=1e-6,
    ),
    Parameter(
        "resample",
        "Makes so many functions of the trace's by seeded time shifts; 0: as recorded.",
        int,
        0,
        is_positional=False,
        most=COUNT_MAX,
    ),
    Parameter(
        "once", "Ends after one pass of the trace.", bool, default=False, is_positional=False
    ),
    Parameter(
        "exact",
        "Sends exactly the trace's counts at random instants of each interval.",
        bool,
        default=False,
        is_positional=False,
    ),
    Parameter(
        "trace-file",
        "A trace to replay instead of one of AZURE_TRACE_DIR.",
        str,
        "",
        is_positional=False,
    ),
)


def _azure(values: Values, setting: Setting) -> Workload:
    workers = values.integer("num-workers")
    options = _options(
        values,
        scale=values.number("load-factor") * WORKER_CAPACITY * workers,
        interval_s=values.integer("interval-s"),
        random_start=values.integer("randomise") != 0,
    )
    models, lines = _models(
        setting,
        memory_factor=values.integer("memory-load-factor"),
        use_all=values.integer("use-all") != 0,
    )
    load_factor = values.number("load-factor")
    about = f"Azure workload num_workers={workers} load_factor={load_factor:g} "
    notes = [f"{about}scale_factor={options.scale:g}", *lines]
    return _replay("azure", values, setting, options=options, models=models, notes=notes)


def _scalability(values: Values, setting: Setting) -> Workload:
    per_scale = WORKER_CAPACITY * values.integer("workers")
    start = values.number("min") * per_scale
    models, lines = _models(setting, memory_factor=values.integer("memfactor"), use_all=True)
    options = _options(values, scale=start)
    workload = _replay(
        "azure_scalability_exp", values, setting, options=options, models=models, notes=lines
    )
    scale = options.scale / options.stretch
    ladder = Ladder(
        knob=Knob.SCALE,
        streams=tuple(range(len(workload.streams))),
        period_ns=round(values.number("period") * SECOND),
        start=scale,
        step=Step.MULTIPLY,
        by=values.number("inc"),
        end=values.number("max") / values.number("min") * scale,
    )
    return Workload(workload.name, workload.models, workload.streams, (ladder,), workload.notes)


def _half(values: Values, setting: Setting) -> Workload:
    models = setting.spread(HALF_MODELS, setting.names)
    return _replay(
        "azure_half",
        values,
        setting,
        options=_options(values, scale=1.0),
        models=models,
        notes=_told(models),
    )


def _small(values: Values, setting: Setting) -> Workload:
    return _in_turn("azure_small", values, setting, _options(values, scale=1.0))


def _fast(values: Values, setting: Setting) -> Workload:
    options = _options(values, scale=1.0, interval_s=1, random_start=True)
    return _in_turn("azure_fast", values, setting, options)


def _single(values: Values, setting: Setting) -> Workload:
    trace = _trace(values, setting)
    busiest = Trace(trace.source, trace.period_ns, trace.functions[:1])
    options = _options(values, scale=1.0, interval_s=1)
    models = setting.copies(1)
    return Workload(
        "azure_single",
        models,
        in_turn(_arrivals(busiest, options), model_count=1),
        notes=(*_told(models), *_about(busiest, options)),
    )


def _options(
    values: Values, *, scale: float, interval_s: int | None = None, random_start: bool = False
) -> ReplayOptions:
    return ReplayOptions(
        scale=scale * values.number("scale"),
        stretch=values.number("stretch"),
        interval_ns=None if interval_s is None else interval_s * SECOND,
        random_start=random_start,
        once=values.flag("once"),
        exact=values.flag("exact"),
    )


def _trace(values: Values, setting: Setting) -> Trace:
    if setting.trace is None:
        raise ConfigurationError("this workload replays a trace: set AZURE_TRACE_DIR")
    if not setting.trace.functions:
        raise ConfigurationError(f"{setting.trace.source} has no functions")
    count = values.integer("resample")
    return resampled(setting.trace, count, setting.seed) if count else setting.trace


def _models(
    setting: Setting, *, memory_factor: int, use_all: bool
) -> tuple[tuple[ModelSet, ...], list[str]]:
    if memory_factor not in COPIES_BY_MEMORY_FACTOR:
        raise ConfigurationError(f"memory load factor is {memory_factor}, allowed: 1, 2, 3, 4")
    if use_all:
        names = setting.names
        models = setting.spread(len(names) * COPIES_BY_MEMORY_FACTOR[memory_factor], names)
    else:
        models = setting.copies(RESNETS_BY_MEMORY_FACTOR[memory_factor])
    return models, _told(models)


def _told(models: tuple[ModelSet, ...]) -> list[str]:
    """Return the lines that tell which models are used."""
    count = sum(model_set.copies for model_set in models)
    lines = [f"Using {count} models ({models[0].copies} copies of {len(models)} models)"]
    if count > MODELS_WARNED:
        lines.append(f"Warning: {count} models; more than {MODELS_WARNED} need much host memory")
    lines += [f"Loading {model_set.name} x{model_set.copies}" for model_set in models]
    return lines


def _about(trace: Trace, options: ReplayOptions) -> list[str]:
    """Return the lines that tell what is replayed and how."""
    first = trace.functions[0].arrivals
    lines = [f"Replaying trace {trace.source}"]
    if isinstance(first, TraceReplay):
        seconds = (options.interval_ns or first.interval_ns) * options.stretch / SECOND
        lines.append(f"{seconds:g} second intervals")
    period_ns = round(trace.period_ns * options.stretch)
    lines.append(
        f"{len(trace.functions)} functions, {trace.total} calls in {format_duration(period_ns)} "
        f"at scale 1"
    )
    return lines


def _arrivals(trace: Trace, options: ReplayOptions) -> list[TraceReplay | Recorded]:
    return [played(function, options) for function in trace.functions]


def _replay(
    name: str,
    values: Values,
    setting: Setting,
    *,
    options: ReplayOptions,
    models: tuple[ModelSet, ...],
    notes: list[str],
) -> Workload:
    """Return a workload that replays the trace on contiguous blocks of shuffled models."""
    trace = _trace(values, setting)
    count = sum(model_set.copies for model_set in models)
    streams = in_blocks(_arrivals(trace, options), model_count=count, seed=setting.seed)
    return Workload(name, models, streams, notes=(*notes, *_about(trace, options)))


def _in_turn(name: str, values: Values, setting: Setting, options: ReplayOptions) -> Workload:
    """Return a workload that replays the trace on three copies of each model, in turn."""
    trace = _trace(values, setting)
    models = setting.spread(SMALL_COPIES * len(setting.names), setting.names)
    count = sum(model_set.copies for model_set in models)
    streams = in_turn(_arrivals(trace, options), model_count=count)
    return Workload(name, models, streams, notes=(*_told(models), *_about(trace, options)))


AZURE: Final = (
    NamedWorkload(
        "azure",
        "a day of Azure Functions on many models (Figure 9)",
        "Loads copies of all zoo models (or of one) and replays the trace: functions sorted by "
        "popularity, contiguous blocks of them share a model, each function is its own tenant. "
        "The load is load-factor x 0.125 x num-workers times the trace.",
        _azure,
        (
            Parameter("num-workers", "Workers that the load is made for.", int, 1, least=1),
            Parameter("use-all", "1: all models of the zoo; 0: one.", int, 1),
            Parameter("load-factor", "Load of each worker, 1 for full.", float, 1.0),
            _MEMORY,
            Parameter("interval-s", "Seconds of an interval as it is played.", int, 60, least=1),
            _TRACE,
            Parameter("randomise", "1: starts each function anywhere in the trace.", int, 0),
            *_REPLAY,
        ),
        replays_trace=True,
    ),
    NamedWorkload(
        "azure_scalability_exp",
        "the same with a load that grows until it exceeds a maximum (Figure 11)",
        "Replays the trace on all zoo models. The load starts at min x 0.125 x workers, is "
        "multiplied by inc every period, and the run ends when it exceeds max x 0.125 x workers.",
        _scalability,
        (
            Parameter("workers", "Workers that the load is made for.", int, least=1),
            Parameter("min", "Load per worker to start with.", float, least=1e-9),
            Parameter("max", "Load per worker to end after.", float),
            Parameter("inc", "What the load is multiplied by.", float, least=1e-9),
            Parameter("period", "Seconds between changes.", float, least=0.001),
            Parameter("memfactor", "How many models: 1 (few) to 4 (most).", int, least=1),
            _TRACE_FLAG,
            *_REPLAY,
        ),
        replays_trace=True,
    ),
    NamedWorkload(
        "azure_half",
        "a trace at scale 1 on 3,100 models",
        "Replays the trace as recorded on 3,100 models, spread evenly over the zoo.",
        _half,
        (_TRACE_FLAG, *_REPLAY),
        replays_trace=True,
    ),
    NamedWorkload(
        "azure_small",
        "a trace at scale 1 on three copies of each model",
        "Replays the trace as recorded on three copies of each zoo model; function i asks for "
        "model i modulo their number.",
        _small,
        (_TRACE_FLAG, *_REPLAY),
        replays_trace=True,
    ),
    NamedWorkload(
        "azure_fast",
        "as azure_small, a minute of the trace in a second",
        "As azure_small with intervals of one second (rates stay, so there are a sixtieth of the "
        "requests), each function from a random place of the trace on.",
        _fast,
        (_TRACE_FLAG, *_REPLAY),
        replays_trace=True,
    ),
    NamedWorkload(
        "azure_single",
        "the busiest function of a trace on one model",
        "Replays the single busiest function with intervals of one second on one model.",
        _single,
        (_TRACE_FLAG, *_REPLAY),
        replays_trace=True,
    ),
)
"""In the order in which they are listed."""
