"""The judges catch typical bugs, and find nothing wrong with the real roles."""

import pytest
from broken_roles import (
    AnswersTwice,
    BrokenController,
    BrokenWorker,
    ForgetsTimeouts,
    IgnoresWindows,
    KeepsStaleBelief,
    LeaksPages,
    NeverRecovers,
)

from clockwork.client.workload import ModelSet, Poisson, Stream, Workload
from clockwork.controller.config import ControllerConfig
from clockwork.sim.checkers import Violation
from clockwork.sim.judge_actions import WINDOW
from clockwork.sim.judge_answers import ONE_ANSWER
from clockwork.sim.judge_memory import BELIEF, PAGES, WEIGHTS
from clockwork.sim.profiles import made_up_path
from clockwork.sim.scenario import Fault, Hardware, KillWorker, Scenario, StallGpu
from clockwork.sim.swarm import RECOVERY, hold_seed
from clockwork.sim.trial import Trial, Verdict
from clockwork.units import MS, SECOND

SEED_WITH_DEATHS = 353
"""Of a swarm: workers are killed, nothing else; one tenant asks 67 times a second."""
PATH = made_up_path(pages=4, exec_us=3_000)


def busy(*faults: Fault, rate_per_s: float = 500.0) -> Scenario:
    """Return two GPUs whose caches hold four of ten models, with more to do than they can."""
    stream = Stream(models=tuple(range(10)), arrivals=Poisson(rate_per_s))
    return Scenario(
        name="busy",
        hardware=Hardware(workers=2, cache_pages=16),
        controller=ControllerConfig(load_stage_timeout_ns=100 * MS),
        workloads=(Workload("busy", (ModelSet("m", PATH, 10),), (stream,)),),
        faults=faults,
        heal_at_ns=2_500 * MS,
        duration_ns=3 * SECOND,
    )


def hold(
    scenario: Scenario,
    *,
    controller: type[BrokenController] = BrokenController,
    worker: type[BrokenWorker] = BrokenWorker,
) -> Verdict:
    """Return the verdict on a scenario with broken roles."""
    return Trial(scenario, make_controller=controller, make_worker=worker).hold()


def rule_broken(verdict: Verdict) -> str | None:
    """Return the rule that was broken; None if all is well."""
    if verdict.error is None:
        return None
    assert isinstance(verdict.error, Violation), verdict.error
    return verdict.error.rule


FAULTS: tuple[Fault, ...] = (
    KillWorker(1_800 * MS, 0, 50 * MS),
    StallGpu(1_900 * MS, 1, 0, 100 * MS),
)


def test_the_real_roles_pass() -> None:
    """With nothing broken no rule is, whatever the faults: the bugs below are what is caught."""
    assert rule_broken(hold(busy(*FAULTS))) is None


def test_a_double_answer_is_caught() -> None:
    """A second answer to a request breaks the rule of exactly one."""
    verdict = hold(busy(), controller=AnswersTwice)
    assert rule_broken(verdict) == ONE_ANSWER
    assert any("ToClient" in line for line in verdict.story), verdict.story


def test_a_forgotten_timeout_is_caught() -> None:
    """A request that is never refused is found open at the end."""
    assert rule_broken(hold(busy(rate_per_s=2_500), controller=ForgetsTimeouts)) == ONE_ANSWER


def test_a_page_leak_is_caught() -> None:
    """A load that fails for want of pages which nobody uses gives the leak away."""
    assert rule_broken(hold(busy(), worker=LeaksPages)) in (PAGES, BELIEF)


def test_stale_belief_after_a_reconnect_is_caught() -> None:
    """Weights that are believed to be on a worker which came back empty are missed."""
    verdict = hold(busy(KillWorker(1_800 * MS, 0, 50 * MS)), controller=KeepsStaleBelief)
    assert rule_broken(verdict) == BELIEF


def test_an_ignored_window_is_caught() -> None:
    """A task that starts after its latest start is seen in the worker's own clock."""
    verdict = hold(busy(StallGpu(1_900 * MS, 0, 0, 200 * MS)), worker=IgnoresWindows)
    # The broken role does not even see the window: the judge knows what was sent.
    assert rule_broken(verdict) == WINDOW


def test_a_system_that_does_not_recover_is_caught() -> None:
    """Refusing everything for ever keeps all other rules; the story is that of a starved tenant."""
    verdict = hold_seed(SEED_WITH_DEATHS, make_controller=NeverRecovers).verdict
    assert rule_broken(verdict) == RECOVERY
    assert any("COULD_NOT_START_IN_TIME" in line for line in verdict.story), verdict.story


@pytest.mark.parametrize("rule", [ONE_ANSWER, WINDOW, PAGES, BELIEF, WEIGHTS, RECOVERY])
def test_rules_are_sentences(rule: str) -> None:
    """What is printed when a rule is broken can be read without the code."""
    assert len(rule.split()) > 4
