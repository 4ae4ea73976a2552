"""Files of traces of Azure Functions: both published formats, read and written.

- 2019: ``HashOwner,HashApp,HashFunction,Trigger`` and a column per minute, a row per function. The
  data set has 1,440 minutes per file; shorter samples with any run of minutes are read as well.
- 2021: ``app,func,end_timestamp,duration`` in seconds, a row per call. A call is played when it
  began: end minus duration.

Which one a file has is seen from its header. Functions that are never called are left out.
"""

import csv
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from clockwork.client.azure import Trace, TraceFunction, ordered
from clockwork.client.workload import Recorded, TraceReplay
from clockwork.errors import ConfigurationError
from clockwork.units import MINUTE, SECOND

DAYS: Final = range(1, 15)
"""The data set has two weeks."""

_COUNTS_HEADER: Final = ["HashOwner", "HashApp", "HashFunction", "Trigger"]
_CALLS_HEADER: Final = ["app", "func", "end_timestamp", "duration"]
_NAME_CHARACTERS: Final = 8
"""Of each hash in a function's name: unique in practice, and short."""


def find_trace(directory: str | None, day: int) -> Path:
    """Return the file of a day of the 2019 data set in `directory` (AZURE_TRACE_DIR).

    Raises:
        ConfigurationError: the variable is not set, the day is wrong, or there is no such file.
    """
    if not directory:
        raise ConfigurationError(
            "AZURE_TRACE_DIR is not set: point it to the directory with the trace files, or give "
            "a file with --trace-file (make one with: clockwork trace generate -o FILE)"
        )
    if day not in DAYS:
        raise ConfigurationError(f"trace is {day}, allowed: {DAYS[0]} to {DAYS[-1]}")
    names = [f"invocations_per_function_md.{part}anon.d{day:02}.csv" for part in ("svls.", "")]
    for name in names:
        path = Path(directory, name)
        if path.is_file():
            return path
    raise ConfigurationError(f"{directory} (AZURE_TRACE_DIR) has neither {' nor '.join(names)}")


def read_trace(path: Path) -> Trace:
    """Return the trace in a file of either format.

    Raises:
        ConfigurationError: the file has neither header, or a row that does not fit; the message
            names the line.
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if header[:4] == _COUNTS_HEADER and len(header) > len(_COUNTS_HEADER):
            return _counts(path, header, rows)
        if header == _CALLS_HEADER:
            return _calls(path, rows)
    raise ConfigurationError(
        f"{path}:1: no trace of Azure Functions: expected the columns {','.join(_COUNTS_HEADER)} "
        f"and minutes, or {','.join(_CALLS_HEADER)}"
    )


def write_trace(trace: Trace, path: Path, *, first_minute: int = 1) -> None:
    """Write a trace of counts per minute in the 2019 format; 3-part names become the hashes.

    Raises:
        ConfigurationError: the trace has recorded calls instead of counts.
        OSError: the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        minutes = trace.period_ns // MINUTE
        writer.writerow([*_COUNTS_HEADER, *range(first_minute, first_minute + minutes)])
        for function in trace.functions:
            if not isinstance(function.arrivals, TraceReplay):
                raise ConfigurationError(f"{trace.source} has calls, not counts per minute")
            names = [*function.name.split(), "", "", ""][:3]
            writer.writerow([*names, function.trigger, *function.arrivals.counts])


def _counts(path: Path, header: Sequence[str], rows: Iterator[list[str]]) -> Trace:
    functions = []
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ConfigurationError(
                f"{path}:{line}: {len(row)} columns, the header has {len(header)}"
            )
        try:
            counts = array("I", map(int, row[4:]))
        except (ValueError, OverflowError):
            raise ConfigurationError(f"{path}:{line}: a count is no whole number >= 0") from None
        if total := sum(counts):
            name = " ".join(part[:_NAME_CHARACTERS] for part in row[:3])
            replay = TraceReplay(counts=counts, interval_ns=MINUTE)
            functions.append(TraceFunction(name, row[3], total, replay))
    period_ns = (len(header) - 4) * MINUTE
    return Trace(source=path.name, period_ns=period_ns, functions=ordered(functions))


def _calls(path: Path, rows: Iterator[list[str]]) -> Trace:
    begun_at: dict[tuple[str, str], list[float]] = {}
    for line, row in enumerate(rows, 2):
        try:
            app, function, end, duration = row
            begun_at.setdefault((app, function), []).append(float(end) - float(duration))
        except ValueError:
            raise ConfigurationError(
                f"{path}:{line}: expected an app, a function, and two numbers of seconds"
            ) from None
    if not begun_at:
        return Trace(source=path.name, period_ns=MINUTE, functions=())
    first = min(map(min, begun_at.values()))
    last = max(map(max, begun_at.values()))
    period_ns = (int((last - first) * SECOND) // MINUTE + 1) * MINUTE
    functions = [
        _recorded(key, [begun - first for begun in starts], period_ns)
        for key, starts in begun_at.items()
    ]
    return Trace(source=path.name, period_ns=period_ns, functions=ordered(functions))


def _recorded(key: tuple[str, str], offsets_s: Sequence[float], period_ns: int) -> TraceFunction:
    offsets_ns = array("q", sorted(round(offset * SECOND) for offset in offsets_s))
    return TraceFunction(
        name=" ".join(part[:_NAME_CHARACTERS] for part in key),
        trigger="",
        total=len(offsets_ns),
        arrivals=Recorded(offsets_ns=offsets_ns, period_ns=period_ns),
    )
