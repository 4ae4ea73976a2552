"""Twenty seeds of the swarm, and those that once failed."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from clockwork.sim.scenario import Fault, Scenario
from clockwork.sim.swarm import draw, hold_seed

SEEDS = Path(__file__).parent / "seeds.txt"
FAILED_ONCE = [
    int(line.split()[0]) for line in SEEDS.read_text().splitlines() if not line.startswith("#")
]
NEW = [seed for seed in range(2, 40) if seed not in FAILED_ONCE][: 20 - len(FAILED_ONCE)]


@pytest.mark.parametrize("seed", [*FAILED_ONCE, *NEW])
def test_the_seed_breaks_no_rule(seed: int) -> None:
    """A scenario drawn from the seed runs through faults, healing and rest without a violation."""
    verdict = hold_seed(seed).verdict
    if verdict.error is not None:
        raise AssertionError("\n".join([f"seed {seed}", *verdict.story])) from verdict.error


def test_a_seed_stands_for_one_scenario() -> None:
    """Drawing twice gives the same options, and they survive a trip through a file."""
    for seed in range(100):
        scenario = draw(seed)
        assert scenario == draw(seed)
        assert msgspec.json.decode(msgspec.json.encode(scenario), type=Scenario) == scenario


def test_the_swarm_draws_every_kind_of_fault() -> None:
    """Some hundred seeds have each kind at least once, and some seeds have none."""
    scenarios = [draw(seed) for seed in range(300)]
    kinds = {type(fault) for scenario in scenarios for fault in scenario.faults}
    assert kinds == set(get_args(Fault))
    assert any(not scenario.faults for scenario in scenarios)
