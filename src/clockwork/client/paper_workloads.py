"""Named workloads of the paper's experiments that need no trace (SPEC 7.3, 7.5)."""

from array import array
from typing import Final

from clockwork.client.basic_workloads import each_model
from clockwork.client.named import RESNET50, NamedWorkload, Parameter, Setting, Values
from clockwork.client.workload import (
    COUNT_MAX,
    Arrivals,
    ClosedLoop,
    FixedRate,
    Knob,
    Ladder,
    ModelSet,
    Poisson,
    Step,
    Stream,
    TraceReplay,
    Workload,
)
from clockwork.units import SECOND

BACKGROUND_DELAY_NS: Final = 10 * SECOND
MAJORS_MAX: Final = 10_000
"""Chosen: counts of so many models over as many intervals are 400 MB."""
LEAD_IN: Final = 300
"""Intervals of a second before the first major model of `bursty_experiment`."""
MAJOR_PER_MINUTE: Final = 60_000
MINOR_PER_S: Final = 200.0
MODELS_PER_LOAD: Final = 100

_DIST: Final = Parameter("dist", "Arrivals.", str, choices=("poisson", "fixed-rate"))
_SLO: Final = (
    Parameter("slo-start", "SLO to start with, in execution times of the model.", int, least=1),
    Parameter("slo-end", "The run ends when the SLO exceeds this.", float),
    Parameter("slo-factor", "What is added, or multiplied by.", float),
    Parameter("slo-op", "How the SLO grows.", str, choices=("add", "mul")),
    Parameter("period", "Seconds between changes.", float, least=0.001),
)


def _foreground(values: Values, copies: int, rate: float) -> tuple[tuple[Stream, ...], Ladder]:
    """Return streams at a total rate, and the ladder of their SLOs."""
    kind = Poisson if values.text("dist") == "poisson" else FixedRate
    arrivals: Arrivals = kind(rate / copies)
    start = float(values.integer("slo-start"))
    streams = tuple(
        Stream(models=(model,), arrivals=arrivals, user_id=model, slo_factor=start)
        for model in range(copies)
    )
    ladder = Ladder(
        knob=Knob.SLO_FACTOR,
        streams=tuple(range(copies)),
        period_ns=round(values.number("period") * SECOND),
        start=start,
        step=Step(values.text("slo-op")),
        by=values.number("slo-factor"),
        end=values.number("slo-end"),
    )
    return streams, ladder


def _slo_exp_1(values: Values, setting: Setting) -> Workload:
    copies = values.integer("copies")
    streams, ladder = _foreground(values, copies, values.number("rate"))
    models = setting.copies(copies, values.text("model"))
    return Workload("slo-exp-1", models, streams, (ladder,))


def _slo_exp_2(values: Values, setting: Setting) -> Workload:
    copies, copies_bg = values.integer("copies-fg"), values.integer("copies-bg")
    name = values.text("model")
    streams, ladder = _foreground(values, copies, values.number("rate-fg"))
    background = tuple(
        Stream(
            models=(model,),
            arrivals=ClosedLoop(values.integer("conc-bg")),
            user_id=model,
            slo_factor=values.number("slo-bg"),
            start_after_ns=BACKGROUND_DELAY_NS,
        )
        for model in range(copies, copies + copies_bg)
    )
    models = setting.copies(copies, name) + setting.copies(copies_bg, name)
    return Workload("slo-exp-2", models, streams + background, (ladder,))


