"""Named workloads to try things out and to find limits: SPEC 7.3 up to `scalability-exp-1`.

Also those that later papers use: `gamma`, `zipf` and `on-off`.
"""

from typing import Final

from clockwork.client.named import RESNET50, NamedWorkload, Parameter, Setting, Values
from clockwork.client.workload import (
    COUNT_MAX,
    Arrivals,
    BurstyClosed,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    Knob,
    Ladder,
    ModelSet,
    OnOff,
    Poisson,
    Step,
    Stream,
    Workload,
)
from clockwork.units import MS, SECOND

MODELS: Final = Parameter("n", "How many models (copies) to load.", int, least=1, most=COUNT_MAX)
RATE: Final = Parameter("rate", "Requests per second, all models together.", float, least=0.001)


def each_model(count: int, arrivals: Arrivals) -> tuple[Stream, ...]:
    """Return one stream per model, all with the same kind of arrivals, each its own tenant."""
    return tuple(
        Stream(models=(model,), arrivals=arrivals, user_id=model) for model in range(count)
    )


def _example(values: Values, setting: Setting) -> Workload:
    kinds: tuple[Arrivals, ...] = (
        FixedRate(5),
        Poisson(10),
        BurstyOpen(rate_per_s=10, burst_ns=10 * SECOND, idle_ns=20 * SECOND),
        ClosedLoop(1),
        BurstyClosed(concurrency=1, burst_ns=10 * SECOND, idle_ns=20 * SECOND),
    )
    models = tuple(ModelSet(name, setting.path_of(name)) for name in setting.names)
    streams = [
        Stream(models=(model,), arrivals=arrivals, user_id=model * len(kinds) + kind)
        for model in range(len(models))
        for kind, arrivals in enumerate(kinds)
    ]
    return Workload("example", models, tuple(streams))


def _fill_memory(values: Values, setting: Setting) -> Workload:
    rates = [1000.0] + [10.0] * 10 + [1.0] * 400
    streams = tuple(
        Stream(models=(model,), arrivals=Poisson(rate), user_id=model)
        for model, rate in enumerate(rates)
    )
    return Workload("fill_memory", setting.copies(len(rates)), streams)


def _spam(values: Values, setting: Setting) -> Workload:
    models = setting.copies(100, values.text("model"))
    return Workload("spam", models, each_model(100, ClosedLoop(100)))


def _single_spam(values: Values, setting: Setting) -> Workload:
    return Workload("single-spam", setting.copies(100), each_model(100, ClosedLoop(1000)))


def _simple(values: Values, setting: Setting) -> Workload:
    streams = tuple(Stream(models=(model,), arrivals=ClosedLoop(1)) for model in range(2))
    return Workload("simple", setting.copies(2), streams)


def _simple_slo_factor(values: Values, setting: Setting) -> Workload:
    steps = ((4.0, Step.MULTIPLY, 1.25), (4.0, Step.ADD, 1.0), (10.0, Step.TOGGLE, 1.0))
    streams = tuple(
        Stream(models=(model,), arrivals=ClosedLoop(1), user_id=model, slo_factor=start)
        for model, (start, _, _) in enumerate(steps)
    )
    ladders = tuple(
        Ladder(
            knob=Knob.SLO_FACTOR,
            streams=(model,),
            period_ns=10 * SECOND,
            start=start,
            step=step,
            by=by,
        )
        for model, (start, step, by) in enumerate(steps)
    )
    return Workload("simple-slo-factor", setting.copies(3), streams, ladders)


