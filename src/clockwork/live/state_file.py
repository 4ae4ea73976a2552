"""The file in which a controller keeps what the next one has to know: an SQLite database.

It can be read with any SQLite tool while no controller runs. The tables::

    facts     name, value                           next_model_id
    models    model_id, source, profile (JSON), load_ns
    measured  model_id, worker_id, gpu_id, sizes (JSON), exec_ns (JSON, same order)
    workers   worker_id, name, process              of the controller's list, and those that joined

One controller at a time: the file is locked from `open_state` until it is closed, and the kernel
takes the lock back from a process that was killed. What was committed survives that as well
(write-ahead log); only a machine that fails may lose the last moments, never the file.

Not here: when it is written (`clockwork.live.state_keeper`).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from clockwork.errors import ConfigurationError
from clockwork.live.seats import Seat
from clockwork.messages.ids import GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo, ModelProfile
from clockwork.messages.remembered import Measured, MeasuredLoad, Remember, Remembered

APPLICATION_ID: Final = int.from_bytes(b"CLWK")
"""Marks the files that are ours (`PRAGMA application_id`)."""
VERSION: Final = 1
"""Of the tables (`PRAGMA user_version`)."""
LOCK_S: Final = 1.0
"""How long to wait for another process to let go of the file (chosen)."""

_TABLES: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE models (
    model_id INTEGER PRIMARY KEY, source TEXT NOT NULL, profile TEXT NOT NULL, load_ns INTEGER
);
CREATE TABLE measured (
    model_id INTEGER, worker_id INTEGER, gpu_id INTEGER, sizes TEXT NOT NULL, exec_ns TEXT NOT NULL,
    PRIMARY KEY (model_id, worker_id, gpu_id)
) WITHOUT ROWID;
CREATE TABLE workers (worker_id INTEGER PRIMARY KEY, name TEXT NOT NULL, process TEXT NOT NULL);
"""
_AWAY: Final = (
    "move the file away to start without what was remembered (models then have to be loaded again)"
)

_read_profile: Final = msgspec.json.Decoder(ModelProfile).decode
_read_numbers: Final = msgspec.json.Decoder(tuple[int, ...]).decode


class Left(Struct, frozen=True):
    """A worker that had joined is not expected back."""

    worker_id: WorkerId


Change = Remember | Seat | Left
"""What is written."""


