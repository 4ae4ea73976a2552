"""Scenarios to begin with: a rack with some workload, and named ones that need nothing else.

The turns of processes are those of the live programs: the controller's loop takes what one read
brought, and the client wakes every 200 us to send what is due.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.azure import ReplayOptions, in_blocks, played
from clockwork.client.trace_generator import generate
from clockwork.client.workload import ModelSet, Poisson, Stream, Workload
from clockwork.controller.config import ControllerConfig
from clockwork.sim.profiles import published_zoo
from clockwork.sim.scenario import (
    Burst,
    CutConnection,
    DelayMessages,
    DropClient,
    FailExecutions,
    FailLoads,
    Fault,
    Hardware,
    KillWorker,
    Network,
    Partition,
    PauseController,
    RestartController,
    Scenario,
    SlowGpu,
    StallGpu,
    Turn,
)
from clockwork.units import MINUTE, MS, SECOND, US

CONTROLLER_TURN: Final = Turn(latency_ns=30 * US, event_ns=10 * US)
"""One core: some 100,000 events/s, of which a request has three (measured live)."""
CLIENT_TURN: Final = Turn(latency_ns=200 * US)
"""The live client's grain."""
GRACE_NS: Final = 60 * SECOND
"""How long a run may take beyond what its clients were told to send: startup, last answers."""
STARTUP_NS: Final = 3 * SECOND
"""Until the first request of a run: loading, the countdown of the load phase, a retry."""
FUNCTIONS_PER_MODEL: Final = 2
"""Of an Azure-like load (chosen: the published one has about 11 for 4,026 models, most of which
are never called within minutes)."""


class Size(Struct, frozen=True):
    """How large a named scenario is."""

    hardware: Hardware
    # Models in all, and requests per second in all.
    models: int
    rate_per_s: float
    duration_ns: int
    seed: int


def rack(
    name: str,
    workload: Workload,
    *,
    hardware: Hardware,
    duration_ns: int,
    seed: int,
    controller: ControllerConfig | None = None,
) -> Scenario:
    """Return a scenario in which one client runs `workload` on healthy workers."""
    return Scenario(
        name=name,
        seed=seed,
        hardware=hardware,
        network=Network(),
        controller_turn=CONTROLLER_TURN,
        client_turn=CLIENT_TURN,
        controller=controller or ControllerConfig(),
        workloads=(replace(workload, duration_ns=duration_ns),),
        restarts_clients=False,
        duration_ns=duration_ns + GRACE_NS,
    )


def steady(size: Size) -> Scenario:
    """Return a Poisson load, spread evenly over copies of one model."""
    models = ModelSet("resnet50_v2", published_zoo()["resnet50_v2"], size.models)
    stream = Stream(models=tuple(range(size.models)), arrivals=Poisson(size.rate_per_s))
    workload = Workload("steady", (models,), (stream,), seed=size.seed)
    return rack(
        "steady",
        workload,
        hardware=size.hardware,
        duration_ns=size.duration_ns,
        seed=size.seed,
    )


def azure(size: Size) -> Scenario:
    """Return a load like Azure Functions', spread over all models of the published table."""
    workload = azure_workload(
        models=size.models,
        rate_per_s=size.rate_per_s,
        duration_ns=size.duration_ns,
        seed=size.seed,
    )
    return rack(
        "azure-like",
        workload,
        hardware=size.hardware,
        duration_ns=size.duration_ns,
        seed=size.seed,
    )


def azure_workload(*, models: int, rate_per_s: float, duration_ns: int, seed: int) -> Workload:
    """Return a synthetic trace at a mean rate, on copies of all models of the published table."""
    minutes = max(1, -(-duration_ns // MINUTE))
    trace = generate(functions=FUNCTIONS_PER_MODEL * models, minutes=minutes, seed=seed)
    scale = rate_per_s * minutes * 60 / trace.total
    arrivals = [played(each, ReplayOptions(scale=scale)) for each in trace.functions]
    zoo = list(published_zoo().items())
    sets = tuple(
        ModelSet(name, path, models // len(zoo) + (index < models % len(zoo)))
        for index, (name, path) in enumerate(zoo)
    )
    return Workload(
        "azure-like",
        tuple(each for each in sets if each.copies),
        in_blocks(arrivals, model_count=models, seed=seed),
        notes=(f"{len(arrivals)} functions, {rate_per_s:g} requests/s on average",),
        seed=seed,
    )


def faults(size: Size) -> Scenario:
    """Return a steady load with one fault of each kind after the other, evenly over the run."""
    calm = steady(size)
    burst = replace(
        calm.workloads[0],
        name="burst",
        streams=(Stream(models=(0,), arrivals=Poisson(10 * size.rate_per_s)),),
        duration_ns=SECOND,
    )
    kinds: tuple[Callable[[int], Fault], ...] = (
        lambda at_ns: KillWorker(at_ns, 0, SECOND),
        lambda at_ns: CutConnection(at_ns, 1),
        lambda at_ns: Partition(at_ns, 1, 300 * MS),
        lambda at_ns: DelayMessages(at_ns, 0, 500 * MS, 5 * MS),
        lambda at_ns: StallGpu(at_ns, 0, 0, 200 * MS),
        lambda at_ns: SlowGpu(at_ns, 1, 0, SECOND, 3.0),
        lambda at_ns: FailExecutions(at_ns, 0, 0, 20),
        lambda at_ns: FailLoads(at_ns, 0, 0, 5),
        lambda at_ns: PauseController(at_ns, 100 * MS),
        lambda at_ns: Burst(at_ns, burst),
        lambda at_ns: DropClient(at_ns, 0, 100 * MS),
        lambda at_ns: RestartController(at_ns, 200 * MS),
    )
    step_ns = max(size.duration_ns - STARTUP_NS, 0) // (len(kinds) + 1)
    return replace(
        calm,
        name="faults",
        restarts_clients=True,
        faults=tuple(kind(STARTUP_NS + (index + 1) * step_ns) for index, kind in enumerate(kinds)),
        duration_ns=size.duration_ns,
    )


PRESETS: Final[Mapping[str, Callable[[Size], Scenario]]] = {
    "steady": steady,
    "azure-like": azure,
    "faults": faults,
}
"""Named scenarios."""
