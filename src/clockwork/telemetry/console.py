"""The lines that the controller prints about an interval, and one about any connection.

Invariants: a line appears when its interval has passed, whatever happened in it; the first
interval begins when the console is made. Times are milliseconds, sizes MiB.

Source: SPEC 6.3. The original prints a first line with an interval of no meaning; ours does not.

Not here: the lines of clients (`client/statistics.py`) and workers (`live/worker_console.py`).
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from clockwork.messages.actions import ActionType
from clockwork.telemetry.figures import (
    ControllerFigures,
    ControllerGatherer,
    GpuFigures,
    Spread,
)
from clockwork.units import MIB, MS, SECOND

INTERVAL_NS: Final = 10 * SECOND
"""Time between two lines, as in the original."""

_ACTION_NAMES: Final = {ActionType.LOAD_WEIGHTS: "LoadW", ActionType.INFER: "Infer"}


class Traffic(Struct, frozen=True):
    """Bytes and messages that went over one or more connections since they were made."""

    sent_bytes: int = 0
    sent_messages: int = 0
    received_bytes: int = 0
    received_messages: int = 0


class ControllerConsole:
    """The controller's lines per GPU and about clients, fed with its telemetry records."""

    __slots__ = ("_gatherer", "_interval_ns", "add", "due_ns")

    def __init__(self, *, now_ns: int, interval_ns: int = INTERVAL_NS) -> None:
        """Begin the first interval at `now_ns`."""
        self._gatherer = ControllerGatherer(now_ns)
        self._interval_ns = interval_ns
        # Takes one record; the gatherer's own method, to save a call per record.
        self.add = self._gatherer.add
        # The instant from which `lines` has something to say.
        self.due_ns = now_ns + interval_ns

    def lines(self, now_ns: int) -> list[str]:
        """Return the lines of an interval that has ended by `now_ns`; none when idle or early."""
        figures = self.figures(now_ns)
        return [] if figures is None else list(controller_lines(figures))

    def figures(self, now_ns: int) -> ControllerFigures | None:
        """Return the figures of an interval that has ended by `now_ns`; None when early."""
        if now_ns < self.due_ns:
            return None
        self.due_ns = now_ns + self._interval_ns
        return self._gatherer.take(now_ns)


def controller_lines(figures: ControllerFigures) -> Iterator[str]:
    """Yield a line per GPU and type of action, then one about clients if any was answered."""
    for gpu in figures.gpus:
        yield _gpu_line(gpu, figures)
    if figures.responses:
        yield _requests_line(figures)


def traffic_line(link: str, *, before: Traffic, after: Traffic, elapsed_ns: int) -> str:
    """Return the averages per second between two readings `elapsed_ns` apart.

    Args:
        link: who sends to whom: ``Network->Workers``, ``Client->Controller``.
        before: the reading at the begin of the interval.
        after: the reading at its end.
        elapsed_ns: more than 0.
    """

    def rates(size_bytes: int, messages: int) -> str:
        mib_per_s = size_bytes * SECOND / elapsed_ns / MIB
        return f"{mib_per_s:.1f}MB/s ({messages * SECOND // elapsed_ns} msgs)"

    sent = rates(after.sent_bytes - before.sent_bytes, after.sent_messages - before.sent_messages)
    received = rates(
        after.received_bytes - before.received_bytes,
        after.received_messages - before.received_messages,
    )
    return f"{link}: {sent} snd, {received} rcv, "


def _gpu_line(gpu: GpuFigures, figures: ControllerFigures) -> str:
    count = gpu.duration.count
    utilization = gpu.duration.sum_ns / figures.elapsed_ns if figures.elapsed_ns > 0 else 0.0
    return (
        f"W{gpu.worker_id}-GPU{gpu.gpu_id} {_ACTION_NAMES[gpu.action_type]}"
        f" {_milliseconds(gpu.duration, 2)}"
        f" e2emean={gpu.end_to_end.mean_ns / MS:.2f} e2emax={gpu.end_to_end.max_ns / MS:.2f}"
        f" throughput={figures.per_second(count):.1f} utilization={utilization:.2f}"
        f" clock=[{gpu.clock_min_mhz}-{gpu.clock_max_mhz}]"
        f" norm_max={gpu.norm_max_ns / MS:.2f} norm_mean={gpu.norm_sum_ns / count / MS:.2f}"
    )


def _requests_line(figures: ControllerFigures) -> str:
    successes, responses = figures.successes, figures.responses
    violations = f"({figures.violations}/{responses} violations)"
    if not successes.count:
        return f"Client throughput=0 success=0% {violations}"
    share = 100 * successes.count / responses
    bracket = f" {violations}" if figures.violations else ""
    throughput = figures.per_second(successes.count)
    return (
        f"Client throughput={throughput:.1f} success={share:.2f}%{bracket}"
        f" {_milliseconds(successes, 1)}"
    )


def _milliseconds(spread: Spread, decimals: int) -> str:
    shown = [f"{ns / MS:.{decimals}f}" for ns in (spread.min_ns, spread.max_ns, spread.mean_ns)]
    return "min={} max={} mean={}".format(*shown)
