"""Reads a window of the two logs and writes it as a trace file."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from clockwork.errors import ConfigurationError
from clockwork.telemetry.log_reader import LogReader, Progress, find_log, span_of
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG
from clockwork.telemetry.timeline import (
    TIMELINE_ACTION_COLUMNS,
    TIMELINE_REQUEST_COLUMNS,
    Event,
    Row,
    link,
    trace_events,
)

ACTIONS_MAX: Final = 50_000
"""Actions of a trace unless told otherwise; chosen: some 50 MB, which viewers open in seconds."""


class TraceCounts(msgspec.Struct, frozen=True):
    """What a trace file holds."""

    actions: int
    requests: int
    # Requests with an arrow to the batch that answered them.
    linked: int
    # True if the window has more actions than were allowed.
    is_cut: bool


def write_trace(
    directory: Path,
    file: Path,
    *,
    from_ns: int = 0,
    to_ns: int | None = None,
    limit: int = ACTIONS_MAX,
    progress: Progress | None = None,
) -> TraceCounts:
    """Write the trace of the run whose logs are in `directory`.

    Args:
        directory: holds the action log, and the request log if requests shall be shown.
        file: is replaced; compressed if its name ends in ``.gz``.
        from_ns: leave out what was sent earlier than this after the begin of the logs.
        to_ns: leave out what was sent at this or later; None: nothing.
        limit: actions at most, the first ones; at least 1.
        progress: is told about bytes read.

    Raises:
        ConfigurationError: there is no action log, or a log lacks columns.
    """
    path = find_log(directory, ACTION_LOG)
    if path is None:
        raise ConfigurationError(f"{directory} has no {ACTION_LOG}, which a timeline is made of")
    logs = [LogReader(path, TIMELINE_ACTION_COLUMNS)]
    if (request_path := find_log(directory, REQUEST_LOG)) is not None:
        logs.append(LogReader(request_path, TIMELINE_REQUEST_COLUMNS))
    origin_ns, last_ns = span_of(logs) or (0, 0)
    begin_ns = origin_ns + from_ns
    end_ns = last_ns + 1 if to_ns is None else origin_ns + to_ns
    actions = _sent_within(logs[0], begin_ns, end_ns, limit + 1, progress)
    is_cut = len(actions) > limit
    actions = actions[:limit]
    requests = _answered_by(logs[1], actions, begin_ns, progress) if logs[1:] and actions else []
    links = link(actions, requests)
    _write(file, trace_events(actions, requests, links, origin_ns=origin_ns))
    return TraceCounts(
        actions=len(actions), requests=len(requests), linked=len(links), is_cut=is_cut
    )


def _sent_within(
    log: LogReader, begin_ns: int, end_ns: int, limit: int, progress: Progress | None
) -> list[Row]:
    """Return actions that were sent in the window, in that order: the first `limit` rows."""
    kept: list[pl.DataFrame] = []
    rows = 0
    for frame in log.frames(progress):
        kept.append(frame.filter(pl.col("t").is_between(begin_ns, end_ns, closed="left")))
        rows += kept[-1].height
        if rows >= limit:
            break
    return _rows([pl.concat(kept).head(limit)]) if kept else []


def _answered_by(
    log: LogReader, actions: Sequence[Row], begin_ns: int, progress: Progress | None
) -> list[Row]:
    """Return requests that departed while the actions ran, in order of arrival."""
    last_ns = max(action["t"] + action["controller_action_duration"] for action in actions)
    departed_at = pl.col("t") + pl.col("latency")
    kept = [
        frame.filter(departed_at.is_between(begin_ns, last_ns)) for frame in log.frames(progress)
    ]
    return _rows(kept)


def _rows(frames: list[pl.DataFrame]) -> list[Row]:
    return pl.concat(frames).sort("t").to_dicts() if frames else []


def _write(file: Path, events: Iterator[Event]) -> None:
    is_compressed = file.suffix == ".gz"
    with gzip.open(file, "wb", compresslevel=6) if is_compressed else file.open("wb") as out:
        out.write(b'{"displayTimeUnit": "ms", "traceEvents": [')
        separator = b"\n"
        for event in events:
            out.write(separator + msgspec.json.encode(event))
            separator = b",\n"
        out.write(b"\n]}\n")