def _comparison(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    streams = each_model(count, Poisson(values.number("rps") / count))
    return Workload("comparison_experiment", setting.copies(count), streams)


def _comparison_2(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    streams = each_model(count, ClosedLoop(values.integer("conc")))
    return Workload("comparison_experiment2", setting.copies(count), streams)


def _bursty(values: Values, setting: Setting) -> Workload:
    majors = values.integer("n")
    streams = [
        Stream(
            models=(model,),
            arrivals=TraceReplay(counts=_major_counts(model, majors), interval_ns=SECOND),
            user_id=model,
        )
        for model in range(majors)
    ]
    streams.append(Stream(models=(majors,), arrivals=Poisson(MINOR_PER_S), user_id=majors))
    models: list[ModelSet] = []
    notes: list[str] = []
    for first in range(0, majors, MODELS_PER_LOAD):
        end = min(first + MODELS_PER_LOAD, majors)
        models.extend(setting.copies(end - first))
        notes.append(f"Loading {first}:{end}")
    models.extend(setting.copies(1))
    shown = [*range(min(5, majors)), *range(max(5, majors - 6), majors)]
    for model in shown:
        counts = streams[model].arrivals
        assert isinstance(counts, TraceReplay), "majors replay counts"
        text = " ".join(str(count) for count in counts.counts[LEAD_IN : LEAD_IN + majors][:10])
        notes.append(f"Model {model} counts after {LEAD_IN} zeros: {text} ...")
    return Workload("bursty_experiment", tuple(models), tuple(streams), notes=tuple(notes))


def _major_counts(model: int, majors: int) -> "array[int]":
    """Return the counts of one major model: its share of each interval from its own on.

    In interval k (from 1) the first k models are active; what does not divide evenly goes to the
    first of them.
    """
    shares = (divmod(MAJOR_PER_MINUTE, active) for active in range(model + 1, majors + 1))
    counts = array("I", bytes(4 * (LEAD_IN + model)))
    counts.extend(share + (model < rest) for share, rest in shares)
    return counts


PAPER: Final = (
    NamedWorkload(
        "slo-exp-1",
        "a total rate on some models whose SLO grows (Figure 7)",
        "Loads copies of a model, each with its share of the rate. The SLO starts at slo-start "
        "execution times, grows every period, and the run ends when it exceeds slo-end.",
        _slo_exp_1,
        (
            Parameter("model", "Name of the model in the zoo.", str),
            Parameter("copies", "How many of it to load.", int, least=1, most=COUNT_MAX),
            _DIST,
            Parameter("rate", "Requests per second, all copies together.", float, least=0.001),
            *_SLO,
        ),
    ),
    NamedWorkload(
        "slo-exp-2",
        "the same beside closed loops without tight SLOs (Figure 8)",
        "As slo-exp-1 for the foreground models (tenants 0 to copies-fg - 1). Beside them, from "
        "10 s on, background models have conc-bg requests in flight each (tenants from copies-fg "
        "on).",
        _slo_exp_2,
        (
            Parameter("model", "Name of the model in the zoo.", str),
            Parameter("copies-fg", "Foreground models to load.", int, least=1, most=COUNT_MAX),
            _DIST,
            Parameter("rate-fg", "Requests per second, all of these together.", float, least=0.001),
            *_SLO,
            Parameter("copies-bg", "Background models to load; 0: none.", int, most=COUNT_MAX),
            Parameter("conc-bg", "Requests in flight of each.", int, most=COUNT_MAX),
            Parameter("slo-bg", "Their SLO in execution times; 0: the default SLO.", float),
        ),
    ),
    NamedWorkload(
        "comparison_experiment",
        "n models with Poisson arrivals at a total rate",
        f"Loads n copies of {RESNET50} with Poisson arrivals at rps requests/s together.",
        _comparison,
        (
            Parameter("n", "How many models (copies) to load.", int, 15, least=1, most=COUNT_MAX),
            Parameter("rps", "Requests per second, all together.", float, 1000.0, least=0.001),
        ),
    ),
    NamedWorkload(
        "comparison_experiment2",
        "n models with some requests in flight each (Figure 5)",
        f"Loads n copies of {RESNET50}, each with a closed loop.",
        _comparison_2,
        (
            Parameter("n", "How many models (copies) to load.", int, 15, least=1, most=COUNT_MAX),
            Parameter("conc", "Requests in flight of each.", int, 16, least=1, most=COUNT_MAX),
        ),
    ),
    NamedWorkload(
        "bursty_experiment",
        "a second more, a model more: 1,000 requests/s over ever more models (Figure 6)",
        "Loads n major models and a minor one. After 300 s the first major model gets 1,000 "
        "requests/s; every second one more model joins and the same rate is spread over all that "
        "are active. The minor model gets 200 requests/s throughout.",
        _bursty,
        (Parameter("n", "How many major models.", int, 3600, least=1, most=MAJORS_MAX),),
    ),
)
"""In the order in which they are listed."""
