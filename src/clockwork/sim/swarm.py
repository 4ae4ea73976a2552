"""Draws scenarios from seeds: every option of a run, and what goes wrong in it.

Theory (swarm testing): a run with a little of everything finds less than many runs with much of
some things. So each seed first draws which kinds of faults it has at all, then how many; and a
quarter of the seeds has none, which is where the promises of an undisturbed system are judged.

Same seed, same scenario, for ever: options are drawn in a fixed order, and new ones are added at
the end.

Source of the idea: TigerBeetle's VOPR.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.workload import (
    Arrivals,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    ModelSet,
    Poisson,
    Stream,
    Workload,
)
from clockwork.controller.config import ControllerConfig
from clockwork.sim.checkers import Subject, Violation
from clockwork.sim.judge_answers import Counts
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
    Noise,
    Partition,
    PauseController,
    RemoveModel,
    RestartController,
    Scenario,
    ShortMemory,
    SlowGpu,
    StallGpu,
    Turn,
)
from clockwork.sim.trial import Trial, Verdict
from clockwork.sim.world import MakeController, MakeWorker, make_controller, make_worker
from clockwork.units import MS, SECOND, US

HEAL_NS: Final = 3 * SECOND
"""When everything is mended."""
DURATION_NS: Final = 7 * SECOND
"""When clients stop. A controller that starts anew and loads models, and a client that asks again
after a second, have 2.5 s until goodput must have returned."""
QUIET_NS: Final = SECOND
"""No fault before: by then everything has been loaded and serves."""
FAULTS_MAX: Final = 12
RECOVERY: Final = "after healing the goodput returns to that of an undisturbed run"
RECOVERED_LOSS_MAX: Final = 0.1
"""How much smaller than the undisturbed run's the share of requests answered in time may be, at the
end of a run, over all tenants in the undisturbed run's proportions (chosen)."""
RECOVERED_RATIO_MIN: Final = 0.5
"""Least share of a tenant's requests in time, relative to the undisturbed run's (chosen: copies of
models lie elsewhere after faults, which favours some tenants over others for good)."""
STEADY_SHARE_MIN: Final = 0.75
"""Least share of a tenant in the undisturbed run from which it counts as starved below that ratio
(chosen: with less, its SLO is at the edge of what can be met, and may fall on either side)."""
ANSWERED_RATIO_MIN: Final = 0.3
"""Least number of answers relative to the undisturbed run's (chosen). Numbers differ by more than
shares: a closed loop on two copies of a model is slower than on three. Streams that come in bursts
are left out: a client that was begun anew has other bursts, and other silences."""
COMPARED_MIN: Final = 100
"""Requests below which shares say nothing."""

SLOS_NS: Final = (0, 0, 10 * MS, 25 * MS, 50 * MS, 250 * MS, 500 * MS)
"""SLOs as durations; 0 leaves it to the factor, and that to the controller's default."""

Draw = Callable[[Random, int, str], Fault]
"""Draws a fault: from a generator, an instant, and the path of a model."""


class Outcome(Struct, frozen=True):
    """One seed's scenario and verdict."""

    seed: int
    scenario: Scenario
    verdict: Verdict


def hold_seed(
    seed: int,
    *,
    checks_roles: bool = True,
    make_controller: MakeController = make_controller,
    make_worker: MakeWorker = make_worker,
) -> Outcome:
    """Run the scenario of a seed, and its undisturbed twin if it was disturbed."""
    scenario = draw(seed)

    def trial_of(each: Scenario, *, checks: bool) -> Trial:
        return Trial(
            each,
            checks_roles=checks,
            make_controller=make_controller,
            make_worker=make_worker,
        )

    trial = trial_of(scenario, checks=checks_roles)
    verdict = trial.hold()
    if verdict.error is None and scenario.faults:
        # The twin is a yardstick only: that it keeps the rules is judged by seeds without faults.
        twin = trial_of(replace(scenario, faults=()), checks=False).hold()
        error = _recovery_error(scenario, verdict, twin)
        if error is not None:
            verdict = replace(verdict, error=error, story=trial.story(error))
    return Outcome(seed, scenario, verdict)


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    rng = Random(f"swarm:{seed}")
    hardware = Hardware(
        workers=rng.randint(1, 4),
        gpus_per_worker=rng.randint(1, 2),
        cache_pages=rng.choice((8, 16, 32, 64)),
    )
    sets = tuple(_model_set(rng, hardware) for _ in range(rng.randint(1, 4)))
    workloads = tuple(_workload(rng, sets, hardware, index) for index in range(rng.randint(1, 3)))
    calm = rng.random() < 0.25
    scenario = Scenario(
        name=f"swarm {seed}",
        seed=seed,
        hardware=hardware,
        network=_network(rng, is_calm=calm),
        controller_turn=Turn(rng.choice((0, 20 * US, 100 * US)), rng.choice((0, 5 * US))),
        client_turn=Turn(rng.choice((0, 200 * US))),
        noise=Noise() if calm else _noise(rng),
        clocks=_clocks(rng, hardware.workers),
        controller=_config(rng),
        workloads=workloads,
        sends_inputs=rng.random() < 0.2,
        heal_at_ns=HEAL_NS,
        duration_ns=DURATION_NS,
    )
    if calm:
        return scenario
    faults = _faults(rng, scenario)
    # Drawn apart: what was added later leaves the scenarios of older seeds much as they were.
    more = Random(f"swarm:{seed}:more")
    keeps_state = more.random() < 0.5
    if more.random() < 0.2:
        faults += tuple(_leave(more) for _ in range(more.randint(1, 3)))
    return replace(scenario, faults=faults, keeps_state=keeps_state)


