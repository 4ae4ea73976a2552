"""The console's lines, letter by letter, and when they appear."""

import io

from rich.console import Console
from telemetry_records import action, load, request

from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus, Status
from clockwork.telemetry.console import (
    ControllerConsole,
    Traffic,
    traffic_line,
)
from clockwork.telemetry.figures import ControllerGatherer
from clockwork.telemetry.lag import LagHistogram
from clockwork.telemetry.live_table import GPU_ROWS_MAX, LiveTable, controller_table
from clockwork.units import MIB, MS, SECOND


def test_a_gpu_gets_a_line_per_type_of_action() -> None:
    """Loads and infers of a GPU are shown with the original's figures and decimals."""
    console = ControllerConsole(now_ns=0)
    console.add(load(controller_result_enqueue=9 * MS))
    for duration_ms, end_to_end_ms in ((2, 3), (4, 6)):
        console.add(
            action(
                worker_exec_duration=duration_ms * MS,
                controller_result_enqueue=end_to_end_ms * MS,
                worker_gpu_clock=1380,
            )
        )
    assert console.lines(10 * SECOND) == [
        (
            "W0-GPU0 LoadW min=8.00 max=8.00 mean=8.00 e2emean=9.00 e2emax=9.00 throughput=0.1"
            " utilization=0.00 clock=[0-0] norm_max=0.00 norm_mean=0.00"
        ),
        (
            "W0-GPU0 Infer min=2.00 max=4.00 mean=3.00 e2emean=4.50 e2emax=6.00 throughput=0.2"
            " utilization=0.00 clock=[1380-1380] norm_max=4.00 norm_mean=3.00"
        ),
    ]


def test_lines_are_ordered_by_worker_gpu_and_type() -> None:
    """The order of lines does not depend on the order of records."""
    console = ControllerConsole(now_ns=0)
    for worker_id, gpu_id in ((1, 0), (0, 1), (0, 0)):
        console.add(action(worker_id=worker_id, gpu_id=gpu_id))
        console.add(load(worker_id=worker_id, gpu_id=gpu_id))
    starts = [" ".join(line.split()[:2]) for line in console.lines(10 * SECOND)]
    assert starts == [
        "W0-GPU0 LoadW",
        "W0-GPU0 Infer",
        "W0-GPU1 LoadW",
        "W0-GPU1 Infer",
        "W1-GPU0 LoadW",
        "W1-GPU0 Infer",
    ]


def test_failed_actions_and_evictions_have_no_line() -> None:
    """Only successful loads and infers are shown."""
    console = ControllerConsole(now_ns=0)
    console.add(action(status=ActionStatus.EXEC_TOO_LATE))
    console.add(action(action_type=ActionType.EVICT_WEIGHTS))
    assert console.lines(10 * SECOND) == []


def test_utilization_and_clock_span_the_interval() -> None:
    """Utilization is busy time by elapsed time; the clock shows its extremes."""
    console = ControllerConsole(now_ns=0)
    for clock_mhz in (1350, 1380, 1290):
        console.add(action(worker_exec_duration=2500 * MS, worker_gpu_clock=clock_mhz))
    (line,) = console.lines(10 * SECOND)
    assert "utilization=0.75 clock=[1290-1380] norm_max=2500.00 norm_mean=2427.54" in line


def test_clients_get_a_line() -> None:
    """All requests succeeded: rate, share and latencies with one decimal."""
    console = ControllerConsole(now_ns=0)
    for latency_ms in (3, 5, 10):
        console.add(request(latency=latency_ms * MS))
    assert console.lines(10 * SECOND) == [
        "Client throughput=0.3 success=100.00% min=3.0 max=10.0 mean=6.0"
    ]


