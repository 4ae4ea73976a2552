"""Reads telemetry files of any size as a sequence of small frames.

Why: logs of several GB must be reported within 1 GB of memory, with a progress bar, and also when
their last row was cut off by a crash. So a file is read in blocks of whole lines, and each block
is parsed alone; whoever reads adds up what it needs.

Invariants: columns are found by their name, in any order. A row that lacks a number where one is
needed is skipped and counted; a last line without its end is one of those, whatever it holds,
because a number at its end may have lost digits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from clockwork.errors import ConfigurationError
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG

BLOCK_BYTES: Final = 16 << 20
"""Bytes parsed at once; measured: 8 to 64 MiB are equally fast, and memory grows with it."""

# What `span` reads at each end: some 10,000 rows, more than are in flight at a time.
_ENDS_BYTES: Final = 1 << 20
# Columns that say how long after `t` a row's story ends.
_STORIES: Final = ("latency", "worker_exec_complete")
_FLOATS: Final = {"slo_factor", "goodput"}

Progress = Callable[[int], None]
"""Is told how many bytes have been read since it was told the last time."""


class LogReader:
    """One telemetry file, read once from begin to end by `frames`."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Look at the file's first line.

        Args:
            path: a request or action log.
            columns: those that the frames shall have.

        Raises:
            ConfigurationError: the file cannot be read or lacks one of the columns.
        """
        self.path = path
        self.columns = list(columns)
        # Rows that were used, and that could not be used, so far.
        self.rows = 0
        self.skipped_rows = 0
        try:
            with path.open("rb") as file:
                first_line = file.readline()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
        # Where rows begin, and the names that they are read with: a file without a whole first
        # line has no rows.
        self._rows_at = len(first_line)
        self._header = first_line if first_line.endswith(b"\n") else _header_of(columns)
        present = self._header.decode(errors="replace").rstrip("\r\n").split("\t")
        missing = [name for name in columns if name not in present]
        if missing:
            raise ConfigurationError(
                f"{path} is no such log: its first line lacks {', '.join(missing)}"
            )

    @property
    def size_bytes(self) -> int:
        """Size of the file now."""
        return self.path.stat().st_size

    def frames(self, progress: Progress | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, a block at a time; blocks are never empty."""
        for block in self._blocks(progress):
            frame = self._parse(block)
            whole = frame.drop_nulls()
            self.rows += whole.height
            self.skipped_rows += frame.height - whole.height
            if whole.height:
                yield whole

    def span(self) -> tuple[int, int] | None:
        """Return the first `t` and the instant at which the last row's story ends, if any.

        Looks at both ends of the file alone: rows are nearly in order of time.
        """
        story = next(name for name in _STORIES if name in self.columns)
        with self.path.open("rb") as file:
            file.seek(self._rows_at)
            head = file.read(_ENDS_BYTES)
            file.seek(max(self._rows_at, self.size_bytes - _ENDS_BYTES))
            tail = file.read(_ENDS_BYTES)
        ends = pl.concat(
            self._parse(block[: block.rfind(b"\n") + 1]).drop_nulls()
            for block in (head, tail[tail.find(b"\n") + 1 :] if len(head) == _ENDS_BYTES else head)
        )
        if ends.is_empty():
            return None
        first_ns = ends["t"].min()
        last_ns = (ends["t"] + ends[story]).max()
        assert isinstance(first_ns, int)
        assert isinstance(last_ns, int)
        return first_ns, last_ns

    def _blocks(self, progress: Progress | None) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self._rows_at)
            rest = b""
            while data := file.read(BLOCK_BYTES):
                end = data.rfind(b"\n") + 1
                if end:
                    yield rest + data[:end]
                    rest = data[end:]
                else:
                    rest += data
                if progress is not None:
                    progress(len(data))
            self.skipped_rows += bool(rest)

    def _parse(self, block: bytes) -> pl.DataFrame:
        types = {name: pl.Float64 if name in _FLOATS else pl.Int64 for name in self.columns}
        return pl.read_csv(
            self._header + block,
            columns=self.columns,
            schema_overrides=types,
            separator="\t",
            quote_char=None,
            ignore_errors=True,
            truncate_ragged_lines=True,
        )


def _header_of(columns: Sequence[str]) -> bytes:
    return "\t".join(columns).encode() + b"\n"


def span_of(readers: Iterable[LogReader]) -> tuple[int, int] | None:
    """Return first and last instant of several logs of one run, None if none has a row."""
    spans = [span for reader in readers if (span := reader.span()) is not None]
    if not spans:
        return None
    return min(first_ns for first_ns, _ in spans), max(last_ns for _, last_ns in spans)


def find_log(directory: Path, name: str) -> Path | None:
    """Return the path of a log in `directory`, None if there is none.

    Raises:
        ConfigurationError: `directory` is not there, or holds neither log.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is not a directory; name the one with the logs")
    if not any((directory / log).exists() for log in (REQUEST_LOG, ACTION_LOG)):
        raise ConfigurationError(f"{directory} holds neither {REQUEST_LOG} nor {ACTION_LOG}")
    path = directory / name
    return path if path.exists() else None


def log_bytes(directory: Path) -> int:
    """Return the size of both logs together; 0 without any."""
    paths = (directory / name for name in (REQUEST_LOG, ACTION_LOG))
    return sum(path.stat().st_size for path in paths if path.exists())
