"""A scenario before the judges: faults, healing, recovery, rest.

The phases of a trial::

    faults --heal_at_ns--> healed --duration_ns--> clients stop --all answered--> at rest

`hold` returns a verdict and never raises for what the run did; only the caller prints.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from clockwork.engines.emulated import DirectoryProfiles
from clockwork.sim.checkers import Court, Violation
from clockwork.sim.digest import Digest
from clockwork.sim.faults import Faults
from clockwork.sim.host import Tap
from clockwork.sim.judge_actions import Actions
from clockwork.sim.judge_answers import Counts, OneAnswer, TrueRecords
from clockwork.sim.judge_memory import Memory
from clockwork.sim.judge_rest import check_rest
from clockwork.sim.profiles import read_model
from clockwork.sim.scenario import Scenario
from clockwork.sim.world import MakeController, MakeWorker, World, make_controller, make_worker
from clockwork.units import MS, SECOND

LOOK_NS: Final = 10 * MS
"""Between two comparisons of belief with truth (chosen)."""
ANSWER_NS: Final = 2 * SECOND
"""After the clients were told to stop, until they must have all answers: they wait 1 s."""
RECOVERED_NS: Final = 1_500 * MS
"""At the end of a run: when goodput must have returned (chosen: long enough to count)."""


class Verdict(Struct, frozen=True):
    """What came out of a trial."""

    digest: str
    # By tenant, what was answered after the faults were healed and had time to be forgotten: see
    # `recovered`.
    after: dict[int, Counts]
    # Events and effects of all roles.
    record_count: int
    # What broke a rule, or the assertion of a role that failed; None: all is well.
    error: AssertionError | None
    # The recent past of what the error is about.
    story: list[str]


class Trial:
    """One scenario, its world and its judges."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        checks_roles: bool = True,
        taps: Sequence[Tap] = (),
        make_controller: MakeController = make_controller,
        make_worker: MakeWorker = make_worker,
    ) -> None:
        """Prepare; `hold` runs it.

        Args:
            checks_roles: has every role check itself after every step.
            taps: see every step besides the judges.
        """
        hardware = scenario.hardware
        self._scenario = scenario
        self._answers = OneAnswer()
        self._records = TrueRecords(is_perfect=is_perfect(scenario))
        self._actions = Actions(gpus_per_worker=hardware.gpus_per_worker)
        self._memory = Memory(
            self._actions,
            gpus_per_worker=hardware.gpus_per_worker,
            cache_pages=hardware.cache_pages,
        )
        # The judge of memory sees results before the judge of actions strikes them off.
        judges = (self._answers, self._records, self._memory, self._actions)
        self._court = Court(judges, checks_roles=checks_roles)
        self._digest = Digest(has_payloads=scenario.sends_inputs)
        self._world = World(
            scenario,
            DirectoryProfiles(page_bytes=hardware.page_bytes, read=read_model),
            taps=(self._court, self._digest, *taps),
            make_controller=make_controller,
            make_worker=make_worker,
        )
        self._faults = Faults(self._world)

    def hold(self) -> Verdict:
        """Run the scenario to its end, or until a rule is broken."""
        error: AssertionError | None = None
        try:
            self._run()
        except AssertionError as raised:
            error = raised
        return Verdict(
            digest=self._digest.hex,
            after=self._records.counts_between(*recovered(self._scenario)),
            record_count=self._digest.count,
            error=error,
            story=[] if error is None else self.story(error),
        )

    def story(self, error: AssertionError) -> list[str]:
        """Return the recent past of what an error is about, one line per record."""
        return self._court.story(error.subject if isinstance(error, Violation) else None)

    def _run(self) -> None:
        scenario, world = self._scenario, self._world
        if scenario.heal_at_ns is not None:
            self._run_until(scenario.heal_at_ns)
            self._faults.heal()
        self._run_until(scenario.duration_ns)
        world.stop_clients()
        self._run_until(scenario.duration_ns + ANSWER_NS)
        check_rest(world, answers=self._answers, actions=self._actions, memory=self._memory)

    def _run_until(self, elapsed_ns: int) -> None:
        while self._world.elapsed_ns < elapsed_ns:
            self._world.run(min(LOOK_NS, elapsed_ns - self._world.elapsed_ns))
            self._memory.compare(self._world)


def is_perfect(scenario: Scenario) -> bool:
    """Return whether nothing in a scenario is worse than predicted."""
    return scenario.noise.is_none and not scenario.faults and not scenario.network.jitter_ns


def recovered(scenario: Scenario) -> tuple[int, int]:
    """Return from when to when a healed run should be as good as an undisturbed one."""
    return scenario.duration_ns - RECOVERED_NS, scenario.duration_ns
