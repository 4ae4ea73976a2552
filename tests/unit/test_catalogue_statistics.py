"""Arrival statistics of every named workload, played with a fixed seed: rates, split, gaps."""

from collections.abc import Mapping
from itertools import pairwise
from math import sqrt
from statistics import mean, pstdev
from typing import NamedTuple

import pytest
from catalogue_stage import played

from clockwork.client.catalogue import WORKLOADS
from clockwork.client.named import Value


class Expected(NamedTuple):
    """What a workload sends when each answer takes 10 ms."""

    seconds: float
    # Requests per second by stream; those that are left out are like the ones that are there.
    per_s: Mapping[int, float]
    # Of all streams together.
    total_per_s: float
    # Coefficient of variation of the first of these streams' gaps. None: it depends on answers.
    variation: float | None = None
    values: Mapping[str, Value] = {}


START_S = 0.02
"""Two answers of the controller: a load, and that it is ready."""
REPLAYED = {0: 100.0, 1: 10.0, 2: 1.0}
"""Of the test's trace at scale 1, whatever the length of an interval; 0.117/s is rarer still."""
EXPECTED = {
    "example": Expected(60, {0: 5, 1: 10, 3: 100, 5: 5, 6: 10}, 0, 0),
    "fill_memory": Expected(20, {0: 1000, 1: 10, 10: 10, 11: 1, 410: 1}, 1500, 1),
    "spam": Expected(0.02, {0: 10_000, 99: 10_000}, 1_000_000),
    "single-spam": Expected(0.02, {0: 100_000, 99: 100_000}, 10_000_000),
    "simple": Expected(2, {0: 100, 1: 100}, 200),
    "simple-slo-factor": Expected(2, {0: 100, 1: 100, 2: 100}, 300),
    "simple-parametric": Expected(2, {0: 10, 1: 10}, 20),
    "poisson-open-loop": Expected(60, {0: 50, 1: 50, 2: 50, 3: 50}, 200, 1),
    "scalability-exp-1": Expected(
        10, {0: 50, 1: 50}, 100, 1, {"min": 100.0, "max": 200.0, "period": 20.0}
    ),
    "gamma": Expected(300, {0: 50, 1: 50}, 100, 4),
    "zipf": Expected(60, {0: 1000}, 1000, 1),
    # Gaps of 1 ms, 15 times none, and 99 ms.
    "on-off": Expected(10, {0: 170}, 170, 3.96),
    "slo-exp-1": Expected(30, {0: 25, 1: 25}, 50, 1),
    "slo-exp-2": Expected(9, {0: 25, 1: 25}, 50, 0),
    "comparison_experiment": Expected(20, {0: 1000 / 15, 14: 1000 / 15}, 1000, 1),
    "comparison_experiment2": Expected(1, {0: 1600, 14: 1600}, 24_000),
    "bursty_experiment": Expected(290, {20: 200}, 200, 1),
    "azure": Expected(60, REPLAYED, 111, 1, {"num-workers": 8, "memory-load-factor": 1}),
    "azure_scalability_exp": Expected(60, {0: 10, 1: 1}, 11.1, 1, {"period": 90.0}),
    "azure_half": Expected(60, REPLAYED, 111, 1),
    "azure_small": Expected(60, REPLAYED, 111, 1),
    "azure_fast": Expected(60, REPLAYED, 111, 1),
    "azure_single": Expected(60, {0: 100}, 100, 1),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_arrivals_have_their_rates_split_and_gaps(name: str) -> None:
    """Each stream has its rate, all together the total, and gaps vary as they should."""
    seconds, per_s, total_per_s, variation, values = EXPECTED[name]
    changes = {key.replace("-", "_"): value for key, value in values.items()}
    world = played(name, seconds + START_S, **changes)
    # The last round of closed loops would begin with the end.
    by_stream = {
        stream: [at for at in world.arrivals_s(stream) if at < seconds - 0.001] for stream in per_s
    }
    for stream, rate in per_s.items():
        assert len(by_stream[stream]) / seconds == near(rate, rate * seconds), stream
    if total_per_s:
        total = sum(at < seconds - 0.001 for at in world.arrivals_s())
        assert total / seconds == near(total_per_s, total_per_s * seconds)
    if variation is not None:
        first = by_stream[next(iter(per_s))]
        gaps = [later - earlier for earlier, later in pairwise(first)]
        assert pstdev(gaps) / mean(gaps) == pytest.approx(variation, rel=0.15, abs=0.001)


def near(value: float, count: float) -> object:
    """Return what equals `value` up to four standard deviations of so many Poisson arrivals."""
    return pytest.approx(value, rel=0.02 + 4 / sqrt(count))
