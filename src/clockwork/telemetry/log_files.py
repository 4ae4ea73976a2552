"""The two telemetry files: takes records on the event loop, writes rows on a thread.

Why: system calls on files may take long, so a writer thread makes them. Rows are formatted on the
event loop, in pieces so short that nobody waits (0.05 ms). On the thread they would cost the loop
more: only one of the two runs Python at a time, and each time that the thread wants to, the loop
hands the interpreter over and waits until the system has woken the other, and then itself, on cores
that are busy. Measured at 25,000 requests/s on two busy cores with formatting on the thread: work
of 1 ms took 4 to 10 ms, some times per second.

Invariants: rows of one file keep the order of `LogFiles.add`. A file ends with a whole row, also
after a full disk: a write that fails is taken back. Rows reach the operating system within
two `WRITE_INTERVAL_S`, and all of them by the end of `LogFiles.close`, which also runs when the
interpreter exits. Every row is either written or counted in `LogFiles.lost_count`.

Bounds: `PENDING_MAX` rows wait per file; when a disk stalls for longer than that, further rows
are dropped and counted.

Source: SPEC 6.1, 6.2 and 1.11.

Not here: what a row looks like, which is in `rows.py`.
"""

import atexit
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG, header, rows

LOG_DIR_VARIABLE: Final = "CLOCKWORK_LOG_DIR"
"""The environment variable that names the directory of both files."""
DEFAULT_DIRECTORY: Final = Path("/local")
"""Where the original writes when the variable is unset."""
WRITE_INTERVAL_S: Final = 0.1
"""Seconds between two visits of the writer; chosen: each costs the event loop a short wait."""
CHUNK_ROWS: Final = 64
"""Rows formatted in one go; measured: 0.03 ms for requests, 0.05 ms for actions."""
WRITE_CHUNKS_MAX: Final = 64
"""Chunks written in one go: half a megabyte, joined in 0.1 ms; chosen."""
REST_S: Final = 0.001
"""Seconds of rest after a write, which gives the interpreter lock away for so short a time that a
waiting loop finds it taken again: without a rest, 300,000 rows at once had it wait for 92 ms."""
PENDING_MAX: Final = 500_000
"""Rows that may wait per file; chosen: some 75 MB, 8 s at 60,000 rows/s."""


def log_directory(environ: Mapping[str, str]) -> Path:
    """Return where the files go: the variable's directory, else `/local`, else the current one.

    A directory named by the variable is returned even if it is not there, so that opening the
    files warns about it.
    """
    if named := environ.get(LOG_DIR_VARIABLE):
        return Path(named)
    if DEFAULT_DIRECTORY.is_dir() and os.access(DEFAULT_DIRECTORY, os.W_OK):
        return DEFAULT_DIRECTORY
    return Path.cwd()