class State:
    """An open state file. `open_state` makes one."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        """Use `open_state` instead."""
        self.path = path
        self._database = database

    def read(self, names: Sequence[str]) -> tuple[Remembered, list[Seat]]:
        """Return what was left, and the seats of workers that had joined.

        Measurements of workers that are not who they were are forgotten.

        Args:
            names: of the workers in the controller's own list.

        Raises:
            ConfigurationError: what is in the file makes no sense.
        """
        with _explained(self.path), self._database:
            seats = self._adapt_workers(names)
            workers = [*range(len(names)), *(seat.worker_id for seat in seats)]
            marks = ",".join("?" * len(workers))
            self._database.execute(
                f"DELETE FROM measured WHERE worker_id NOT IN ({marks})", workers
            )
            return self._read_remembered(seats), seats

    def write(self, changes: Iterable[Change]) -> None:
        """Add changes to what is kept, all or nothing.

        Raises:
            sqlite3.Error: it could not be done.
        """
        with self._database:
            for change in changes:
                if isinstance(change, Seat):
                    self._write_worker(change)
                elif isinstance(change, Left):
                    self._database.execute(
                        "DELETE FROM workers WHERE worker_id = ?", [change.worker_id]
                    )
                else:
                    self._write_remember(change)

    def close(self) -> None:
        """Unlock the file."""
        self._database.close()

    def _adapt_workers(self, names: Sequence[str]) -> list[Seat]:
        """Write who the workers of the list are now; return the seats of the others."""
        rows = self._database.execute("SELECT worker_id, name, process FROM workers").fetchall()
        old = {worker_id: Seat(WorkerId(worker_id), name, proc) for worker_id, name, proc in rows}
        for worker_id, name in enumerate(names):
            if worker_id not in old or old[WorkerId(worker_id)].name != name:
                self._database.execute("DELETE FROM measured WHERE worker_id = ?", [worker_id])
                self._write_worker(Seat(WorkerId(worker_id), name, ""))
        # An empty process: it was in a longer list, and does not join.
        return [
            seat for _, seat in sorted(old.items()) if seat.worker_id >= len(names) and seat.process
        ]

    def _read_remembered(self, seats: Sequence[Seat]) -> Remembered:
        execute = self._database.execute
        models, loads = [], []
        profiles: dict[str, ModelProfile] = {}
        query = "SELECT model_id, source, profile, load_ns FROM models ORDER BY model_id"
        for model_id, source, text, load_ns in execute(query):
            # Copies share one profile, here as everywhere.
            if text not in profiles:
                profiles[text] = _read_profile(text)
            models.append(ModelInfo(ModelId(model_id), source, profiles[text]))
            if load_ns is not None:
                loads.append(MeasuredLoad(ModelId(model_id), load_ns))
        facts = dict(execute("SELECT name, value FROM facts"))
        return Remembered(
            models=tuple(models),
            next_model_id=ModelId(facts.get("next_model_id", 0)),
            measured=tuple(self._read_measured()),
            loads=tuple(loads),
            workers=tuple(seat.worker_id for seat in seats),
        )

    def _read_measured(self) -> Iterator[Measured]:
        query = "SELECT model_id, worker_id, gpu_id, sizes, exec_ns FROM measured"
        for model_id, worker_id, gpu_id, sizes, exec_ns in self._database.execute(query):
            yield Measured(
                ModelId(model_id),
                WorkerId(worker_id),
                GpuId(gpu_id),
                _read_numbers(sizes),
                _read_numbers(exec_ns),
            )

    def _write_worker(self, seat: Seat) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO workers VALUES (?, ?, ?)",
            [seat.worker_id, seat.name, seat.process],
        )

    def _write_remember(self, new: Remember) -> None:
        database = self._database
        if new.models or new.removed:
            database.execute(
                "INSERT OR REPLACE INTO facts VALUES ('next_model_id', ?)", [new.next_model_id]
            )
        database.executemany(
            "INSERT OR REPLACE INTO models VALUES (?, ?, ?, NULL)",
            [(each.model_id, each.source, _text(each.profile)) for each in new.models],
        )
        database.executemany(
            "UPDATE models SET load_ns = ? WHERE model_id = ?",
            [(each.load_ns, each.model_id) for each in new.loads],
        )
        database.executemany(
            "INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?, ?)",
            [
                (each.model_id, each.worker_id, each.gpu_id, _text(each.sizes), _text(each.exec_ns))
                for each in new.measured
            ],
        )
        for table in ("models", "measured"):
            database.executemany(
                f"DELETE FROM {table} WHERE model_id = ?", [[each] for each in new.removed]
            )


def open_state(path: Path) -> State:
    """Return the state file at `path`, which is made if it is not there, locked for this process.

    Raises:
        ConfigurationError: it is of another program or a newer version, it is damaged, another
            process uses it, or it cannot be written.
    """
    with _explained(path):
        database = sqlite3.connect(path, timeout=LOCK_S, check_same_thread=False)
        try:
            _prepare(path, database)
        except BaseException:
            database.close()
            raise
    return State(path, database)


def _prepare(path: Path, database: sqlite3.Connection) -> None:
    """Lock a file and make its tables; nothing is changed in a file that is not ours."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    table_count = _number(database, "SELECT count(*) FROM sqlite_schema")
    if table_count and _number(database, "PRAGMA application_id") != APPLICATION_ID:
        raise ConfigurationError(
            f"{path} is a database of another program: give --state a file of its own"
        )
    version = _number(database, "PRAGMA user_version")
    if table_count and version != VERSION:
        raise ConfigurationError(
            f"{path} has tables of version {version}, this Clockwork knows version {VERSION}: use "
            f"the Clockwork that wrote it, or {_AWAY}"
        )
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    if not table_count:
        # The number is set last: a file without it is not taken for ours.
        database.executescript(
            f"BEGIN EXCLUSIVE; {_TABLES} PRAGMA user_version = {VERSION}; "
            f"PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
        )
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    with database:
        # Takes the write lock, which is kept: whoever comes second learns it now.
        database.execute("BEGIN EXCLUSIVE")


def _number(database: sqlite3.Connection, query: str) -> int:
    (value,) = database.execute(query).fetchone()
    return int(value)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and decoders raise into an error that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        raise ConfigurationError(_advice(path, error, code)) from None
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is damaged ({error}): {_AWAY}") from None


def _advice(path: Path, error: sqlite3.Error, code: int | None) -> str:
    # Extended codes have the basic one in their last byte.
    basic = code & 0xFF if code is not None else None
    if basic in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"{path} is in use: another controller keeps its state there; stop that one, or give "
            "--state another file"
        )
    if basic in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return (
            f"cannot write {path} ({error}): --state needs a file in an existing folder that this "
            "user may write to"
        )
    if basic in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"cannot write {path} ({error}): make room, or give --state a file on another disk"
    return (
        f"{path} is no state file, or is damaged ({error}): {_AWAY}, or give --state another file"
    )
