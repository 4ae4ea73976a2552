"""Named workloads on a small zoo and trace, and a world in which they run."""

from array import array

from client_stage import ClientWorld

from clockwork.client.azure import Trace, TraceFunction, ordered
from clockwork.client.catalogue import WORKLOADS
from clockwork.client.named import RESNET50, Setting, Value
from clockwork.client.workload import TraceReplay, Workload
from clockwork.units import MINUTE, MS, SECOND

ZOO = {name: f"/zoo/{name}" for name in ("alexnet", "densenet", RESNET50)}
TRACE = Trace(
    source="test trace",
    period_ns=4 * MINUTE,
    functions=ordered(
        [
            TraceFunction(f"f{index}", "http", 4 * count, TraceReplay(array("I", [count] * 4)))
            for index, count in enumerate((600, 60, 6000, 6, 0 + 1))
        ]
    ),
)
SLO_VALUES: dict[str, Value] = {
    "slo-start": 2,
    "slo-end": 30.0,
    "slo-factor": 1.5,
    "slo-op": "mul",
    "period": 5.0,
}
NEEDED: dict[str, dict[str, Value]] = {
    "simple-parametric": {"model-count": 5, "clients": 2, "concurrency": 3, "requests": 20},
    "poisson-open-loop": {"n": 4, "rate": 200.0},
    "scalability-exp-1": {
        "n": 2, "min": 10.0, "max": 35.0, "factor": 2.0, "op": "mul", "period": 1.0,
    },
    "gamma": {"n": 2, "rate": 100.0},
    "zipf": {"n": 10, "rate": 1000.0, "cold": 5},
    "slo-exp-1": {"model": RESNET50, "copies": 2, "dist": "poisson", "rate": 50.0, **SLO_VALUES},
    "slo-exp-2": {
        "model": RESNET50, "copies-fg": 2, "dist": "fixed-rate", "rate-fg": 50.0, **SLO_VALUES,
        "copies-bg": 3, "conc-bg": 4, "slo-bg": 0.0,
    },
    "azure_scalability_exp": {
        "workers": 8, "min": 0.1, "max": 0.3, "inc": 1.5, "period": 5.0, "memfactor": 1,
    },
    "bursty_experiment": {"n": 20},
}  # fmt: skip
"""Values for parameters without a default, and one that is smaller than the default."""


def made(name: str, *, chosen: tuple[str, ...] = (), seed: int = 0, **given: Value) -> Workload:
    """Return a named workload for the small zoo and trace above."""
    values = NEEDED.get(name, {}) | {key.replace("_", "-"): value for key, value in given.items()}
    setting = Setting(zoo=ZOO, chosen=chosen, trace=TRACE, seed=seed)
    return WORKLOADS[name].make(values, setting)


def played(name: str, seconds: float, **given: Value) -> ClientWorld:
    """Return a world in which a named workload has run."""
    return ClientWorld(made(name, **given), latency_ns=10 * MS).run(round(seconds * SECOND))


def per_second(world: ClientWorld, model: int, seconds: float) -> float:
    """Return the requests per second for one model."""
    return sum(send.model == model for send in world.sends) / seconds


def replays(workload: Workload) -> list[TraceReplay]:
    """Return the replays of a workload's streams; a stream of another kind is left out."""
    found = [stream.arrivals for stream in workload.streams]
    return [each for each in found if isinstance(each, TraceReplay)]
