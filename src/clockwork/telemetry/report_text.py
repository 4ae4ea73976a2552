"""A report as tables for a terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import floor
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from clockwork.telemetry.summary import (
    ActionSummary,
    GroupSummary,
    LatencySummary,
    PredictionError,
    Report,
    RequestSummary,
)
from clockwork.units import SECOND

GPU_ROWS_MAX: Final = 16
"""GPUs with a row of their own; chosen. All of them are in the JSON."""

_NOTHING: Final = "-"


def report_text(report: Report, *, per_model: int = 10) -> Group:
    """Return all tables of a report.

    Args:
        report: what to show.
        per_model: rows of the tables of models and tenants, those with most requests first.
    """
    parts: list[RenderableType] = [_run_line(report)]
    if report.requests is not None:
        parts += _request_parts(report.requests, per_model)
    if report.actions is not None:
        parts += _action_parts(report.actions)
    parts += [Text(f"Warning: {text}", style="yellow") for text in report.warnings]
    return Group(*(Padding(part, (0, 0, 1, 0), expand=False) for part in parts))


def _run_line(report: Report) -> Text:
    begin = datetime.fromtimestamp(report.begin_ns // SECOND, tz=UTC)
    return Text.assemble(
        ("Run ", "bold"),
        f"of {_number(report.elapsed_s)} s from {begin:%Y-%m-%d %H:%M:%S} UTC, ",
        f"logs in {report.directory}",
    )


def _request_parts(requests: RequestSummary, per_model: int) -> Iterator[RenderableType]:
    yield _overview(requests)
    if requests.latency is not None:
        yield _latency_table(requests.latency)
    if per_model:
        yield _group_table("Models", requests.models, per_model, is_models=True)
        if len(requests.tenants) > 1:
            yield _group_table("Tenants", requests.tenants, per_model, is_models=False)


def _action_parts(actions: ActionSummary) -> Iterator[RenderableType]:
    if actions.batch_sizes:
        yield _batch_table(actions)
    if actions.gpus:
        yield _gpu_table(actions)
    if any(error.count for error in actions.errors):
        yield _error_table(actions.errors)
    if actions.failures:
        yield _failure_table(actions)


def _overview(requests: RequestSummary) -> Group:
    table = _table("", "", "", "", headed=False)
    table.columns[0].justify = table.columns[2].justify = "left"
    cells = [
        ("requests", f"{requests.requests:,}"),
        ("offered load", f"{_number(requests.offered_per_s)} /s"),
        ("goodput", f"{_number(requests.goodput_per_s)} /s"),
        ("SLO attainment", f"{_attained(requests.slo_attainment, decimals=4)} %"),
        ("cold starts", f"{requests.cold_starts:,}"),
        ("cold-start share", _percent(requests.cold_start_share)),
        ("succeeded late", f"{requests.late:,}"),
        *((f"status {name}", f"{count:,}") for name, count in requests.by_status.items()),
    ]
    for left, right in zip(cells[::2], [*cells[1::2], ("", "")], strict=False):
        table.add_row(*left, f"  {right[0]}", right[1])
    return _section("Requests", table)


def _latency_table(latency: LatencySummary) -> Group:
    table = _table("min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max")
    figures = (
        *(latency.min_ms, latency.mean_ms, latency.p50_ms, latency.p90_ms),
        *(latency.p99_ms, latency.p99_9_ms, latency.p99_99_ms, latency.max_ms),
    )
    table.add_row(*(_milliseconds(figure) for figure in figures))
    return _section(f"Latency of {latency.count:,} successful requests (ms)", table)


def _group_table(
    title: str, groups: Sequence[GroupSummary], rows: int, *, is_models: bool
) -> Group:
    shown = groups[:rows]
    count = f"{len(shown)} of {len(groups):,}, most requests first"
    headings = ("id", "requests", "goodput/s", "SLO %", "cold %", "p50", "p99", "max")
    more = ("batch", "loads") if is_models else ()
    table = _table(*headings, *more)
    for group in shown:
        table.add_row(*_group_cells(group)[: len(headings) + len(more)])
    return _section(f"{title} ({count}; latencies in ms)", table)


def _group_cells(group: GroupSummary) -> list[str]:
    return [
        str(group.id),
        f"{group.requests:,}",
        _number(group.goodput_per_s),
        _attained(group.slo_attainment),
        f"{100 * group.cold_start_share:.2f}",
        *(_tenths(figure) for figure in (group.p50_ms, group.p99_ms, group.max_ms)),
        _NOTHING if group.mean_batch_size is None else f"{group.mean_batch_size:.2f}",
        _NOTHING if group.loads is None else f"{group.loads:,}",
    ]


def _batch_table(actions: ActionSummary) -> Group:
    sizes = actions.batch_sizes
    requests = sum(size * count for size, count in sizes.items())
    table = _table("size", "batches", "share of requests")
    for size, count in sizes.items():
        table.add_row(str(size), f"{count:,}", _percent(size * count / requests))
    title = f"Batches (mean size {actions.mean_batch_size:.2f} = sum b² / sum b)"
    return _section(title, table)


def _gpu_table(actions: ActionSummary) -> Group:
    table = _table("GPU", "infers", "busy", "loads", "busy")
    table.columns[0].justify = "left"
    for gpu in actions.gpus[:GPU_ROWS_MAX]:
        table.add_row(
            f"W{gpu.worker_id}-GPU{gpu.gpu_id}",
            f"{gpu.infers:,}",
            _percent(gpu.infer_utilization),
            f"{gpu.loads:,}",
            _percent(gpu.load_utilization),
        )
    hidden = len(actions.gpus) - GPU_ROWS_MAX
    table.add_row(
        f"all {len(actions.gpus)}" if hidden <= 0 else f"all {len(actions.gpus)} ({hidden} hidden)",
        f"{actions.infers:,}",
        _percent(actions.infer_utilization),
        f"{actions.loads:,}",
        _percent(actions.load_utilization),
        style="bold",
    )
    return _section("GPUs (busy: share of the run)", table)


def _error_table(errors: Sequence[PredictionError]) -> Group:
    table = _table("action", "predicted", "side", "count", "share", "p50", "p99", "max")
    for column in table.columns[:3]:
        column.justify = "left"
    for error in errors:
        if error.count:
            table.add_row(
                *(error.action, error.of, error.side, f"{error.count:,}", _percent(error.share)),
                *(_milliseconds(figure) for figure in (error.p50_ms, error.p99_ms, error.max_ms)),
            )
    return _section("Prediction errors (ms; over: took no longer, under: took longer)", table)


def _failure_table(actions: ActionSummary) -> Group:
    table = _table("action and status", "count")
    table.columns[0].justify = "left"
    for name, count in actions.failures.items():
        table.add_row(name, f"{count:,}")
    return _section("Failed actions", table)


def _section(title: str, table: Table) -> Group:
    """Return a table below its title, which may be wider than the table."""
    return Group(Text(title, style="bold"), table)


def _table(*headings: str, headed: bool = True) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        show_header=headed,
        header_style="dim",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10_000 else f"{value:,.2f}"


def _milliseconds(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.3f}" if value < 100 else f"{value:,.1f}"


def _tenths(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _attained(share: float, *, decimals: int = 2) -> str:
    """Return a share as percents, rounded down: 100 is said of nothing less."""
    scale = 10**decimals
    return f"{floor(100 * scale * share) / scale:.{decimals}f}"