def _recovery_error(scenario: Scenario, verdict: Verdict, twin: Verdict) -> Violation | None:
    """Return what is worse than in the undisturbed run, or None."""
    streams = [stream for workload in scenario.workloads for stream in workload.streams]
    bursty = {each.user_id for each in streams if isinstance(each.arrivals, BurstyOpen | Gamma)}
    total = good = undisturbed_good = 0.0
    losses: dict[int, float] = {}
    for user_id, undisturbed in twin.after.items():
        counts = verdict.after.get(user_id, Counts(answered=0, good=0))
        if user_id in bursty and not counts.answered:
            continue
        total += undisturbed.answered
        good += undisturbed.answered * counts.share
        undisturbed_good += undisturbed.good
        losses[user_id] = undisturbed.good - undisturbed.answered * counts.share
        if undisturbed.good < COMPARED_MIN:
            continue
        is_slow = counts.answered < ANSWERED_RATIO_MIN * undisturbed.answered
        is_steady = undisturbed.share >= STEADY_SHARE_MIN
        is_starved = is_steady and counts.share < RECOVERED_RATIO_MIN * undisturbed.share
        if is_starved or (is_slow and user_id not in bursty):
            text = f"tenant {user_id}: {counts}, undisturbed: {undisturbed}"
            return Violation(RECOVERY, text, Subject(user_id=user_id))
    if total >= COMPARED_MIN and good < undisturbed_good - RECOVERED_LOSS_MAX * total:
        text = f"{good:.0f} of {total:.0f}, undisturbed {undisturbed_good:.0f}"
        return Violation(RECOVERY, text, Subject(user_id=max(losses, key=losses.__getitem__)))
    return None


def _model_set(rng: Random, hardware: Hardware) -> ModelSet:
    pages = rng.randint(1, min(8, hardware.cache_pages))
    exec_us = round(rng.uniform(500, 8_000))
    path = made_up_path(pages=pages, exec_us=exec_us)
    return ModelSet(name=path, path=path, copies=rng.choice((1, 2, 5, 12)))


def _workload(rng: Random, sets: Sequence[ModelSet], hardware: Hardware, index: int) -> Workload:
    """Return a workload of one or two streams that asks for at most about half of the GPUs."""
    chosen = tuple(rng.sample(sets, rng.randint(1, len(sets))))
    count = sum(each.copies for each in chosen)
    gpus = hardware.workers * hardware.gpus_per_worker
    slowest_us = max(int(each.path.rsplit("/", 1)[1].removesuffix("-us")) for each in chosen)
    rate = rng.uniform(0.02, 0.2) * gpus * 1e6 / slowest_us
    streams = tuple(
        Stream(
            models=tuple(range(count)),
            arrivals=_arrivals(rng, rate),
            user_id=10 * index + stream,
            slo_ns=rng.choice(SLOS_NS),
            slo_factor=rng.choice((0.0, 0.0, 1.5, 4.0, 10.0, 50.0)),
        )
        for stream in range(rng.randint(1, 2))
    )
    return Workload(name=f"client {index}", models=chosen, streams=streams, seed=rng.randrange(99))


def _arrivals(rng: Random, rate_per_s: float) -> Arrivals:
    rate = max(round(rate_per_s, 1), 1.0)
    kinds: tuple[Arrivals, ...] = (
        Poisson(rate),
        FixedRate(rate),
        Gamma(rate, rng.choice((2.0, 4.0))),
        BurstyOpen(2 * rate, 100 * MS, 100 * MS),
        ClosedLoop(rng.randint(1, 8)),
    )
    return rng.choice(kinds)


def _network(rng: Random, *, is_calm: bool) -> Network:
    network = Network(
        delay_ns=rng.choice((10, 50, 200, 1_000)) * US,
        jitter_ns=rng.choice((0, 20, 200)) * US,
        bytes_per_s=rng.choice((None, 1_250_000_000)),
        dead_after_ns=rng.choice((200, 500, 1_000)) * MS,
        redial_ns=rng.choice((20, 100, 250)) * MS,
    )
    return replace(network, jitter_ns=0) if is_calm else network


