"""The client role: loading, retrying, sending by virtual time, closed loops, ends and lines."""

from itertools import pairwise

import pytest
from client_stage import EXEC_NS, START_NS, ClientWorld, profile, workload

from clockwork.client.core import SENDS_MAX, ClientRole
from clockwork.client.outage import DEFAULT_SLO_NS
from clockwork.client.phase import DRAIN_NS, MOVES, Phase
from clockwork.client.workload import (
    BurstyClosed,
    ClosedLoop,
    FixedRate,
    ModelSet,
    Poisson,
    Stream,
    TraceReplay,
    Workload,
)
from clockwork.messages.client_io import (
    ControllerClosed,
    ControllerConnected,
    Finished,
    ResponseArrived,
    SendInfer,
    SendRequest,
    StopAsked,
)
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo
from clockwork.messages.requests import (
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
)
from clockwork.messages.role import WAKEUP
from clockwork.messages.status import Status
from clockwork.units import FOREVER_NS, MS, SECOND


def loaded(request_id: int, *, model_id: int = 0, copies: int = 1) -> ResponseArrived:
    """Return the answer to a LoadModel that succeeded."""
    info = ModelInfo(ModelId(model_id), "/m", profile())
    return ResponseArrived(
        LoadModelResponse(request_id, Status.SUCCESS, "", copies, info), 0, START_NS
    )


def load_failed(request_id: int, status: Status) -> ResponseArrived:
    """Return the answer to a LoadModel that failed."""
    return ResponseArrived(LoadModelResponse(request_id, status, "why", 0, None), 0, START_NS)


def listed(request_id: int, status: Status = Status.SUCCESS) -> ResponseArrived:
    """Return the answer to an LS."""
    return ResponseArrived(LsResponse(request_id, status, "why", ()), 0, START_NS)


def requests_of(effects: list[object]) -> list[object]:
    """Return the messages without payload among effects."""
    return [effect.message for effect in effects if isinstance(effect, SendRequest)]


def test_all_model_sets_are_loaded_before_the_list_is_asked_for() -> None:
    """LoadModel goes out once per set, LS when the last one is answered."""
    sets = (ModelSet("a", "/a", 2), ModelSet("b", "/b"))
    role = ClientRole(Workload("w", sets, (Stream((2,), ClosedLoop(1)),)))
    first = requests_of(role.handle([ControllerConnected()], START_NS))
    assert first == [LoadModelRequest(0, 0, "/a", 2), LoadModelRequest(1, 0, "/b", 1)]
    assert requests_of(role.handle([loaded(1, model_id=7)], START_NS)) == []
    assert requests_of(role.handle([loaded(0, model_id=3, copies=2)], START_NS)) == [
        LsRequest(2, 0)
    ]
    (send,) = (e for e in role.handle([listed(2)], START_NS) if isinstance(e, SendInfer))
    assert send.request.model_id == 7
    assert send.input_bytes == profile().input_bytes


def test_loading_is_tried_again_while_the_controller_initializes() -> None:
    """A LoadModel or LS that is answered with 5 is sent again a second later."""
    role = ClientRole(workload(Stream((0,), ClosedLoop(1))))
    role.handle([ControllerConnected()], START_NS)
    effects = role.handle([load_failed(0, Status.INITIALIZING)], START_NS)
    assert effects[0].text == "Clockwork initializing, retrying why"  # type: ignore[union-attr]
    assert role.wakeup_ns == START_NS + SECOND
    again = requests_of(role.handle([WAKEUP], START_NS + SECOND))
    assert again == [LoadModelRequest(1, 0, "/m", 1)]
    assert requests_of(role.handle([loaded(1)], START_NS + SECOND)) == [LsRequest(2, 0)]
    role.handle([listed(2, Status.INITIALIZING)], START_NS + SECOND)
    assert requests_of(role.handle([WAKEUP], START_NS + 2 * SECOND)) == [LsRequest(3, 0)]
    role.handle([listed(3)], START_NS + 2 * SECOND)
    assert role.in_flight == 1
    role.check()


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([load_failed(0, Status.ERROR)], "cannot load m from /m: why"),
        ([loaded(0), listed(1, Status.ERROR)], "LS error: why"),
        ([ControllerClosed("gone")], "connection to the controller lost: gone"),
    ],
)
def test_a_failure_before_the_first_request_ends_the_run(
    events: list[ResponseArrived], error: str
) -> None:
    """What cannot be loaded or listed ends the run with its reason and without a summary."""
    role = ClientRole(workload(Stream((0,), ClosedLoop(1))))
    role.handle([ControllerConnected()], START_NS)
    effects: list[object] = []
    for event in events:
        effects = list(role.handle([event], START_NS))
    assert effects[-1] == Finished(summary=None, error=error)
    assert role.wakeup_ns is None


def test_a_lost_connection_ends_a_run_with_a_summary() -> None:
    """What was sent before the connection broke is counted."""
    world = ClientWorld(workload(Stream((0,), FixedRate(10.0)))).run(SECOND + 5 * MS)
    world.step([ControllerClosed("gone")])
    assert world.finished is not None
    assert world.finished.error is not None
    assert world.finished.summary is not None
    assert world.finished.summary.sent == 10


