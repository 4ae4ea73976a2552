"""The figures of the console as a table that refreshes in place, for `--live`.

Not here: the figures themselves (`figures.py`), and who takes them and when (the shells).
"""

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clockwork.messages.actions import ActionType
from clockwork.telemetry.figures import ControllerFigures, GpuFigures, Spread
from clockwork.telemetry.lag import LagHistogram
from clockwork.units import MS

GPU_ROWS_MAX = 32
"""GPUs with a row of their own; chosen: a screenful. The others share one row."""


class LiveTable:
    """Shows the latest figures in place of the ones before; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare to draw on `console`, default: the terminal."""
        # No refresh thread: the table changes only when there are new figures.
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, table: RenderableType) -> None:
        """Replace what is shown."""
        self._live.update(table, refresh=True)


def controller_table(figures: ControllerFigures, lag: LagHistogram | None = None) -> Group:
    """Return what a controller did in an interval: one table of requests, one of GPUs."""
    requests = _table("responses/s", "success", "cold starts", "min", "mean", "max ms")
    share = figures.successes.count / figures.responses if figures.responses else None
    requests.add_row(
        f"{figures.per_second(figures.responses):,.1f}",
        "-" if share is None else f"{share:.2%}",
        str(figures.cold_starts),
        *_milliseconds(figures.successes, 1),
    )
    parts: list[RenderableType] = [requests, _gpu_table(figures)]
    if lag is not None:
        parts.append(Text(lag.line(), style="dim"))
    return Group(*parts)


def _gpu_table(figures: ControllerFigures) -> Table:
    table = _table(
        "GPU", "infer/s", "min", "mean", "max ms", "busy", "load/s", "mean ms", "busy", first="left"
    )
    by_gpu: dict[tuple[int, int], dict[ActionType, GpuFigures]] = {}
    for gpu in figures.gpus:
        by_gpu.setdefault((gpu.worker_id, gpu.gpu_id), {})[gpu.action_type] = gpu
    for (worker_id, gpu_id), kinds in list(by_gpu.items())[:GPU_ROWS_MAX]:
        infer, load = kinds.get(ActionType.INFER), kinds.get(ActionType.LOAD_WEIGHTS)
        table.add_row(
            f"W{worker_id}-GPU{gpu_id}",
            *_rate_and_times(infer, figures),
            _busy(infer, figures),
            _rate(load, figures),
            f"{load.duration.mean_ns / MS:.2f}" if load else "-",
            _busy(load, figures),
        )
    if len(by_gpu) > GPU_ROWS_MAX:
        table.add_row(f"and {len(by_gpu) - GPU_ROWS_MAX} more")
    return table


def _table(*headings: str, first: str = "right") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 and first == "left" else "right")
    return table


def _rate_and_times(gpu: GpuFigures | None, figures: ControllerFigures) -> list[str]:
    times = _milliseconds(gpu.duration, 2) if gpu else ["-", "-", "-"]
    return [_rate(gpu, figures), *times]


def _rate(gpu: GpuFigures | None, figures: ControllerFigures) -> str:
    return f"{figures.per_second(gpu.duration.count):,.1f}" if gpu else "-"


def _busy(gpu: GpuFigures | None, figures: ControllerFigures) -> str:
    if gpu is None or figures.elapsed_ns <= 0:
        return "-"
    return f"{gpu.duration.sum_ns / figures.elapsed_ns:.0%}"


def _milliseconds(spread: Spread, decimals: int) -> list[str]:
    if not spread.count:
        return ["-", "-", "-"]
    times = (spread.min_ns, spread.mean_ns, spread.max_ns)
    return [f"{time_ns / MS:.{decimals}f}" for time_ns in times]
