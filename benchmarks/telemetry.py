"""Measures what telemetry costs: the event loop per record, the writer per row.

Each figure is a ratio to a baseline of the same run: a bare ``list.append`` for the event loop,
``%`` formatting for the writer. Prints one line per figure:

    python benchmarks/telemetry.py [--rows 300000] [--json FILE]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from clockwork.messages.actions import ActionType
from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.messages.status import ActionStatus, Status
from clockwork.telemetry.figures import ControllerGatherer
from clockwork.telemetry.log_files import CHUNK_ROWS, PENDING_MAX, LogFiles
from clockwork.telemetry.rows import rows

REQUEST: Final = RequestRecord(
    *(1_700_000_000_123_456_789, 123_456, Status.SUCCESS, 3, 77, 0.0),
    *(5_123_456, 100_000_000, 1, 2, 2, 0),
)
ACTION: Final = ActionRecord(
    *(1_700_000_000_123_456_789, 123_456, ActionType.INFER, ActionStatus.SUCCESS, 3, 0, 77, 8),
    *(5_123_456, 5_123_400, 6_123_456, 6_123_400, 0, 0, 0, 6_223_400, 50_000, 6_223_400),
    *(6_253_400, 6_263_400, 1.0, 3, 2),
)
REQUEST_FORMAT: Final = "\t".join(["%d"] * 5 + ["%g"] + ["%d"] * 6) + "\n"
ACTION_FORMAT: Final = "\t".join(["%d"] * 20 + ["%g"] + ["%d"] * 2) + "\n"
REPEATS: Final = 5
SWITCH_INTERVAL_S: Final = 0.0005
"""What the controller's process sets, so that no thread keeps the interpreter for 5 ms."""


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    figures = measure(min(options.rows, PENDING_MAX))
    for name, value in figures.items():
        print(f"{name:34} {value:12.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measure(count: int) -> dict[str, float]:
    """Return every figure by name."""
    plain: list[Record] = []
    append_ns = best_ns(count, lambda: add_each(plain.append, REQUEST, count))
    gatherer = ControllerGatherer(0)
    figures = {"list_append_ns": append_ns}
    with tempfile.TemporaryDirectory() as folder:
        figures["add_ns"] = best_ns(count, lambda: add_to_files(Path(folder), count))
        figures["add_by_append"] = figures["add_ns"] / append_ns
        figures["gather_request_ns"] = best_ns(
            count, lambda: add_each(gatherer.add, REQUEST, count)
        )
        figures["gather_action_ns"] = best_ns(count, lambda: add_each(gatherer.add, ACTION, count))
        for name, record, form in (
            ("request", REQUEST, REQUEST_FORMAT),
            ("action", ACTION, ACTION_FORMAT),
        ):
            figures |= format_figures(name, record, form)
        figures |= drain_figures(Path(folder), count)
    return figures


def add_each(add: Callable[[Record], None], record: Record, count: int) -> float:
    """Return the seconds that `count` calls of `add` take."""
    started_s = time.perf_counter()
    for _ in range(count):
        add(record)
    return time.perf_counter() - started_s


def add_to_files(folder: Path, count: int) -> float:
    """Return the seconds that adding takes while the writer works; all rows are written."""
    files = LogFiles(folder)
    taken_s = add_each(files.add, REQUEST, count)
    files.close()
    assert files.lost_count == 0
    return taken_s


def format_figures(name: str, record: Record, form: str) -> dict[str, float]:
    """Return the cost of a row as it is written, and as a ratio to ``%`` formatting."""
    chunk = [record] * CHUNK_ROWS
    as_tuple = msgspec.structs.astuple

    def percent() -> None:
        "".join([form % as_tuple(each) for each in chunk]).encode()

    row_ns = best_ns(CHUNK_ROWS, lambda: timed(lambda: rows(chunk)))
    percent_ns = best_ns(CHUNK_ROWS, lambda: timed(percent))
    return {
        f"{name}_row_ns": row_ns,
        f"{name}_row_by_percent": row_ns / percent_ns,
        f"{name}_chunk_ms": row_ns * CHUNK_ROWS / 1e6,
    }


def drain_figures(folder: Path, count: int) -> dict[str, float]:
    """Return how fast a backlog is written, and how long another thread waits meanwhile."""
    files = LogFiles(folder)
    for _ in range(count):
        files.add(REQUEST)
    started_s = last_s = time.perf_counter()
    pauses_s = []
    while files.written_count < count:
        now_s = time.perf_counter()
        pauses_s.append(now_s - last_s)
        last_s = now_s
    taken_s = time.perf_counter() - started_s
    files.close()
    return {
        "drain_rows_per_s": count / taken_s,
        "longest_pause_ms": max(pauses_s) * 1e3,
        "pauses_over_1_ms_per_1000_chunks": (
            sum(pause_s > 1e-3 for pause_s in pauses_s) * CHUNK_ROWS / count * 1e3
        ),
    }


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def best_ns(count: int, run_s: Callable[[], float]) -> float:
    """Return the least nanoseconds per item of several runs over `count` items."""
    return min(run_s() for _ in range(REPEATS)) / count * 1e9


if __name__ == "__main__":
    main()
