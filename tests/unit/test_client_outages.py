"""A client whose connection breaks, and one that unloads its models at the end."""

import pytest
from client_stage import START_NS, ClientWorld, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from clockwork.client.model_calls import RESUME_RETRY_NS
from clockwork.client.outage import DEFAULT_SLO_NS
from clockwork.client.phase import DRAIN_NS, DRAIN_STOPPED_NS, UNLOAD_NS, Phase
from clockwork.client.workload import ClosedLoop, FixedRate, Poisson, Stream
from clockwork.messages.client_io import ClientSummary, ControllerConnected, StopAsked
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND

PATIENCE_NS = 5 * SECOND


def world_of(*streams: Stream, latency_ns: int = MS, **options: int | bool) -> ClientWorld:
    """Return a client that has run for a second and is patient when its connection breaks."""
    options = {"reconnect_ns": PATIENCE_NS} | options
    world = ClientWorld(workload(*streams), latency_ns=latency_ns, **options)
    return world.run(SECOND)


def summary_of(world: ClientWorld) -> ClientSummary:
    """Stop a run, and return its summary."""
    if world.finished is None:
        world.step([StopAsked()])
        world.run(DRAIN_NS)
    assert world.finished is not None
    assert world.finished.summary is not None
    return world.finished.summary


def come_back(world: ClientWorld) -> None:
    """Connect again, and have the list of models answered."""
    world.step([ControllerConnected()])
    world.run(MS)


def test_requests_under_way_are_sent_again_with_the_rest_of_their_slo() -> None:
    """An outage that is short enough costs no request; the SLO goes on."""
    world = world_of(Stream((0,), FixedRate(1000.0), slo_ns=50 * MS), latency_ns=10 * MS)
    lost = world.sends[-9:]
    sent = len(world.sends)
    world.disconnect()
    world.run(20 * MS)
    assert len(world.sends) == sent
    world.step([ControllerConnected()])
    world.run(10 * MS)
    again = {send.request.user_request_id: send for send in world.sends[sent:]}
    for send in lost:
        resent = again[send.request.user_request_id]
        assert resent.arrival_ns == send.arrival_ns
        assert resent.deadline_ns == send.deadline_ns
        assert send.deadline_ns is not None
        assert resent.request.slo_ns == send.deadline_ns - world.now_ns
    assert (
        world.lines[-1] == "Connected again after 30ms: 39 requests are sent (again), 0 were lost"
    )
    assert summary_of(world).unanswered == 0


