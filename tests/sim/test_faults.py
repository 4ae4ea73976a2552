"""Each kind of fault does what it says, breaks no rule, and is over when it is over."""

from collections import Counter

import pytest

from clockwork.client.workload import ModelSet, Poisson, Stream, Workload
from clockwork.controller.config import ControllerConfig
from clockwork.messages.controller_io import (
    ClientLost,
    FromClient,
    FromWorker,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.requests import LoadModelRequest
from clockwork.sim.host import AnyHost, Kind
from clockwork.sim.profiles import made_up_path
from clockwork.sim.scenario import (
    AddModel,
    Burst,
    ClockError,
    CutConnection,
    DelayMessages,
    DriftClock,
    DropClient,
    EvictModel,
    FailExecutions,
    FailLoads,
    Fault,
    Hardware,
    KillWorker,
    LeaveWorker,
    Network,
    Partition,
    PauseController,
    RemoveModel,
    RestartController,
    Scenario,
    ShortMemory,
    SlowGpu,
    StallGpu,
)
from clockwork.sim.trial import Trial
from clockwork.units import MS, SECOND

AT_NS = 1_600 * MS
PATH = made_up_path(pages=4, exec_us=3_000)
BURST = Workload(
    "burst", (ModelSet("m", PATH),), (Stream((0,), Poisson(2_000.0)),), duration_ns=200 * MS
)


class Seen:
    """A tap that counts what crossed the controller's border, by kind, and failed results."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.controllers = 0

    def on_begin(self, host: AnyHost) -> None:
        """Count controllers."""
        self.controllers += host.kind is Kind.CONTROLLER

    def on_step(self, host: AnyHost, batch: object, effects: object, now_ns: int) -> None:
        """Count events of the controller."""
        if host.kind is not Kind.CONTROLLER:
            return
        assert isinstance(batch, list | tuple)
        for event in batch:
            self.events[type(event).__name__] += 1
            if isinstance(event, FromWorker):
                status = getattr(event.message, "status", None)
                if status is not None:
                    self.failures[status.name] += 1
            if isinstance(event, FromClient) and isinstance(event.message, LoadModelRequest):
                self.events["LoadModelRequest"] += 1

    def on_end(self, host: AnyHost) -> None:
        """Nothing."""


def run(*faults: Fault, clocks: tuple[ClockError, ...] = (), keeps_state: bool = False) -> Seen:
    """Hold a trial with these faults; return what was seen."""
    stream = Stream(models=tuple(range(12)), arrivals=Poisson(300.0))
    scenario = Scenario(
        name="faults",
        hardware=Hardware(workers=2, cache_pages=16),
        network=Network(dead_after_ns=300 * MS, redial_ns=50 * MS),
        clocks=clocks,
        keeps_state=keeps_state,
        controller=ControllerConfig(load_stage_timeout_ns=100 * MS),
        workloads=(Workload("steady", (ModelSet("m", PATH, 12),), (stream,)),),
        faults=faults,
        heal_at_ns=2_500 * MS,
        duration_ns=4 * SECOND,
    )
    seen = Seen()
    verdict = Trial(scenario, taps=[seen]).hold()
    assert verdict.error is None, "\n".join([str(verdict.error), *verdict.story])
    assert verdict.after[0].good > 100
    return seen


def test_without_faults_nothing_is_lost_or_fails() -> None:
    """The yardstick: two connections, one client, no failure."""
    seen = run()
    assert seen.events["WorkerConnected"] == 2
    assert not seen.events["WorkerLost"]
    assert not seen.failures


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (KillWorker(AT_NS, 0, 100 * MS), WorkerLost),
        (CutConnection(AT_NS, 0), WorkerLost),
        (Partition(AT_NS, 0, 600 * MS), WorkerLost),
        (LeaveWorker(AT_NS, 0, 100 * MS), WorkerLeaving),
        (DropClient(AT_NS, 0, 100 * MS), ClientLost),
    ],
)
def test_what_breaks_is_noticed_and_comes_back(fault: Fault, kind: type) -> None:
    """The controller is told once, and worker or client are there again later."""
    seen = run(fault)
    assert seen.events[kind.__name__] >= 1
    back = seen.events["LoadModelRequest"] if kind is ClientLost else seen.events["WorkerConnected"]
    assert back == (2 if kind is ClientLost else 3), seen.events


def test_a_short_partition_breaks_no_connection() -> None:
    """What was held back arrives late, which actions do not survive but connections do."""
    seen = run(Partition(AT_NS, 0, 100 * MS))
    assert not seen.events["WorkerLost"]
    assert seen.failures


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (FailExecutions(AT_NS, 0, 0, 5), "RUNTIME_ERROR"),
        (FailLoads(AT_NS, 0, 0, 2), "RUNTIME_ERROR"),
        (StallGpu(AT_NS, 0, 0, 300 * MS), "EXEC_TOO_LATE"),
        (DelayMessages(AT_NS, 0, 200 * MS, 30 * MS), "EXEC_TOO_LATE"),
    ],
)
def test_what_devices_and_messages_suffer_shows_in_results(fault: Fault, status: str) -> None:
    """Actions fail with the status of their trouble, and the system goes on."""
    assert run(fault).failures[status]


@pytest.mark.parametrize(
    "fault",
    [
        SlowGpu(AT_NS, 0, 0, 300 * MS, 3.0),
        PauseController(AT_NS, 200 * MS),
        Burst(AT_NS, BURST),
        DriftClock(AT_NS, 0, 200),
        EvictModel(AT_NS, 0),
    ],
)
def test_the_system_lives_with(fault: Fault) -> None:
    """Slowness, pauses, bursts, drift and evictions break no rule."""
    run(fault)


def test_models_come_and_go() -> None:
    """A model that was added is unloaded; one that is nowhere is refused; memory is short once."""
    seen = run(
        AddModel(AT_NS, PATH, 2),
        AddModel(AT_NS, "nowhere", 1),
        ShortMemory(AT_NS + 100 * MS, 0, 1),
        AddModel(AT_NS + 200 * MS, PATH, 1),
        RemoveModel(AT_NS + 300 * MS),
    )
    assert seen.events["LoadModelRequest"] == 4
    assert seen.failures["INVALID_MODEL_PATH"] >= 1


@pytest.mark.parametrize("keeps_state", [False, True])
def test_a_controller_is_replaced(keeps_state: bool) -> None:
    """The new one finds the workers, and the client comes back."""
    seen = run(RestartController(AT_NS, 50 * MS), keeps_state=keeps_state)
    assert seen.controllers == 2
    assert seen.events["WorkerConnected"] == 4


def test_wrong_clocks_change_nothing() -> None:
    """Windows and timings are translated at the border, however far a clock is off."""
    seen = run(clocks=(ClockError(5 * SECOND, 50), ClockError(-3 * SECOND, -50)))
    assert not seen.failures