def test_an_open_loop_sends_by_virtual_time_however_late_it_is_woken() -> None:
    """A role that is woken late sends all that is due, with the arrivals that were planned."""
    world = ClientWorld(workload(Stream((0,), FixedRate(1000.0)))).run(2 * MS)
    world.now_ns += SECOND
    world.step([WAKEUP])
    assert world.arrivals_s() == pytest.approx([count / 1000 for count in range(1, 1001)])
    assert world.role.wakeup_ns is not None
    assert world.role.wakeup_ns > world.now_ns


def test_requests_of_all_streams_are_sent_in_the_order_of_time() -> None:
    """Arrivals of many streams come out merged."""
    streams = [Stream((0,), Poisson(100.0), user_id=index) for index in range(20)]
    world = ClientWorld(workload(*streams)).run(SECOND)
    arrivals = [send.arrival_ns for send in world.sends]
    assert arrivals == sorted(arrivals)
    assert len({send.request.user_id for send in world.sends}) == 20
    ids = [send.request.user_request_id for send in world.sends]
    assert len(set(ids)) == len(ids)


def test_latency_counts_from_the_scheduled_arrival() -> None:
    """A request that is sent late has its delay in its latency."""
    world = ClientWorld(workload(Stream((0,), FixedRate(10.0)), duration_ns=SECOND // 10))
    world.run(2 * MS)
    world.now_ns += 150 * MS
    world.step([WAKEUP])
    world.run(SECOND)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.latency is not None
    # Sent about 50 ms late, answered after another one.
    assert world.finished.summary.latency.max_ns == pytest.approx(52 * MS, abs=MS)


def test_one_call_sends_a_bounded_number_of_requests() -> None:
    """A long delay is caught up in several calls, each asked for at once."""
    world = ClientWorld(workload(Stream((0,), FixedRate(100_000.0)))).run(2 * MS)
    before = len(world.sends)
    world.now_ns += SECOND
    effects = world.step([WAKEUP])
    assert len(effects) == SENDS_MAX
    assert world.role.wakeup_ns is not None
    assert world.role.wakeup_ns <= world.now_ns
    while world.role.wakeup_ns <= world.now_ns:
        world.step([WAKEUP])
    assert len(world.sends) - before == pytest.approx(100_000, abs=3)


def test_sending_wakes_up_no_oftener_than_the_grain() -> None:
    """With a grain, several requests go out per wake-up and none comes too early."""
    world = ClientWorld(
        workload(Stream((0,), FixedRate(10_000.0))), grain_ns=MS, answer=lambda send: None
    ).run(100 * MS)
    assert len(set(world.sent_at_ns)) < 120
    pairs = list(zip(world.sends, world.sent_at_ns, strict=True))
    assert all(send.arrival_ns <= at_ns for send, at_ns in pairs)
    assert all(at_ns - send.arrival_ns <= MS for send, at_ns in pairs)


def test_a_closed_loop_keeps_its_concurrency() -> None:
    """Each answer brings the next request, and models take turns."""
    world = ClientWorld(workload(Stream((0, 1, 2), ClosedLoop(4)), models=3)).run(100 * MS)
    assert world.most_in_flight == 4
    assert len(world.sends) == pytest.approx(400, abs=10)
    assert [send.model for send in world.sends[:7]] == [0, 1, 2, 0, 1, 2, 0]


def test_a_limited_closed_loop_ends_the_run_after_exactly_its_requests() -> None:
    """The run is over with the last answer, and all are counted."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(3, requests=10)))).run(SECOND)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.sent == world.finished.summary.succeeded == 10
    assert world.finished.error is None
    assert world.most_in_flight == 3


def test_a_refused_request_keeps_its_place_until_its_deadline() -> None:
    """A closed loop does not spin on refusals: it waits for the SLO, or the default one."""
    for slo_ns, wait_ns in ((20 * MS, 20 * MS), (0, DEFAULT_SLO_NS)):
        stream = Stream((0,), ClosedLoop(2), slo_ns=slo_ns)
        world = ClientWorld(workload(stream), answer=lambda _: Status.COULD_NOT_START_IN_TIME).run(
            2 * MS + 10 * wait_ns
        )
        assert len(world.sends) == 22
        arrivals = sorted({send.arrival_ns for send in world.sends})
        assert {later - earlier for earlier, later in pairwise(arrivals)} == {wait_ns}


def test_a_bursty_closed_loop_uses_its_answers_in_the_next_burst() -> None:
    """Answers that come in a silence are not lost."""
    stream = Stream((0,), BurstyClosed(3, burst_ns=50 * MS, idle_ns=100 * MS))
    world = ClientWorld(workload(stream)).run(10 * SECOND)
    assert world.most_in_flight == 3
    assert len(world.sends) * MS / 3 / (10 * SECOND) == pytest.approx(1 / 3, rel=0.3)


def test_the_duration_ends_the_sending_and_then_the_run() -> None:
    """Requests are sent for the duration, and the answers of the last ones are awaited."""
    world = ClientWorld(
        workload(Stream((0,), FixedRate(100.0)), duration_ns=2 * SECOND), latency_ns=500 * MS
    ).run(60 * SECOND)
    assert world.finished is not None
    summary = world.finished.summary
    assert summary is not None
    assert (summary.sent, summary.succeeded, summary.unanswered) == (200, 200, 0)
    assert summary.duration_ns == 2 * SECOND
    assert summary.offered_per_s == summary.goodput_per_s == 100


def test_requests_that_are_never_answered_are_counted_after_a_while() -> None:
    """Waiting for answers has an end."""
    world = ClientWorld(
        workload(Stream((0,), FixedRate(10.0)), duration_ns=SECOND),
        answer=lambda send: None if send.request.user_request_id % 2 else Status.SUCCESS,
    ).run(3 * DRAIN_NS)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.unanswered == 5
    assert world.now_ns < START_NS + DRAIN_NS + 2 * SECOND


def test_stopping_waits_for_answers_and_stopping_twice_does_not() -> None:
    """The first StopAsked ends the sending, the second the run."""
    world = ClientWorld(workload(Stream((0,), FixedRate(10.0))), latency_ns=500 * MS).run(
        2 * SECOND
    )
    world.step([StopAsked()])
    assert world.finished is None
    assert world.role.phase is Phase.DRAINING
    world.step([StopAsked()])
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.unanswered > 0


def test_stopping_before_the_first_request_ends_the_run() -> None:
    """There is nothing to sum up then."""
    role = ClientRole(workload(Stream((0,), ClosedLoop(1))))
    role.handle([ControllerConnected()], START_NS)
    assert role.handle([StopAsked()], START_NS) == [Finished(summary=None, error=None)]


def test_a_stream_may_start_later() -> None:
    """A delayed stream says so and sends nothing before."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1), start_after_ns=10 * SECOND))).run(
        10 * SECOND + 100 * MS
    )
    assert "Client start delayed by 10s" in world.lines
    assert world.arrivals_s()[0] == 10.0


def test_requests_carry_their_slo_and_the_client_judges_by_it() -> None:
    """Late successes count as such, and not as good; factors count in execution times."""
    streams = (
        Stream((0,), FixedRate(10.0), slo_ns=5 * MS),
        Stream((0,), FixedRate(10.0), slo_factor=1.0),
        Stream((0,), FixedRate(10.0)),
    )
    world = ClientWorld(workload(*streams, duration_ns=SECOND), latency_ns=4 * MS).run(3 * SECOND)
    requests = {send.stream: send for send in world.sends}
    assert requests[0].request.slo_ns == 5 * MS
    assert requests[1].request.slo_factor == 1.0
    assert requests[1].deadline_ns == requests[1].arrival_ns + EXEC_NS
    assert requests[2].deadline_ns is None
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.succeeded == 30
    assert world.finished.summary.good == 20


def test_inputs_can_be_left_out() -> None:
    """Without inputs, requests are empty."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1))), sends_inputs=False).run(10 * MS)
    assert {send.input_bytes for send in world.sends} == {0}


def test_weights_choose_models() -> None:
    """Requests are divided by popularity."""
    stream = Stream((0, 1, 2), Poisson(1000.0), weights=(6.0, 3.0, 1.0))
    world = ClientWorld(workload(stream, models=3)).run(20 * SECOND)
    shares = [
        sum(send.model == model for send in world.sends) / len(world.sends) for model in range(3)
    ]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.015)


def test_answers_that_nobody_waits_for_are_ignored() -> None:
    """A second answer to a request, or one to none, changes nothing."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1)))).run(10 * MS)
    before = world.role.in_flight
    stray = InferResponse(999_999, Status.SUCCESS, "", ModelId(0), 1, 1, False)
    world.step([ResponseArrived(stray, 0, world.now_ns), loaded(77), listed(78)])
    assert world.role.in_flight == before


def test_phases_only_move_forward() -> None:
    """Every phase can end, and none can come back."""
    for phase, allowed in MOVES.items():
        assert phase is Phase.ENDED or Phase.ENDED in allowed
        assert all(other.value > phase.value for other in allowed)


def test_a_seed_fixes_everything() -> None:
    """Two runs with one seed are equal, another seed gives others."""
    stream = Stream((0, 1), Poisson(100.0), weights=(1.0, 2.0))
    runs = [
        ClientWorld(workload(stream, models=2, seed=seed)).run(SECOND).sends for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_workload_without_arrivals_ends_at_once() -> None:
    """A silent trace is over when it begins."""
    world = ClientWorld(workload(Stream((0,), TraceReplay(counts=(0,))))).run(SECOND)
    assert world.finished is not None
    assert world.finished.summary is not None
    assert world.finished.summary.sent == 0
    assert world.role.wakeup_ns is None


def test_forever_is_no_instant_to_wake_up_at() -> None:
    """A closed loop that waits for answers sleeps until its next line on the console."""
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1))), answer=lambda _: None).run(5 * MS)
    assert world.role.wakeup_ns is not None
    assert world.role.wakeup_ns < FOREVER_NS