def _simple_parametric(values: Values, setting: Setting) -> Workload:
    count, clients = values.integer("model-count"), values.integer("clients")
    group = -(-count // clients)
    arrivals = ClosedLoop(values.integer("concurrency"), values.integer("requests"))
    streams = tuple(
        Stream(models=tuple(range(first, min(first + group, count))), arrivals=arrivals, user_id=i)
        for i, first in enumerate(range(0, count, group))
    )
    return Workload("simple-parametric", setting.copies(count), streams)


def _poisson_open_loop(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    streams = each_model(count, Poisson(values.number("rate") / count))
    return Workload("poisson-open-loop", setting.copies(count), streams)


def _scalability_exp_1(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    start = values.number("min") / count
    step = Step(values.text("op"))
    factor = values.number("factor")
    ladder = Ladder(
        knob=Knob.RATE,
        streams=tuple(range(count)),
        period_ns=round(values.number("period") * SECOND),
        start=start,
        step=step,
        by=factor / count if step is Step.ADD else factor,
        end=values.number("max") / count,
    )
    streams = each_model(count, Poisson(start))
    return Workload("scalability-exp-1", setting.copies(count), streams, (ladder,))


def _gamma(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    arrivals = Gamma(rate_per_s=values.number("rate") / count, variation=values.number("cv"))
    return Workload("gamma", setting.copies(count), each_model(count, arrivals))


def zipf_weights(count: int, *, exponent: float, cold: int, cold_share: float) -> tuple[float, ...]:
    """Return how popular each of `count` models is: Zipf, then `cold` equally rare ones.

    Args:
        cold_share: of all requests, how many go to the cold tail.
    """
    hot = count - cold
    ranks = [rank**-exponent for rank in range(1, hot + 1)]
    hot_share = 1.0 - cold_share if cold else 1.0
    scale = hot_share / sum(ranks) if ranks else 0.0
    return tuple(rank * scale for rank in ranks) + (cold_share / max(cold, 1),) * cold


def _zipf(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    weights = zipf_weights(
        count,
        exponent=values.number("exponent"),
        cold=min(values.integer("cold"), count - 1),
        cold_share=min(values.number("cold-share"), 1.0),
    )
    stream = Stream(
        models=tuple(range(count)), arrivals=Poisson(values.number("rate")), weights=weights
    )
    return Workload("zipf", setting.copies(count), (stream,))


def _on_off(values: Values, setting: Setting) -> Workload:
    count = values.integer("n")
    arrivals = OnOff(
        small=values.integer("small"),
        large=values.integer("large"),
        delay_ns=round(values.number("delay") * MS),
        period_ns=round(values.number("period") * MS),
    )
    return Workload("on-off", setting.copies(count), each_model(count, arrivals))


BASIC: Final = (
    NamedWorkload(
        "example",
        "every kind of arrivals on every model of the zoo",
        "Loads each model of the zoo once. Each gets five tenants: 5 requests/s at a fixed rate, "
        "10/s Poisson, 10/s Poisson in bursts (10 s on, 20 s off on average), a closed loop with "
        "one request in flight, and such a loop in bursts.",
        _example,
    ),
    NamedWorkload(
        "fill_memory",
        "411 models: one hot, ten warm, 400 that are rarely asked for",
        "Loads 411 models with Poisson arrivals: the first 1,000 requests/s, the next ten 10/s, "
        "the other 400 1/s each.",
        _fill_memory,
    ),
    NamedWorkload(
        "spam",
        "100 models with 100 requests in flight each",
        "Loads 100 models, each with a closed loop of 100 requests in flight.",
        _spam,
        (Parameter("model", "Name of the model in the zoo.", str, RESNET50),),
    ),
    NamedWorkload(
        "single-spam",
        "100 models with 1,000 requests in flight each",
        "Loads 100 models, each with a closed loop of 1,000 requests in flight.",
        _single_spam,
    ),
    NamedWorkload(
        "simple",
        "two models with one request in flight each",
        "Loads two models, each with a closed loop of one request in flight; both belong to "
        "tenant 0. The first thing to try.",
        _simple,
    ),
    NamedWorkload(
        "simple-slo-factor",
        "three models whose SLO changes every 10 s",
        "Loads three models, each with one request in flight. Every 10 s the SLO of the first "
        "(from 4 times its execution time) grows by a quarter, that of the second (from 4) by 1, "
        "and that of the third changes between 10 and 1.",
        _simple_slo_factor,
    ),
    NamedWorkload(
        "simple-parametric",
        "closed loops over groups of models that end by themselves",
        "Loads the models and divides them among the clients in groups. Each client is a closed "
        "loop over its group, model after model, and ends after its requests.",
        _simple_parametric,
        (
            Parameter(
                "model-count", "How many models (copies) to load.", int, least=1, most=COUNT_MAX
            ),
            Parameter("clients", "How many closed loops.", int, least=1, most=COUNT_MAX),
            Parameter(
                "concurrency", "Requests in flight of each client.", int, least=1, most=COUNT_MAX
            ),
            Parameter("requests", "Requests of each client in all.", int, least=1),
        ),
    ),
    NamedWorkload(
        "poisson-open-loop",
        "n models with Poisson arrivals at a total rate",
        "Loads n models; each gets Poisson arrivals at its share of the rate.",
        _poisson_open_loop,
        (MODELS, RATE),
    ),
    NamedWorkload(
        "scalability-exp-1",
        "Poisson arrivals on n models at a growing rate",
        "Loads n models with Poisson arrivals. The total rate starts at min, changes every "
        "period, and the run ends when it exceeds max.",
        _scalability_exp_1,
        (
            MODELS,
            Parameter("min", "Requests per second to start with.", float, least=0.001),
            Parameter("max", "Requests per second to end after.", float, least=0.001),
            Parameter("factor", "What is added, or multiplied by.", float),
            Parameter("op", "How the rate grows.", str, choices=("add", "mul")),
            Parameter("period", "Seconds between changes.", float, least=0.001),
        ),
    ),
    NamedWorkload(
        "gamma",
        "n models with Gamma arrivals of a chosen burstiness",
        "Loads n models; each gets its share of the rate with Gamma-distributed gaps. A "
        "coefficient of variation of 1 is Poisson; 8 comes in clusters with long silences.",
        _gamma,
        (
            MODELS,
            RATE,
            Parameter("cv", "Coefficient of variation of the gaps.", float, 4.0, least=0.1),
        ),
    ),
    NamedWorkload(
        "zipf",
        "one Poisson stream over n models of Zipf popularity, with a cold tail",
        "Loads n models. One Poisson process sends all requests and draws the model of each: "
        "popularity falls with rank to the power of the exponent; the last models form a cold "
        "tail that shares a small part of the requests evenly.",
        _zipf,
        (
            MODELS,
            RATE,
            Parameter("exponent", "How steeply popularity falls.", float, 1.0),
            Parameter("cold", "How many of the models are cold.", int, 0),
            Parameter(
                "cold-share", "Share of the requests for all cold ones, 0 to 1.", float, 0.01
            ),
        ),
    ),
    NamedWorkload(
        "on-off",
        "an adversary: a large batch just after a small one has started",
        "Loads n models. Once per period each sends a small batch, and a large one shortly after "
        "the small one has started: whoever runs at once makes the large batch wait, whoever "
        "waits to batch is late for the small one.",
        _on_off,
        (
            Parameter("n", "How many models (copies) to load.", int, 1, least=1, most=COUNT_MAX),
            Parameter("small", "Requests in the small batch.", int, 1, least=1, most=COUNT_MAX),
            Parameter("large", "Requests in the large batch.", int, 16, least=1, most=COUNT_MAX),
            Parameter("delay", "Milliseconds from one to the other.", float, 1.0),
            Parameter("period", "Milliseconds between small batches.", float, 100.0, least=0.01),
        ),
    ),
)
"""In the order in which they are listed."""
