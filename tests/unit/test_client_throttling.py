"""A client role whose controller says that it is overloaded."""

from client_stage import ClientWorld, workload

from clockwork.client.phase import DRAIN_NS
from clockwork.client.summary import summary_lines
from clockwork.client.workload import ClosedLoop, FixedRate, Recorded, Stream
from clockwork.messages.requests import OVERLOADED
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND


def _overloaded_world(*, throttles: bool) -> ClientWorld:
    """Return a finished run at 1,000/s against a controller that takes on every fourth request."""
    return ClientWorld(
        workload(Stream((0,), FixedRate(1_000.0)), duration_ns=10 * SECOND),
        answer=lambda send: (
            Status.COULD_NOT_START_IN_TIME if send.request.user_request_id % 4 else Status.SUCCESS
        ),
        refusal=OVERLOADED,
        throttles=throttles,
    ).run(2 * DRAIN_NS)


def test_an_overloaded_controller_gets_only_a_part_and_all_is_counted() -> None:
    """What is refused here counts as sent and refused, and the summary tells it."""
    world = _overloaded_world(throttles=True)
    assert world.finished is not None
    summary = world.finished.summary
    assert summary is not None
    assert summary.sent == 10_000
    assert summary.unanswered == 0
    assert sum(summary.statuses.values()) == 10_000
    assert summary.throttled == 10_000 - len(world.sends) > 5_000
    assert any("throttled" in line for line in summary_lines(summary))


def test_throttling_can_be_turned_off() -> None:
    """Then everything is sent, whatever the controller says."""
    world = _overloaded_world(throttles=False)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.throttled == 0
    assert len(world.sends) == 10_000


def _slow_world(*, latency_ns: int) -> ClientWorld:
    """Return a finished run at 1,000/s whose requests may take 100 ms, all answered alike."""
    return ClientWorld(
        workload(Stream((0,), FixedRate(1_000.0), slo_ns=100 * MS), duration_ns=10 * SECOND),
        latency_ns=latency_ns,
        throttles=True,
    ).run(2 * DRAIN_NS)


def test_answers_after_the_deadline_hold_requests_back() -> None:
    """Requests that wait on their way, where the controller does not see them, get fewer."""
    throttled = {}
    for latency_ns in (90 * MS, 200 * MS):
        world = _slow_world(latency_ns=latency_ns)
        assert world.finished is not None
        assert world.finished.summary is not None
        throttled[latency_ns] = world.finished.summary.throttled
    assert throttled[90 * MS] == 0
    assert throttled[200 * MS] > 5_000


def test_a_closed_loop_that_is_throttled_does_not_spin() -> None:
    """A place whose request was refused here is used again at the deadline of the request."""
    world = ClientWorld(
        workload(Stream((0,), ClosedLoop(100), slo_ns=100 * MS), duration_ns=10 * SECOND),
        answer=lambda send: Status.COULD_NOT_START_IN_TIME,
        refusal=OVERLOADED,
        throttles=True,
    ).run(2 * DRAIN_NS)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.throttled > 1_000
    assert 7_500 < world.finished.summary.sent <= 10_100


def test_replays_are_known_as_such() -> None:
    """Of a trace nothing may be left out."""
    assert workload(Stream((0,), Recorded([0, 1], SECOND))).is_replay
    assert not workload(Stream((0,), FixedRate(1.0))).is_replay
