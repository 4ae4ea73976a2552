"""Ladders of a running client, and the lines that it prints."""

import pytest
from client_stage import ClientWorld, workload

from clockwork.client.ladder import TUNES_MAX
from clockwork.client.workload import (
    ClosedLoop,
    FixedRate,
    Knob,
    Ladder,
    Step,
    Stream,
    TraceReplay,
)
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND


def test_the_console_has_the_lines_of_the_original() -> None:
    """Every interval says what was sent and answered, and what crossed the network."""
    world = ClientWorld(
        workload(Stream((0,), FixedRate(100.0)), duration_ns=3 * SECOND), interval_ns=SECOND
    ).run(10 * SECOND)
    nothing = "Client->Controller: 0.0MB/s (0 msgs) snd, 0.0MB/s (0 msgs) rcv, "
    moving = "Client->Controller: 0.1MB/s (100 msgs) snd, 0.0MB/s (100 msgs) rcv, "
    assert world.lines[0] == nothing
    assert world.lines[1] == "total=100 throughput=99.00 min=1.00 max=1.00 mean=1.00"
    assert world.lines[3] == "total=100 throughput=100.00 min=1.00 max=1.00 mean=1.00"
    assert world.lines[4] == moving


def test_an_interval_without_successes_says_so() -> None:
    """Refusals are no throughput."""
    world = ClientWorld(
        workload(Stream((0,), FixedRate(10.0))),
        interval_ns=SECOND,
        answer=lambda _: Status.TIMEOUT,
    ).run(SECOND + 3 * MS)
    assert world.lines[1] == "total=10 throughput=0"


def test_a_ladder_of_slo_factors_ends_without_the_value_that_is_too_large() -> None:
    """Values are said and applied each period until one exceeds the end."""
    ladder = Ladder(
        knob=Knob.SLO_FACTOR,
        streams=(0,),
        period_ns=SECOND,
        start=1.0,
        step=Step.MULTIPLY,
        by=2.0,
        end=5.0,
    )
    stream = Stream((0,), FixedRate(10.0), slo_factor=1.0)
    world = ClientWorld(workload(stream, ladders=(ladder,))).run(10 * SECOND)
    assert world.finished is not None
    assert [line for line in world.lines if "Client->" not in line] == [
        "Updating slo_factor to 2",
        "Updating slo_factor to 4",
        "Terminating engine",
    ]
    factors = [send.request.slo_factor for send in world.sends]
    assert factors == [1.0] * 10 + [2.0] * 10 + [4.0] * 10


def test_a_ladder_of_rates_applies_the_last_value_and_ends() -> None:
    """Rates change at each period's end; the one that is too large is said too."""
    ladder = Ladder(
        knob=Knob.RATE,
        streams=(0, 1),
        period_ns=SECOND,
        start=10.0,
        step=Step.ADD,
        by=10.0,
        end=25.0,
    )
    streams = (Stream((0,), FixedRate(10.0)), Stream((0,), FixedRate(10.0)))
    world = ClientWorld(workload(*streams, ladders=(ladder,))).run(10 * SECOND)
    assert [line for line in world.lines if "Client->" not in line] == [
        "Updating rate to 20",
        "Updating rate to 30",
        "Terminating engine",
    ]
    per_second = [
        sum(second < at <= second + 1 for at in world.arrivals_s()) for second in range(2)
    ]
    assert per_second == [20, 40]


def test_a_ladder_of_scales_turns_many_replays_piece_by_piece() -> None:
    """All streams get the new scale soon, though not in one call."""
    count = 2 * TUNES_MAX + 10
    ladder = Ladder(
        knob=Knob.SCALE,
        streams=tuple(range(count)),
        period_ns=SECOND,
        start=1.0,
        step=Step.MULTIPLY,
        by=6.0,
    )
    streams = [Stream((0,), TraceReplay(counts=(60,))) for _ in range(count)]
    world = ClientWorld(workload(*streams, ladders=(ladder,)), latency_ns=100).run(1600 * MS)
    assert ">>>> Updating scale_factor to 6" in world.lines
    late = [at for at in world.arrivals_s() if 1.1 < at <= 1.6]
    assert len(late) == pytest.approx(count * 6 * 0.5, rel=0.1)


def test_a_toggling_ladder_goes_back_and_forth() -> None:
    """The third model of simple-slo-factor changes between two values."""
    ladder = Ladder(
        knob=Knob.SLO_FACTOR, streams=(0,), period_ns=SECOND, start=10.0, step=Step.TOGGLE, by=1.0
    )
    world = ClientWorld(workload(Stream((0,), ClosedLoop(1)), ladders=(ladder,))).run(
        3 * SECOND + 10 * MS
    )
    assert [line for line in world.lines if "slo_factor" in line] == [
        "Updating slo_factor to 1",
        "Updating slo_factor to 10",
        "Updating slo_factor to 1",
    ]