def _noise(rng: Random) -> Noise:
    return rng.choice(
        (
            Noise(),
            Noise(spread=0.01),
            Noise(spread=0.1, outlier_chance=0.001, outlier_factor=5.0),
        )
    )


def _clocks(rng: Random, workers: int) -> tuple[ClockError, ...]:
    if rng.random() < 0.5:
        return ()
    return tuple(
        ClockError(offset_ns=rng.randint(-10 * SECOND, 10 * SECOND), drift_ppm=rng.randint(-50, 50))
        for _ in range(workers)
    )


def _config(rng: Random) -> ControllerConfig:
    return ControllerConfig(
        schedule_ahead_ns=rng.choice((2, 5, 10, 20)) * MS,
        max_batch=rng.choice((1, 8, 16)),
        loads_max=rng.choice((1, 2)),
        load_stage_timeout_ns=100 * MS,
        overdue_after_ns=rng.choice((500, 1_000)) * MS,
        is_model_set_fixed=False,
    )


def _faults(rng: Random, scenario: Scenario) -> tuple[Fault, ...]:
    """Draw some kinds, and faults of these kinds."""
    kinds = rng.sample(DRAWS, rng.randint(1, 5))
    path = scenario.workloads[0].models[0].path
    return tuple(
        rng.choice(kinds)(rng, rng.randint(QUIET_NS, HEAL_NS), path)
        for _ in range(rng.randint(1, FAULTS_MAX))
    )


def _burst(rng: Random, at_ns: int, path: str) -> Burst:
    """Draw a client that asks for ten times what the others ask for, roughly."""
    rate = 10 * 1e6 / int(path.rsplit("/", 1)[1].removesuffix("-us"))
    stream = Stream(models=(0,), arrivals=Poisson(rate), user_id=99)
    workload = Workload(
        name="burst",
        models=(ModelSet(name=path, path=path),),
        streams=(stream,),
        duration_ns=rng.randint(50, 500) * MS,
        seed=rng.randrange(99),
    )
    return Burst(at_ns, workload)


def _leave(rng: Random) -> LeaveWorker:
    at_ns = rng.randint(QUIET_NS, HEAL_NS)
    return LeaveWorker(at_ns, rng.randrange(4), rng.choice((50, 500)) * MS)


def _place(rng: Random) -> tuple[int, int]:
    return rng.randrange(4), rng.randrange(2)


DRAWS: Final[tuple[Draw, ...]] = (
    lambda rng, at_ns, _: KillWorker(at_ns, rng.randrange(4), rng.choice((10, 300)) * MS),
    lambda rng, at_ns, _: KillWorker(at_ns, rng.randrange(4), rng.choice((900, 1_500)) * MS),
    lambda rng, at_ns, _: CutConnection(at_ns, rng.randrange(4)),
    lambda rng, at_ns, _: Partition(at_ns, rng.randrange(4), rng.choice((5, 60, 400, 1_500)) * MS),
    lambda rng, at_ns, _: DelayMessages(
        at_ns, rng.randrange(4), rng.randint(50, 800) * MS, rng.choice((1, 5, 30)) * MS
    ),
    lambda rng, at_ns, _: StallGpu(at_ns, *_place(rng), rng.choice((5, 50, 400)) * MS),
    lambda rng, at_ns, _: SlowGpu(
        at_ns, *_place(rng), rng.randint(100, 1_000) * MS, rng.choice((1.2, 2.0, 5.0))
    ),
    lambda rng, at_ns, _: FailExecutions(at_ns, *_place(rng), rng.randint(1, 20)),
    lambda rng, at_ns, _: FailLoads(at_ns, *_place(rng), rng.randint(1, 5)),
    lambda rng, at_ns, _: ShortMemory(at_ns, rng.randrange(4), rng.randint(1, 4)),
    lambda rng, at_ns, _: DriftClock(at_ns, rng.randrange(4), rng.randint(-200, 200)),
    lambda rng, at_ns, _: RestartController(at_ns, rng.choice((10, 400)) * MS),
    lambda rng, at_ns, _: PauseController(at_ns, rng.choice((5, 40, 300)) * MS),
    lambda rng, at_ns, _: DropClient(at_ns, rng.randrange(3), rng.choice((10, 300)) * MS),
    _burst,
    lambda rng, at_ns, path: AddModel(at_ns, rng.choice((path, "nowhere")), rng.randint(1, 3)),
    lambda rng, at_ns, _: RemoveModel(at_ns),
    lambda rng, at_ns, _: EvictModel(at_ns, rng.randrange(12)),
)
"""Every kind of fault, and how it is drawn."""
