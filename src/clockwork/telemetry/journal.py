"""The journal of a controller: every batch of events, and a fingerprint of what was done about it.

A role is deterministic, so the journal is all that a replay needs to do everything again, for
debugging what happened live. `JournaledRole` stands between a shell and the role that it drives.

The file is a sequence of frames, each a length (4 bytes, little-endian) and a MessagePack array:
first a `Header`, then one `Entry` per batch. Payloads are not kept, only their sizes: roles never
look inside. Each entry has the fingerprint of all effects so far, so that a replay finds the first
batch that it answers differently; it is empty for a batch at which the role raised.

A process that is killed loses what it did not flush: at most `FLUSH_NS`, and possibly a part of
the last frame, which readers leave out.

Cost: some 2 us per event and 1 us per effect.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, get_args

import msgspec
from msgspec import Struct

from clockwork.controller.config import ControllerConfig
from clockwork.errors import ConfigurationError
from clockwork.messages.actions import Result
from clockwork.messages.controller_io import (
    ClientLost,
    ControllerEffect,
    ControllerEvent,
    FromClient,
    FromWorker,
    StopAsked,
    WorkerConnected,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.ids import ClientId, WorkerId
from clockwork.messages.remembered import Remembered
from clockwork.messages.requests import Request
from clockwork.messages.role import WAKEUP, Role, Wakeup
from clockwork.telemetry.fingerprint import Fingerprint
from clockwork.units import MIB, MS

FORMAT_VERSION: Final = 1
FLUSH_NS: Final = 100 * MS
"""How long an entry may wait in memory (chosen)."""
FRAME_MAX_BYTES: Final = 256 * MIB
"""Longer frames are taken for a broken file (chosen: a batch has at most some thousand events)."""

_MESSAGES: Final[Mapping[str, type[Struct]]] = {
    kind.__name__: kind for kind in (*get_args(Request), *get_args(Result))
}
"""Requests and results by the names under which they are written."""


class Header(Struct, frozen=True, kw_only=True):
    """How the role was made."""

    format: int = FORMAT_VERSION
    # Name of the policy.
    policy: str
    worker_count: int
    config: ControllerConfig
    # What the controller before left; absent if nothing is kept.
    remembered: Remembered | None = None
    # Whether the controller makes inputs for requests that have none, and compresses them.
    makes_inputs: bool = False
    compresses_inputs: bool = False
    # Where the workers of the list are.
    worker_addresses: tuple[str, ...] = ()


class Entry(Struct, frozen=True, array_like=True):
    """One batch as it stands in the file."""

    now_ns: int
    # Of all effects up to those of this batch; empty if the role raised.
    fingerprint: bytes
    # See `_PACK`.
    events: list[msgspec.Raw]


class JournaledRole:
    """A controller role that writes a journal of what it handles."""

    def __init__(
        self, role: Role[ControllerEvent, ControllerEffect], file: BinaryIO, header: Header
    ) -> None:
        """Write the header. The file is the role's from now on; `close` closes it."""
        self._role = role
        self._file = file
        self._encode = msgspec.msgpack.Encoder().encode
        self._fingerprint = Fingerprint()
        self._flushed_ns = 0
        self._write(header)

    @property
    def wakeup_ns(self) -> int | None:
        """As the role's."""
        return self._role.wakeup_ns

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Have the role handle a batch, and write both down, also if it raises."""
        digest = b""
        try:
            effects = self._role.handle(batch, now_ns)
            self._fingerprint.add((now_ns,), effects)
            digest = self._fingerprint.digest
        finally:
            self._write((now_ns, digest, [_PACK[type(event)](event) for event in batch]))
            if now_ns - self._flushed_ns > FLUSH_NS or not digest:
                self._flushed_ns = now_ns
                self._file.flush()
        return effects

    def check(self) -> None:
        """As the role's."""
        self._role.check()

    def close(self) -> None:
        """Write what waits."""
        self._file.close()

    def _write(self, record: object) -> None:
        data = self._encode(record)
        self._file.write(len(data).to_bytes(4, "little") + data)


class Journal:
    """A journal that was written, for reading."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ConfigurationError: the file is no journal, or one of another version.
            OSError: it cannot be read.
        """
        self._path = path
        with path.open("rb") as file:
            first = next(_frames(file), None)
        try:
            self.header = msgspec.msgpack.decode(first or b"", type=Header)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{path} is no journal of a controller: {error}") from None
        if self.header.format != FORMAT_VERSION:
            raise ConfigurationError(
                f"{path} has format {self.header.format}, this version reads {FORMAT_VERSION}"
            )

    def batches(self) -> Iterator[tuple[int, list[ControllerEvent], bytes]]:
        """Yield instant, events and fingerprint of each batch, up to the first broken frame."""
        decode = msgspec.msgpack.Decoder(Entry).decode
        with self._path.open("rb") as file:
            frames = _frames(file)
            next(frames)
            for frame in frames:
                entry = decode(frame)
                events = [_unpacked(msgspec.msgpack.decode(raw)) for raw in entry.events]
                yield entry.now_ns, events, entry.fingerprint


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield whole frames."""
    while True:
        head = file.read(4)
        size_bytes = int.from_bytes(head, "little")
        if len(head) < 4 or size_bytes > FRAME_MAX_BYTES:
            return
        frame = file.read(size_bytes)
        if len(frame) < size_bytes:
            return
        yield frame


def _unpacked(fields: Sequence[Any]) -> ControllerEvent:
    """Return the event that `_PACK` made `fields` of; payloads are zeros."""
    event: ControllerEvent = _UNPACK[fields[0]](*fields[1:])
    return event


def _from_client(client_id: int, at_ns: int, size: int, kind: str, message: Any) -> FromClient:
    made: Any = msgspec.convert(message, _MESSAGES[kind])
    return FromClient(ClientId(client_id), made, bytes(size), at_ns)


def _from_worker(worker_id: int, at_ns: int, size: int, kind: str, message: Any) -> FromWorker:
    made: Any = msgspec.convert(message, _MESSAGES[kind])
    return FromWorker(WorkerId(worker_id), made, bytes(size), at_ns)


_PACK: Final[Mapping[type, Callable[[Any], tuple[Any, ...]]]] = {
    FromClient: lambda it: (
        0,
        it.client_id,
        it.at_ns,
        len(it.payload),
        type(it.message).__name__,
        it.message,
    ),
    FromWorker: lambda it: (
        1,
        it.worker_id,
        it.at_ns,
        len(it.payload),
        type(it.message).__name__,
        it.message,
    ),
    Wakeup: lambda it: (2,),
    ClientLost: lambda it: (3, it.client_id),
    WorkerConnected: lambda it: (4, it.worker_id),
    WorkerLeaving: lambda it: (5, it.worker_id, it.reason),
    WorkerLost: lambda it: (6, it.worker_id, it.reason),
    StopAsked: lambda it: (7,),
}
"""How each kind of event is written: a number, then its fields."""

_UNPACK: Final[Sequence[Callable[..., ControllerEvent]]] = (
    _from_client,
    _from_worker,
    lambda: WAKEUP,
    ClientLost,
    WorkerConnected,
    WorkerLeaving,
    WorkerLost,
    StopAsked,
)
"""How it is read, by the number."""
