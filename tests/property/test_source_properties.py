"""What holds for every arrival process, whatever its parameters and however late its holder."""

from random import Random

from client_stage import START_NS, ClientWorld, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from clockwork.client.arrivals import source_of
from clockwork.client.workload import (
    Arrivals,
    BurstyClosed,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    OnOff,
    Poisson,
    Recorded,
    Stream,
    TraceReplay,
)
from clockwork.messages.status import Status
from clockwork.units import FOREVER_NS, MS, SECOND

rates = st.floats(1, 1000)
# Shorter ones are refused where workloads are read: time would be spent on bursts alone.
durations = st.integers(50 * MS, 2 * SECOND)
counts = st.lists(st.integers(0, 500), min_size=1, max_size=8)

open_loops = st.one_of(
    st.builds(Poisson, rates),
    st.builds(FixedRate, rates),
    st.builds(BurstyOpen, rates, durations, durations),
    st.builds(Gamma, rates, st.floats(0.5, 8)),
    st.builds(OnOff, st.integers(1, 4), st.integers(1, 4), st.integers(0, MS), durations),
    st.builds(
        TraceReplay,
        counts,
        st.integers(MS, SECOND),
        st.floats(0.1, 100),
        st.none() | st.integers(0, 20),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        Recorded,
        st.lists(st.integers(0, SECOND - 1), max_size=20).map(sorted),
        st.just(SECOND),
        st.floats(0.1, 3),
        st.booleans(),
    ),
)


@given(open_loops, st.integers(0, 2**32))
def test_arrivals_never_go_back_in_time(arrivals: Arrivals, seed: int) -> None:
    """The next arrival is never before the one that was just taken."""
    source = source_of(arrivals, Random(seed))
    source.start(START_NS)
    last_ns = START_NS
    for _ in range(50):
        if source.next_ns == FOREVER_NS:
            assert source.has_ended
            break
        assert source.next_ns >= last_ns
        last_ns = source.next_ns
        source.advance()


@given(open_loops, st.integers(0, 2**32), st.lists(st.integers(0, 10**9), max_size=20))
@settings(max_examples=50, deadline=None)
def test_arrivals_do_not_depend_on_when_the_role_is_called(
    arrivals: Arrivals, seed: int, delays_ns: list[int]
) -> None:
    """A role that is woken late or too often sends the same requests for the same instants."""
    streams = workload(Stream((0,), arrivals), seed=seed, duration_ns=2 * SECOND)
    punctual = ClientWorld(streams).run(5 * SECOND)
    late = ClientWorld(streams).run(2 * MS)
    for delay_ns in delays_ns:
        late.run(delay_ns // 7)
        late.now_ns += delay_ns
    late.run(40 * SECOND)
    assert [send.arrival_ns for send in late.sends] == [send.arrival_ns for send in punctual.sends]


@given(
    st.integers(1, 8),
    st.integers(1, 40),
    st.integers(0, 2**32),
    st.sampled_from([Status.SUCCESS, Status.TIMEOUT]),
)
@settings(deadline=None)
def test_a_limited_closed_loop_sends_exactly_its_requests(
    concurrency: int, requests: int, seed: int, other: Status
) -> None:
    """Never more in flight than allowed, and exactly as many in all as told, whatever fails."""
    rng = Random(seed)
    world = ClientWorld(
        workload(Stream((0,), ClosedLoop(concurrency, requests))),
        answer=lambda _: rng.choice([Status.SUCCESS, other]),
    ).run(100 * SECOND)
    assert world.finished is not None
    assert len(world.sends) == requests
    assert world.most_in_flight == min(concurrency, requests)


@given(st.integers(1, 5), durations, durations, st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_a_bursty_closed_loop_never_exceeds_its_concurrency(
    concurrency: int, burst_ns: int, idle_ns: int, seed: int
) -> None:
    """Silences and bursts of any length neither lose places nor make new ones."""
    stream = Stream((0,), BurstyClosed(concurrency, burst_ns, idle_ns))
    world = ClientWorld(workload(stream, seed=seed), latency_ns=10 * MS).run(5 * SECOND)
    assert world.most_in_flight == concurrency
