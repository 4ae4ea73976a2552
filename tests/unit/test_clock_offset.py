"""The estimate of a peer's clock, and instants in another clock."""

from hypothesis import given
from hypothesis import strategies as st

from clockwork.messages.actions import (
    ActionFailed,
    ActionType,
    EvictWeights,
    GetWorkerState,
    Infer,
    InferDone,
    LoadWeightsDone,
    Timing,
)
from clockwork.messages.ids import ActionId, GpuId, ModelId
from clockwork.messages.status import ActionStatus
from clockwork.parts.clock_offset import (
    ClockOffset,
    SlidingMinimum,
    shift_action,
    shift_ns,
    shift_result,
)
from clockwork.units import FOREVER_NS


@given(st.lists(st.integers(-50, 50), min_size=1), st.integers(1, 9))
def test_the_minimum_is_that_of_the_last_values(values: list[int], window: int) -> None:
    """Only the last `window` values count, whatever came before."""
    minimum = SlidingMinimum(window)
    for end, value in enumerate(values, 1):
        minimum.add(value)
        assert minimum.value == min(values[max(0, end - window) : end])


@given(
    offset_ns=st.integers(-(10**12), 10**12),
    waits=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=3),
    way_ns=st.integers(0, 10**6),
)
def test_two_peers_agree_on_their_offset(
    offset_ns: int, waits: list[tuple[int, int]], way_ns: int
) -> None:
    """Both sides find the difference of their clocks, as exactly as the fastest messages allow."""
    ours, theirs = ClockOffset(), ClockOffset()
    for our_wait_ns, their_wait_ns in [*waits, (0, 0), (0, 0), (0, 0)]:
        theirs.observe(way_ns + our_wait_ns + offset_ns, ours.local_minimum_ns)
        ours.observe(way_ns + their_wait_ns - offset_ns, theirs.local_minimum_ns)
    assert abs(ours.offset_ns - offset_ns) <= 1
    assert abs(theirs.offset_ns + offset_ns) <= 1
    assert ours.round_trip_ns == 2 * way_ns
    assert ours.delta_ns == -ours.offset_ns


def test_nothing_is_known_before_both_directions_were_heard() -> None:
    """A peer that has heard nothing yet says so, and the offset stays 0."""
    clock = ClockOffset()
    assert clock.local_minimum_ns == FOREVER_NS
    clock.observe(5_000, FOREVER_NS)
    assert (clock.offset_ns, clock.round_trip_ns, clock.local_minimum_ns) == (0, 0, 5_000)


def test_ends_of_time_survive_a_shift() -> None:
    """The instants 0 and FOREVER_NS mean the same in every clock; sums stay between them."""
    for delta_ns in (-10, 0, 10, FOREVER_NS, -FOREVER_NS):
        assert shift_ns(0, delta_ns) == 0
        assert shift_ns(FOREVER_NS, delta_ns) == FOREVER_NS
        assert 0 <= shift_ns(1_000, delta_ns) <= FOREVER_NS
    assert shift_ns(1_000, 10) == 1_010
    assert shift_ns(1_000, -10) == 990


def test_an_action_is_shifted_by_its_window() -> None:
    """Earliest and latest move, all else stays, and actions without a window are left alone."""
    action = Infer(ActionId(1), ModelId(2), GpuId(0), 100, 200, 50, 1, (4,))
    assert shift_action(action, 7) == Infer(
        ActionId(1), ModelId(2), GpuId(0), 107, 207, 50, 1, (4,)
    )
    always = EvictWeights(ActionId(1), ModelId(2), GpuId(0), 0, FOREVER_NS)
    assert shift_action(always, -50) == always
    assert shift_action(GetWorkerState(ActionId(3)), 7) == GetWorkerState(ActionId(3))


def test_a_result_is_shifted_by_its_instants() -> None:
    """All instants move, durations stay."""
    timing, moved = Timing(100, 200, 90), Timing(107, 207, 90)
    done = InferDone(ActionId(1), timing, timing, timing, GpuId(0), 0, 0, 90, 210)
    assert shift_result(done, 7) == InferDone(
        ActionId(1), moved, moved, moved, GpuId(0), 0, 0, 97, 217
    )
    assert shift_result(LoadWeightsDone(ActionId(1), timing, 90, 210), 7) == LoadWeightsDone(
        ActionId(1), moved, 97, 217
    )
    failed = ActionFailed(ActionId(1), ActionType.INFER, ActionStatus.CANCELLED, "no", 90, 210)
    assert shift_result(failed, 0) is failed
    assert shift_result(failed, 7).received_at_ns == 97
