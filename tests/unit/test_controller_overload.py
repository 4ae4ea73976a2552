"""A controller that has fallen behind: what it refuses, and when it plans."""

from controller_stage import CLIENT, Stage, profile
from hypothesis import given
from hypothesis import strategies as st

from clockwork.controller.core import GATHER_NS
from clockwork.messages.actions import Infer
from clockwork.messages.controller_io import FromClient
from clockwork.messages.ids import ModelId
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import InferRequest
from clockwork.messages.status import Status
from clockwork.units import MS


def test_requests_that_waited_too_long_to_be_read_are_shed() -> None:
    """After a pause, what waited for half of its SLO is refused at once, the rest is served."""
    stage = Stage().start(profile())
    stage.warm()
    numbers = waited(stage, 51, 49)
    stage.settle()
    answers = stage.answers()
    assert answers[numbers[0]].status is Status.COULD_NOT_START_IN_TIME
    assert "overloaded" in answers[numbers[0]].message
    assert answers[numbers[1]].status is Status.SUCCESS
    assert sorted(row.result for row in stage.records(RequestRecord)) == [0, 8]


def test_an_overload_that_lasts_sheds_what_waited_for_a_quarter_of_its_slo() -> None:
    """The patience with a pause ends after 300 ms; a request that had not waited renews it."""
    stage = Stage().start(profile())
    stage.warm()

    def is_served(waited_ms: int) -> bool:
        end_ns = stage.now_ns + 40 * MS
        (number,) = waited(stage, waited_ms)
        stage.settle()
        stage.advance((end_ns - stage.now_ns) / MS)
        return stage.answers()[number].status is Status.SUCCESS

    assert [is_served(40) for _ in range(7)] == [True] * 7
    assert [is_served(26), is_served(24), is_served(26)] == [False, True, False]
    assert [is_served(4), is_served(26), is_served(40)] == [True] * 3


def test_the_wait_of_a_request_that_is_refused_at_once_counts() -> None:
    """It is in its latency, in its row, and in what it is told that it needs."""
    stage = Stage().start(profile())
    stage.warm()
    impossible, late = waited(stage, 4, slo_ms=6) + waited(stage, 4, slo_ms=10)
    answers = stage.answers()
    # The wait, an execution of 3 ms, the buffer of 5 ms.
    assert "needs 12.0 ms" in answers[impossible].message
    assert "needs 12.0 ms" in answers[late].message
    assert answers[impossible].latency_ns == answers[late].latency_ns == 4 * MS
    assert [row.latency for row in stage.records(RequestRecord)] == [4 * MS, 4 * MS]


def test_requests_that_wait_are_gathered_into_one_infer() -> None:
    """While more of them wait in front of the role it takes them in without planning."""
    stage = Stage().start(profile())
    stage.warm()
    stage.advance(20)
    # The first batch after a pause is planned: nothing was, for long.
    hand_over(stage, 20)
    assert [action.batch_size for action in stage.take(Infer)] == [1]
    stage.settle()
    hand_over(stage, 19, 19)
    hand_over(stage, 18, 18)
    assert stage.take(Infer) == []
    # As soon as none waits any more.
    assert stage.role.wakeup_ns == stage.now_ns
    stage.advance(0)
    assert [action.batch_size for action in stage.take(Infer)] == [4]
    stage.settle()
    assert [answer.status for answer in stage.answers().values()] == [Status.SUCCESS] * 5


def test_gathering_ends_even_if_requests_wait_without_end() -> None:
    """Devices do not idle for longer than what is planned ahead."""
    stage = Stage().start(profile())
    stage.warm()
    stage.advance(20)
    hand_over(stage, 20)
    planned_ns = stage.now_ns
    while len(stage.take(Infer)) == 1:
        assert stage.now_ns < planned_ns + GATHER_NS
        stage.now_ns += MS
        hand_over(stage, 20)
    assert stage.now_ns == planned_ns + GATHER_NS
    assert sum(action.batch_size for action in stage.take(Infer)) == 1 + GATHER_NS // MS


def test_a_request_that_hardly_waited_is_planned_at_once() -> None:
    """Then no others can wait behind it."""
    stage = Stage().start(profile())
    stage.warm()
    for count in (1, 2, 3):
        hand_over(stage, 5)
        assert len(stage.take(Infer)) == count


def test_results_do_not_wait_for_requests() -> None:
    """A batch that ends with a result is planned at once, and with it what was gathered."""
    stage = Stage().start(profile())
    stage.warm()
    stage.advance(20)
    hand_over(stage, 20)
    hand_over(stage, 20)
    (first,) = stage.take(Infer)
    stage.succeed(first, took_ms=0)
    assert len(stage.take(Infer)) == 1


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=4), max_size=12))
def test_every_request_is_answered_once_however_long_it_waited(batches: list[list[int]]) -> None:
    """Gathering and planning alternate; all invariants hold after each step."""
    stage = Stage().start(profile())
    stage.warm()
    numbers: list[int] = []
    for waits_ms in batches:
        stage.now_ns += MS
        numbers += hand_over(stage, *waits_ms)
    stage.advance(0)
    stage.settle()
    stage.advance(200)
    assert sorted(stage.answers()) == sorted(numbers)


def waited(stage: Stage, *waits_ms: int, slo_ms: int = 100) -> list[int]:
    """Hand over requests that have waited, and tell that no others do; return their numbers."""
    numbers = hand_over(stage, *waits_ms, slo_ms=slo_ms)
    stage.advance(0)
    return numbers


def hand_over(stage: Stage, *waits_ms: int, slo_ms: int = 100) -> list[int]:
    """Hand over requests that have waited, as one batch; return their numbers."""
    events = []
    for wait_ms in waits_ms:
        stage._next_request += 1
        message = InferRequest(stage._next_request, 0, ModelId(0), slo_ms * MS)
        events.append(FromClient(CLIENT, message, b"", stage.now_ns - wait_ms * MS))
    stage.handle(*events)
    return [event.message.user_request_id for event in events]