class LogFiles:
    """Writes `clockwork_request_log.tsv` and `clockwork_action_log.tsv`; owns both and a thread.

    Files of an earlier run in the same directory are replaced. A directory or file that cannot be
    written costs one warning; records are then counted and dropped, and the process runs on.
    """

    def __init__(self, directory: Path, *, warn: Callable[[str], None] | None = None) -> None:
        """Open both files and start the writer.

        Args:
            directory: must exist; see `log_directory`.
            warn: is told the first failure, on whichever thread it happens; default: stderr.
        """
        self.directory = directory
        self._warn = warn or _warn_on_stderr
        self._has_warned = False
        self._requests = _LogFile(directory / REQUEST_LOG, header(RequestRecord), self._on_failure)
        self._actions = _LogFile(directory / ACTION_LOG, header(ActionRecord), self._on_failure)
        self._closing = Event()
        self._writer = Thread(target=self._run, name="telemetry", daemon=True)
        self._writer.start()
        atexit.register(self.close)

    @property
    def lost_count(self) -> int:
        """Records that were added and could not be written."""
        return self._requests.lost_count + self._actions.lost_count

    @property
    def written_count(self) -> int:
        """Rows that the operating system has taken."""
        return self._requests.written_count + self._actions.written_count

    def add(self, record: Record) -> None:
        """Hand over a record to be written; returns at once. Not to be called after `close`."""
        file = self._requests if type(record) is RequestRecord else self._actions
        pending = file.pending
        pending.append(record)
        if len(pending) >= CHUNK_ROWS:
            file.format()

    def close(self) -> None:
        """Write what waits, close the files and end the thread; further calls do nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._writer.join()
        atexit.unregister(self.close)
        self._requests.close()
        self._actions.close()
        if self.lost_count:
            self._warn(f"telemetry: {self.lost_count} rows were lost in {self.directory}")

    def _run(self) -> None:
        is_closing = False
        while not is_closing:
            is_closing = self._closing.wait(WRITE_INTERVAL_S)
            for file in (self._requests, self._actions):
                if is_closing or not file.has_chunks:
                    file.format_rest()
                while file.has_chunks:
                    file.write_chunks()
                    self._closing.wait(REST_S)

    def _on_failure(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"telemetry: cannot write {error.filename or self.directory}: {error.strerror}. "
                f"Running on without it; set {LOG_DIR_VARIABLE} to a directory that exists and "
                "has room."
            )


class _LogFile:
    """One file, its queues, and what became of the rows. Only the writer thread writes."""

    def __init__(self, path: Path, header: bytes, on_failure: Callable[[OSError], None]) -> None:
        # Records that are not formatted yet, hardly ever more than a chunk.
        self.pending: deque[Record] = deque()
        self.written_count = 0
        self._unwritten_count = 0
        self._dropped_count = 0
        # Formatted chunks: how many rows, and their bytes.
        self._chunks: deque[tuple[int, bytes]] = deque()
        # Held from taking records to queueing their chunk, so that chunks keep the order.
        self._formatting = Lock()
        self._on_failure = on_failure
        # Bytes up to the end of the last whole row; a failed write is cut back to here.
        self._size_bytes = 0
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            on_failure(error)
        else:
            self._write(header)

    @property
    def has_chunks(self) -> bool:
        return bool(self._chunks)

    @property
    def lost_count(self) -> int:
        return self._dropped_count + self._unwritten_count

    def format(self) -> None:
        """Format the records that have waited longest; never waits for the writer."""
        if self._formatting.acquire(blocking=False):
            try:
                self._format()
            finally:
                self._formatting.release()

    def format_rest(self) -> None:
        """Format all records that wait; for the writer."""
        with self._formatting:
            while self.pending:
                self._format()

    def write_chunks(self) -> None:
        """Write the chunks that have waited longest, at least one; for the writer."""
        taken = min(len(self._chunks), WRITE_CHUNKS_MAX)
        chunks = [self._chunks.popleft() for _ in range(taken)]
        count = sum(rows_count for rows_count, _ in chunks)
        if self._write(b"".join([data for _, data in chunks])):
            self.written_count += count
        else:
            self._unwritten_count += count

    def _format(self) -> None:
        count = min(len(self.pending), CHUNK_ROWS)
        records = [self.pending.popleft() for _ in range(count)]
        if len(self._chunks) < PENDING_MAX // CHUNK_ROWS:
            self._chunks.append((count, rows(records)))
        else:
            self._dropped_count += count

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, data: bytes) -> bool:
        if self._descriptor is None:
            return False
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            # The next chunk is tried again: a disk may get room. Cutting back needs none.
            with suppress(OSError):  # not a plain file: nothing can be cut back
                os.ftruncate(self._descriptor, self._size_bytes)
                os.lseek(self._descriptor, self._size_bytes, os.SEEK_SET)
            self._on_failure(error)
            return False
        self._size_bytes += len(data)
        return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _warn_on_stderr(text: str) -> None:
    print(f"WARNING: {text}", file=sys.stderr, flush=True)
