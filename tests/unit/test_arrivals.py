"""Arrival processes: rates, gaps and shapes, each with a fixed seed."""

from itertools import pairwise
from random import Random
from statistics import fmean, pstdev

import pytest

from clockwork.client.arrivals import Source, source_of
from clockwork.client.workload import (
    Arrivals,
    BurstyClosed,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    OnOff,
    Poisson,
)
from clockwork.units import FOREVER_NS, MS, SECOND

START_NS = 1_700_000_000 * SECOND


def instants(arrivals: Arrivals, seconds: float, *, seed: int = 1) -> list[float]:
    """Return when an open loop sends during the first `seconds`, in seconds from its start."""
    source = source_of(arrivals, Random(seed))
    source.start(START_NS)
    return drained(source, seconds)


def drained(source: Source, seconds: float) -> list[float]:
    """Return when a started source sends until `seconds` after START_NS."""
    found = []
    while source.next_ns <= START_NS + seconds * SECOND:
        found.append((source.next_ns - START_NS) / SECOND)
        source.advance()
    return found


def gaps(times: list[float]) -> list[float]:
    """Return the gaps of arrivals, the first one from the start."""
    return [later - earlier for earlier, later in pairwise([0.0, *times])]


def variation(values: list[float]) -> float:
    """Return the coefficient of variation."""
    return pstdev(values) / fmean(values)


def test_poisson_arrivals_have_their_rate_and_exponential_gaps() -> None:
    """Gaps have the mean 1/rate, a variation of 1, and 1/e of them exceed the mean."""
    found = gaps(instants(Poisson(200.0), 100))
    assert fmean(found) == pytest.approx(1 / 200, rel=0.03)
    assert variation(found) == pytest.approx(1.0, rel=0.03)
    assert sum(gap > 1 / 200 for gap in found) / len(found) == pytest.approx(0.368, abs=0.01)


def test_fixed_rate_arrivals_never_drift() -> None:
    """The n-th arrival comes n gaps after the start to the nanosecond, for an inexact gap too."""
    source = source_of(FixedRate(3.0), Random(0))
    source.start(START_NS)
    for count in range(1, 30_001):
        assert source.next_ns == START_NS + round(count * SECOND / 3)
        source.advance()


@pytest.mark.parametrize("wanted", [1.0, 2.0, 4.0, 8.0])
def test_gamma_arrivals_have_their_rate_and_variation(wanted: float) -> None:
    """The coefficient of variation of the gaps is the one asked for, at the rate asked for."""
    found = gaps(instants(Gamma(rate_per_s=500.0, variation=wanted), 400))
    assert len(found) == pytest.approx(200_000, rel=0.01 * wanted)
    assert variation(found) == pytest.approx(wanted, rel=0.05)


def test_bursty_open_arrivals_come_in_bursts() -> None:
    """Bursts of 10 s at the rate alternate with silences of 20 s, on average."""
    times = instants(BurstyOpen(rate_per_s=50.0, burst_ns=10 * SECOND, idle_ns=20 * SECOND), 30_000)
    assert len(times) / 30_000 == pytest.approx(50 / 3, rel=0.1)
    silences = [gap for gap in gaps(times) if gap > 0.5]
    assert fmean(silences) == pytest.approx(20.5, rel=0.1)
    assert variation(silences) == pytest.approx(1.0, rel=0.15)
    within = [gap for gap in gaps(times) if gap <= 0.5]
    assert fmean(within) == pytest.approx(1 / 50, rel=0.02)


def test_an_on_off_adversary_sends_a_large_batch_after_a_small_one() -> None:
    """Each period has two requests at its start and five one millisecond later."""
    spec = OnOff(small=2, large=5, delay_ns=MS, period_ns=100 * MS)
    times = instants(spec, 0.25)
    assert times == pytest.approx([*period(0.0), *period(0.1), *period(0.2)])


def period(start: float) -> list[float]:
    """Return the arrivals of one period of the adversary above."""
    return [start] * 2 + [start + 0.001] * 5


@pytest.mark.parametrize(
    "arrivals",
    [
        Poisson(10.0),
        Gamma(10.0, 4.0),
        BurstyOpen(10.0, SECOND, SECOND),
    ],
)
def test_equal_seeds_give_equal_arrivals(arrivals: Arrivals) -> None:
    """A seed fixes all arrivals, and another seed gives others."""
    assert instants(arrivals, 50, seed=5) == instants(arrivals, 50, seed=5)
    assert instants(arrivals, 50, seed=5) != instants(arrivals, 50, seed=6)


@pytest.mark.parametrize("arrivals", [Poisson(1.0), FixedRate(1.0), Gamma(1.0, 2.0)])
def test_a_tuned_loop_has_the_new_rate_at_once(arrivals: Arrivals) -> None:
    """What is left of the current gap shrinks with the rate, and later gaps have the new one."""
    source = source_of(arrivals, Random(3))
    source.start(START_NS)
    left_ns = source.next_ns - START_NS
    source.tune(100.0, START_NS)  # type: ignore[attr-defined]
    assert source.next_ns - START_NS == pytest.approx(left_ns / 100, abs=1)
    assert len(drained(source, 100)) == pytest.approx(10_000, rel=0.05)


def test_a_tuned_fixed_rate_keeps_its_phase() -> None:
    """A gap that is half over when the rate doubles ends after a quarter of the old gap."""
    source = source_of(FixedRate(1.0), Random(0))
    source.start(START_NS)
    source.tune(2.0, START_NS + SECOND // 2)  # type: ignore[attr-defined]
    assert drained(source, 2) == pytest.approx([0.75, 1.25, 1.75])


def test_a_closed_loop_has_its_concurrency_ready_at_once() -> None:
    """All places are used at the start, then one per answer."""
    source = source_of(ClosedLoop(3), Random(0))
    source.start(START_NS)
    assert drained(source, 0) == [0.0, 0.0, 0.0]
    assert source.next_ns == FOREVER_NS
    source.on_answer(START_NS + 7)
    assert source.next_ns == START_NS + 7
    assert not source.has_ended


def test_a_limited_closed_loop_sends_exactly_its_requests() -> None:
    """A limit below, at and above the concurrency counts all requests, not only later ones."""
    for limit in (1, 3, 8):
        source = source_of(ClosedLoop(3, requests=limit), Random(0))
        source.start(START_NS)
        sent = 0
        while source.next_ns != FOREVER_NS:
            source.advance()
            sent += 1
            source.on_answer(START_NS + sent)
        assert sent == limit
        assert source.has_ended


def test_a_bursty_closed_loop_falls_silent_for_the_idle_time() -> None:
    """Silences have the idle distribution's mean, not that of the bursts."""
    spec = BurstyClosed(concurrency=1, burst_ns=1 * SECOND, idle_ns=5 * SECOND)
    source = source_of(spec, Random(4))
    source.start(START_NS)
    times = []
    while source.next_ns < START_NS + 20_000 * SECOND:
        now_ns = source.next_ns
        times.append((now_ns - START_NS) / SECOND)
        source.advance()
        source.on_answer(now_ns + 10 * MS)
    assert times[0] == 0.0
    silences = [gap for gap in gaps(times) if gap > 0.02]
    assert fmean(silences) == pytest.approx(5, rel=0.05)
    assert len(times) * 0.01 / 20_000 == pytest.approx(1 / 6, rel=0.05)