@pytest.mark.parametrize(("slo_ns", "kept_ns"), [(20 * MS, 20 * MS), (0, DEFAULT_SLO_NS)])
def test_requests_whose_deadline_passes_are_lost(slo_ns: int, kept_ns: int) -> None:
    """Nobody waits longer than the SLO, or the default one, for a connection."""
    world = world_of(Stream((0,), FixedRate(1000.0), slo_ns=slo_ns))
    world.disconnect()
    world.run(SECOND)
    # The arrivals of this very instant are kept as well.
    assert world.role.in_flight == kept_ns // MS
    come_back(world)
    world.run(SECOND)
    summary = summary_of(world)
    assert summary.unanswered == pytest.approx(1000 - kept_ns // MS, abs=2)
    assert summary.sent == pytest.approx(3000, abs=3)
    assert summary.succeeded == summary.sent - summary.unanswered


def test_a_role_that_is_woken_late_sends_nothing_late() -> None:
    """Requests that were under way are lost if their deadlines have passed when it is called."""
    world = world_of(Stream((0,), FixedRate(1000.0), slo_ns=20 * MS), latency_ns=10 * MS)
    world.disconnect()
    world.step([ControllerConnected()])
    before = len(world.sends)
    lost = world.sends[-world.role.in_flight :]
    world.now_ns += 100 * MS
    world.step(world._responses())
    again = {send.request.user_request_id for send in world.sends[before:]}
    assert again
    assert again.isdisjoint(send.request.user_request_id for send in lost)
    assert summary_of(world).unanswered >= len(lost)


def test_a_factor_and_a_default_slo_are_sent_as_they_were() -> None:
    """Only the controller knows what they mean."""
    streams = (Stream((0,), FixedRate(100.0)), Stream((0,), FixedRate(100.0), slo_factor=9.0))
    world = world_of(*streams, latency_ns=5 * MS)
    world.run(2 * MS)
    lost = world.sends[-2:]
    assert world.role.in_flight == 2
    world.disconnect()
    come_back(world)
    assert world.sends[-2:] == lost


def test_a_closed_loop_goes_on_after_an_outage() -> None:
    """A place that was lost is free at its deadline: no more in flight, none forgotten."""
    world = world_of(Stream((0,), ClosedLoop(4), slo_ns=50 * MS), latency_ns=10 * MS)
    world.disconnect()
    before = len(world.sends)
    world.run(SECOND)
    assert len(world.sends) == before
    come_back(world)
    world.run(SECOND)
    assert world.most_in_flight == 4
    assert len(world.sends) - before == pytest.approx(400, abs=10)
    assert summary_of(world).unanswered == pytest.approx(4 * 20, abs=4)


def test_a_connection_that_breaks_again_at_once_is_the_same_outage() -> None:
    """Patience ends so long after the first loss, and nobody is counted twice."""
    world = world_of(Stream((0,), FixedRate(100.0), slo_ns=50 * MS))
    for _ in range(4):
        world.disconnect()
        world.run(SECOND)
        world.step([ControllerConnected()])
    world.disconnect()
    world.run(PATIENCE_NS)
    assert world.now_ns == START_NS + SECOND + PATIENCE_NS
    assert world.finished is not None
    assert world.finished.error == (
        "connection to the controller lost: gone (dialled again for 5s)"
    )
    assert summary_of(world).unanswered == pytest.approx(500, abs=2)


def test_a_second_outage_has_patience_of_its_own() -> None:
    """Timers of an outage that is over change nothing."""
    world = world_of(Stream((0,), FixedRate(100.0), slo_ns=60 * SECOND))
    for _ in range(3):
        world.disconnect()
        world.run(PATIENCE_NS // 2)
        come_back(world)
    world.run(2 * PATIENCE_NS)
    assert world.finished is None
    assert summary_of(world).unanswered == 0


def test_a_controller_that_starts_is_asked_again() -> None:
    """Requests wait until it serves."""
    world = world_of(Stream((0,), FixedRate(100.0), slo_ns=SECOND))
    world.disconnect()
    world.list_statuses = [Status.INITIALIZING, Status.INITIALIZING]
    before = len(world.sends)
    come_back(world)
    world.run(2 * RESUME_RETRY_NS)
    assert len(world.sends) == before
    world.run(3 * MS)
    assert len(world.sends) > before
    assert summary_of(world).unanswered == 0


def test_a_controller_without_the_models_ends_the_run() -> None:
    """The models of a workload must not become those of somebody else."""
    world = world_of(Stream((0,), FixedRate(100.0)))
    world.disconnect()
    world.models.clear()
    come_back(world)
    assert world.finished is not None
    assert world.finished.error == (
        "model 0 (m) is unknown to the controller which answers now: start it with --state, or "
        "this workload anew"
    )
    assert world.finished.summary is not None


def test_a_list_that_fails_ends_the_run() -> None:
    """There is no going on without it."""
    world = world_of(Stream((0,), FixedRate(100.0)))
    world.disconnect()
    world.list_statuses = [Status.ERROR]
    come_back(world)
    assert world.finished is not None
    assert world.finished.error == "LS error: why"


def test_a_run_that_is_over_while_there_is_no_connection_ends() -> None:
    """What is still kept is awaited until its deadline, and no longer."""
    world = world_of(Stream((0,), FixedRate(100.0), slo_ns=500 * MS))
    world.disconnect()
    world.run(100 * MS)
    world.step([StopAsked()])
    assert world.role.phase is Phase.DRAINING
    world.run(600 * MS)
    assert world.finished is not None
    assert world.finished.error is None
    assert summary_of(world).unanswered == 10


def test_a_run_that_drains_goes_on_when_the_connection_is_back() -> None:
    """The last requests are answered after all."""
    world = world_of(Stream((0,), FixedRate(100.0), slo_ns=SECOND), latency_ns=50 * MS)
    world.step([StopAsked()])
    world.disconnect()
    come_back(world)
    world.run(SECOND)
    assert summary_of(world).unanswered == 0


@given(
    outages_ns=st.lists(
        st.tuples(st.integers(0, 300 * MS), st.integers(0, 300 * MS)), min_size=1, max_size=6
    ),
    is_closed=st.booleans(),
    slo_ns=st.sampled_from([0, MS, 30 * MS, 400 * MS]),
)
@settings(deadline=None, max_examples=60)
def test_no_request_is_forgotten_or_counted_twice(
    outages_ns: list[tuple[int, int]], is_closed: bool, slo_ns: int
) -> None:
    """Whatever breaks when, each request is answered or lost, and none is sent after its time."""
    arrivals = ClosedLoop(3) if is_closed else Poisson(200.0)
    world = ClientWorld(
        workload(Stream((0,), arrivals, slo_ns=slo_ns), seed=1), reconnect_ns=PATIENCE_NS
    ).run(100 * MS)
    for up_ns, down_ns in outages_ns:
        world.disconnect()
        world.run(down_ns)
        world.step([ControllerConnected()])
        world.run(up_ns)
    world.run(50 * MS)
    summary = summary_of(world)
    assert summary.sent == summary.succeeded + summary.unanswered
    sent_in_time = zip(world.sends, world.sent_at_ns, strict=True)
    for send, at_ns in sent_in_time:
        assert at_ns <= (send.deadline_ns or send.arrival_ns + DEFAULT_SLO_NS)


# Unloading


def test_the_models_of_a_run_are_unloaded_at_its_end() -> None:
    """All copies of all sets go, and the run ends when the last one is gone."""
    world = ClientWorld(
        workload(Stream((0, 1, 2), ClosedLoop(3, requests=9)), models=3), unloads=True
    ).run(SECOND)
    assert world.models == []
    assert world.lines[-1] == "Unloaded 3 models"
    assert summary_of(world).succeeded == 9


def test_models_stay_unless_asked_otherwise() -> None:
    """As with the original."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1, requests=3)))).run(SECOND)
    assert len(world.models) == 1
    assert summary_of(world).succeeded == 3


def test_unloading_ends_after_a_while() -> None:
    """Who does not answer is named."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1, requests=3))), unloads=True)
    world.unloads = False
    world.run(UNLOAD_NS)
    assert world.finished is None
    assert world.role.phase is Phase.UNLOADING
    world.run(SECOND)
    assert world.lines[-2:] == [
        "Unloaded 0 models",
        "No answer came for these, which may still be loaded: 0",
    ]
    assert summary_of(world).succeeded == 3


def test_unloading_may_take_longer_than_draining() -> None:
    """The limit for the last answers is not one for unloading."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1))), unloads=True).run(SECOND)
    world.unloads = False
    world.step([StopAsked()])
    world.run(DRAIN_STOPPED_NS + SECOND)
    assert world.role.phase is Phase.UNLOADING


@pytest.mark.parametrize("how", ["stopped", "lost"])
def test_unloading_is_given_up(how: str) -> None:
    """When the user stops again, or nobody is there any more."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1))), unloads=True).run(SECOND)
    world.unloads = False
    world.step([StopAsked()])
    world.run(100 * MS)
    assert world.role.phase is Phase.UNLOADING
    if how == "stopped":
        world.step([StopAsked()])
    else:
        world.disconnect()
    assert world.finished is not None
    assert world.finished.error is None


def test_a_run_that_is_stopped_while_loading_unloads_what_comes() -> None:
    """A model that is loaded too late does not stay behind."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1)), models=2), unloads=True).start()
    world.step([StopAsked()])
    assert world.finished is None
    world.run(SECOND)
    assert world.models == []
    assert world.lines[-1] == "Unloaded 2 models"
    assert world.finished is not None
    assert world.finished.summary is None
