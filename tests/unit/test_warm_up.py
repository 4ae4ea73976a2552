"""The client role's warm-up: sent like everything else, counted not at all."""

import pytest
from client_stage import ClientWorld, workload

from clockwork.client.workload import ClosedLoop, FixedRate, Stream
from clockwork.units import MS, SECOND


def test_requests_of_the_warm_up_are_not_counted() -> None:
    """Only requests that arrive after the warm-up are in the summary, each with its answer."""
    world = ClientWorld(
        workload(Stream((0,), FixedRate(100.0)), warm_up_ns=SECOND, duration_ns=2 * SECOND),
        latency_ns=35 * MS,
    ).run(10 * SECOND)
    assert world.finished is not None
    summary = world.finished.summary
    assert summary is not None
    assert len(world.sends) == pytest.approx(300, abs=1)
    assert summary.sent == pytest.approx(200, abs=1)
    assert summary.succeeded == summary.good == summary.sent
    assert summary.unanswered == 0
    assert summary.duration_ns == 2 * SECOND
    assert "Warm-up over, counting" in world.lines


def test_a_closed_loop_goes_on_after_the_warm_up() -> None:
    """Answers that are not counted still put their places back in use."""
    world = ClientWorld(
        workload(Stream((0,), ClosedLoop(3)), warm_up_ns=SECOND, duration_ns=SECOND),
        latency_ns=10 * MS,
    ).run(10 * SECOND)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.sent == pytest.approx(300, abs=3)