def test_violations_are_shown_when_there_are_some() -> None:
    """Requests that failed are counted in the bracket and not in the latencies."""
    console = ControllerConsole(now_ns=0)
    console.add(request(result=Status.TIMEOUT, latency=100 * MS))
    console.add(request())
    console.add(request())
    assert console.lines(10 * SECOND) == [
        "Client throughput=0.2 success=66.67% (1/3 violations) min=5.0 max=5.0 mean=5.0"
    ]


def test_an_interval_without_success_says_so() -> None:
    """With no success there are no latencies to show."""
    console = ControllerConsole(now_ns=0)
    console.add(request(result=Status.TIMEOUT))
    assert console.lines(10 * SECOND) == ["Client throughput=0 success=0% (1/1 violations)"]


def test_lines_appear_when_the_interval_has_passed() -> None:
    """Time makes the lines appear; each interval starts from nothing."""
    console = ControllerConsole(now_ns=3 * SECOND, interval_ns=SECOND)
    console.add(request())
    assert console.due_ns == 4 * SECOND
    assert console.lines(4 * SECOND - 1) == []
    assert len(console.lines(5 * SECOND)) == 1
    assert console.lines(6 * SECOND) == []
    assert console.due_ns == 7 * SECOND


def test_rates_are_over_the_time_that_passed() -> None:
    """A late line divides by the time that has really passed."""
    console = ControllerConsole(now_ns=0, interval_ns=SECOND)
    for _ in range(8):
        console.add(request())
    (line,) = console.lines(4 * SECOND)
    assert line.startswith("Client throughput=2.0 ")


def test_traffic_is_averaged_per_second() -> None:
    """Bytes and messages of both directions are shown per second, bytes as MiB."""
    line = traffic_line(
        "Network->Workers",
        before=Traffic(sent_bytes=MIB, sent_messages=7),
        after=Traffic(
            sent_bytes=26 * MIB, sent_messages=1017, received_bytes=MIB, received_messages=55
        ),
        elapsed_ns=10 * SECOND,
    )
    assert line == "Network->Workers: 2.5MB/s (101 msgs) snd, 0.1MB/s (5 msgs) rcv, "


def shown(table: object) -> str:
    """Return what rich draws, on a terminal that is wide enough."""
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_table_shows_the_same_figures() -> None:
    """The table of a controller has its rates, its GPUs and its lag."""
    gatherer = ControllerGatherer(0)
    gatherer.add(request())
    gatherer.add(request(result=Status.TIMEOUT, is_coldstart=1))
    gatherer.add(action(gpu_id=1, worker_exec_duration=250 * MS))
    gatherer.add(load())
    text = shown(controller_table(gatherer.take(SECOND), LagHistogram()))
    cells = [line.split() for line in text.splitlines()]
    assert ["2.0", "50.00%", "1", "5.0", "5.0", "5.0"] in cells
    assert ["W0-GPU0", "-", "-", "-", "-", "-", "1.0", "8.00", "1%"] in cells
    assert ["W0-GPU1", "1.0", "250.00", "250.00", "250.00", "25%", "-", "-", "-"] in cells
    assert "Event loop lag" in text


def test_the_live_table_of_many_gpus_fits_a_screen() -> None:
    """GPUs beyond a screenful are counted instead of shown."""
    gatherer = ControllerGatherer(0)
    for worker_id in range(150):
        gatherer.add(action(worker_id=worker_id))
    text = shown(controller_table(gatherer.take(SECOND)))
    assert f"and {150 - GPU_ROWS_MAX} more" in text
    assert len(text.splitlines()) < 40


def test_the_live_table_of_an_idle_interval_is_empty() -> None:
    """Without records there are dashes and no division by zero."""
    assert "-" in shown(controller_table(ControllerGatherer(0).take(0)))


def test_the_live_table_replaces_itself() -> None:
    """Showing figures draws them at once on the console that was given."""
    out = io.StringIO()
    with LiveTable(Console(file=out, force_terminal=True, width=80)) as table:
        table.show(controller_table(ControllerGatherer(0).take(SECOND)))
    assert "responses/s" in out.getvalue()
