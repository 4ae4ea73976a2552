"""Counts, latencies and their text."""

import pytest
from client_stage import ClientWorld, workload
from hypothesis import given
from hypothesis import strategies as st

from clockwork.client.statistics import GRAIN_BITS, Latencies
from clockwork.client.summary import SETS_MAX, summary_lines
from clockwork.client.workload import ClosedLoop, FixedRate, ModelSet, Stream, Workload
from clockwork.messages.client_io import ClientSummary, SendInfer
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND


def finished(world: ClientWorld) -> ClientSummary:
    """Return the summary of a world whose run is over."""
    assert world.finished is not None
    assert world.finished.summary is not None
    return world.finished.summary


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=200), st.floats(0, 1))
def test_percentiles_are_never_too_low_and_hardly_too_high(
    latencies_ns: list[int], share: float
) -> None:
    """A percentile of the histogram is at most a grain and 1/64 above the exact one."""
    latencies = Latencies()
    for latency_ns in latencies_ns:
        latencies.add(latency_ns)
    exact = sorted(latencies_ns)[max(1, -int(-share * len(latencies_ns) // 1)) - 1]
    found = latencies.percentile_ns(share)
    assert exact <= found <= exact + (exact >> 6) + (1 << GRAIN_BITS)


@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=50))
def test_extremes_and_mean_are_exact(latencies_ns: list[int]) -> None:
    """Minimum, mean and maximum do not come from the histogram."""
    latencies = Latencies()
    for latency_ns in latencies_ns:
        latencies.add(latency_ns)
    summary = latencies.summary()
    assert summary is not None
    assert (summary.min_ns, summary.max_ns) == (min(latencies_ns), max(latencies_ns))
    assert summary.mean_ns == sum(latencies_ns) // len(latencies_ns)


def test_without_latencies_there_is_no_summary_of_them() -> None:
    """None is not zero."""
    assert Latencies().summary() is None
    assert Latencies().percentile_ns(0.5) == 0


def test_counts_are_split_by_model_and_by_set() -> None:
    """Each model set and each model that was asked for has its own counts."""
    streams = (Stream((0,), FixedRate(10.0)), Stream((2,), FixedRate(20.0)))
    sets = (ModelSet("a", "/a", 2), ModelSet("b", "/b"))
    world = ClientWorld(
        Workload("w", sets, streams, duration_ns=SECOND),
        answer=lambda send: Status.TIMEOUT if send.model == 0 else Status.SUCCESS,
    ).run(5 * SECOND)
    summary = finished(world)
    assert [(row.name, row.sent, row.succeeded) for row in summary.model_sets] == [
        ("a", 10, 0),
        ("b", 20, 20),
    ]
    assert [row.model_id for row in summary.models] == [0, 2]
    assert summary.statuses == {Status.SUCCESS: 20, Status.TIMEOUT: 10}


def test_the_summary_tells_outcomes_rates_and_latencies() -> None:
    """Every kind of outcome is named with its count."""

    def answer(send: SendInfer) -> Status | None:
        outcomes = (Status.SUCCESS, Status.TIMEOUT, Status.COULD_NOT_START_IN_TIME, None)
        return outcomes[send.request.user_request_id % 4]

    world = ClientWorld(
        workload(Stream((0,), FixedRate(40.0)), duration_ns=SECOND), answer=answer
    ).run(100 * SECOND)
    text = "\n".join(summary_lines(finished(world)))
    assert "Summary of `test` after 1s (seed 0)" in text
    assert "40 sent, 10 succeeded, 10 timeout, 10 could not start in time, 10 unanswered" in text
    assert "offered=40.00/s throughput=30.00/s goodput=10.00/s" in text
    assert "min=1.00 mean=1.00 p50=1.00" in text
    assert "25.0000% of those sent" in text


def test_the_summary_of_many_model_sets_is_short() -> None:
    """Only the first sets get a line."""
    sets = tuple(ModelSet(f"m{index}", "/m") for index in range(SETS_MAX + 5))
    world = ClientWorld(Workload("w", sets, (Stream((0,), ClosedLoop(1, requests=1)),)))
    lines = summary_lines(finished(world.run(SECOND)))
    assert lines[-1] == "  and 5 more"
    assert sum(line.startswith("  model ") for line in lines) == SETS_MAX


def test_latencies_beyond_the_histogram_count_as_its_largest() -> None:
    """A latency of years does not break anything."""
    latencies = Latencies()
    latencies.add(10**18)
    latencies.add(MS)
    assert latencies.percentile_ns(0.5) == pytest.approx(MS, rel=0.02)
    assert latencies.percentile_ns(1.0) <= 10**18
