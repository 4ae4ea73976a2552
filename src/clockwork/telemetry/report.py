"""Reads the two logs of a run and returns everything that a report says.

Why one pass over blocks: see `log_reader.py`. Measured on four cores: 5 s and 0.4 GB of memory for
5 million requests and 2.5 million actions of 4,000 models, 30 s and 0.8 GB for six times as many.

Not here: what it looks like (`report_text.py`, `plots.py`).
"""

from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from clockwork.errors import ConfigurationError
from clockwork.telemetry.action_summary import ACTION_COLUMNS, ActionTotals
from clockwork.telemetry.buckets import Buckets
from clockwork.telemetry.log_reader import LogReader, Progress, find_log, span_of
from clockwork.telemetry.request_summary import REQUEST_COLUMNS, RequestTotals
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG
from clockwork.telemetry.summary import (
    Analysis,
    Report,
    RequestSummary,
    Series,
)
from clockwork.units import MS, SECOND, format_duration

_COLUMNS: Final = {REQUEST_LOG: REQUEST_COLUMNS, ACTION_LOG: ACTION_COLUMNS}
_NOTHING_NS: Final = (0, 1)


def read_report(
    directory: Path,
    *,
    from_ns: int = 0,
    to_ns: int | None = None,
    bucket_ns: int | None = None,
    progress: Progress | None = None,
) -> Analysis:
    """Return the figures of the run whose logs are in `directory`.

    Args:
        directory: holds the request log, the action log, or both.
        from_ns: leave out what arrived or was sent earlier than this after the begin of the logs.
        to_ns: leave out what arrived or was sent at this or later after the begin; None: nothing.
        bucket_ns: width of the buckets over time; None: chosen by the length of the run.
        progress: is told about bytes read; `log_reader.log_bytes` tells how many there are.

    Raises:
        ConfigurationError: there is no log, a log lacks columns, or the window is empty.
    """
    readers = _readers(directory)
    begin_ns, end_ns = _window(readers, from_ns, to_ns)
    buckets = Buckets(begin_ns=begin_ns, end_ns=end_ns, width_ns=bucket_ns)
    requests, actions = RequestTotals(buckets), ActionTotals(buckets)
    totals: dict[str, RequestTotals | ActionTotals] = {REQUEST_LOG: requests, ACTION_LOG: actions}
    chosen = pl.col("t") >= begin_ns
    if to_ns is not None:
        chosen = chosen & (pl.col("t") < end_ns)
    for name, reader in readers.items():
        for frame in reader.frames(progress):
            totals[name].add(frame.filter(chosen))
    elapsed_s = (end_ns - begin_ns) / SECOND
    report = Report(
        directory=str(directory),
        begin_ns=begin_ns,
        end_ns=end_ns,
        elapsed_s=elapsed_s,
        requests=_requests(requests, actions, elapsed_s) if REQUEST_LOG in readers else None,
        actions=actions.summary(elapsed_s) if ACTION_LOG in readers else None,
        series=_series(requests.series(), actions.series(), buckets),
        warnings=_warnings(directory, readers),
    )
    return Analysis(report=report, latency=requests.distribution(), errors=actions.distributions())


def to_json(report: Report) -> bytes:
    """Return a report as indented JSON with a line break at its end."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _readers(directory: Path) -> dict[str, LogReader]:
    paths = {name: find_log(directory, name) for name in (REQUEST_LOG, ACTION_LOG)}
    return {name: LogReader(path, _COLUMNS[name]) for name, path in paths.items() if path}


def _window(readers: dict[str, LogReader], from_ns: int, to_ns: int | None) -> tuple[int, int]:
    """Return first and last instant of the run, both absolute."""
    span = span_of(readers.values())
    if span is None:
        return _NOTHING_NS
    first_ns, last_ns = span
    begin_ns = first_ns + from_ns
    end_ns = last_ns if to_ns is None else min(last_ns, first_ns + to_ns)
    if begin_ns >= end_ns and (from_ns or to_ns is not None):
        raise ConfigurationError(
            f"nothing between {format_duration(from_ns)} and "
            f"{format_duration(end_ns - first_ns)}: the logs last "
            f"{format_duration(last_ns - first_ns)}"
        )
    return begin_ns, max(end_ns, begin_ns + 1)


def _requests(requests: RequestTotals, actions: ActionTotals, elapsed_s: float) -> RequestSummary:
    """Return the summary with what only the action log knows about models."""
    summary = requests.summary(elapsed_s)
    known = actions.models()
    models = []
    for model in summary.models:
        mean_batch_size, loads = known.get(model.id, (None, None))
        models.append(msgspec.structs.replace(model, mean_batch_size=mean_batch_size, loads=loads))
    return msgspec.structs.replace(summary, models=models)


def _series(requests: pl.DataFrame, actions: pl.DataFrame, buckets: Buckets) -> Series:
    frame = requests.join(actions.drop("at_s", "length_s"), on="bucket", how="left")

    def column(name: str, *, scale: pl.Expr | float = 1.0) -> list[float | None]:
        if name not in frame.columns:
            return [None] * frame.height
        return frame.select((pl.col(name) / scale).round(6)).to_series().to_list()

    def rate(name: str) -> list[float]:
        return [value or 0.0 for value in column(name, scale=pl.col("length_s"))]

    def count(name: str) -> list[int]:
        return [int(value or 0) for value in column(name)]

    return Series(
        bucket_s=buckets.width_ns / SECOND,
        at_s=frame["at_s"].to_list(),
        offered_per_s=rate("offered"),
        throughput_per_s=rate("requests"),
        goodput_per_s=rate("good"),
        p50_ms=column("p50", scale=MS),
        p99_ms=column("p99", scale=MS),
        max_ms=column("latency_max", scale=MS),
        cold_starts_per_s=rate("cold"),
        active_models=count("active_models"),
        cold_models=count("cold_models"),
        mean_batch_size=column("mean_batch_size"),
        infer_utilization=[value or 0.0 for value in column("infer_utilization")],
        load_utilization=[value or 0.0 for value in column("load_utilization")],
    )


def _warnings(directory: Path, readers: dict[str, LogReader]) -> list[str]:
    texts = []
    for name, what in ((REQUEST_LOG, "requests"), (ACTION_LOG, "actions")):
        reader = readers.get(name)
        if reader is None:
            texts.append(f"{directory} has no {name}: nothing is known about {what}")
        elif not reader.rows:
            texts.append(f"{reader.path} has no rows")
        elif reader.skipped_rows:
            texts.append(
                f"{reader.path}: {reader.skipped_rows} incomplete or unreadable rows were left out"
            )
    return texts
