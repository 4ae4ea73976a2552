"""The client's side of an upload: a model directory on this machine becomes one of all workers.

The directory is checked before anything is sent: every file is there and has the checksum that
``model.json`` says. `CHUNKS_MAX` chunks are under way at a time; reading and hashing happen on a
thread, so that the connection's inferences go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from clockwork.errors import ClockworkError, ConnectionLostError, ModelError
from clockwork.live.outcomes import invalid
from clockwork.messages.requests import DoneResponse, Request, Response
from clockwork.messages.role import Payload
from clockwork.messages.uploads import (
    CHUNK_BYTES,
    CHUNKS_MAX,
    BeginUploadRequest,
    BeginUploadResponse,
    EndUploadRequest,
    UploadChunkRequest,
    UploadChunkResponse,
    UploadFile,
)
from clockwork.models.format import MODEL_NAME, read_model_file, sha256_of
from clockwork.models.original import is_original
from clockwork.parts.names import explain_name, is_file_name

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many have arrived."""

ResponseT = TypeVar("ResponseT", bound=Response)


class Upload(Struct, frozen=True):
    """What an upload did."""

    # What `load_model` takes for it.
    name: str
    size_bytes: int
    # Workers that it was sent to, and those that had the very same model already.
    sent_count: int
    had_count: int


class Ask:
    """How an upload talks to the controller."""

    def __init__(
        self,
        next_id: Callable[[], int],
        user_id: int,
        call: Callable[[Request, Payload], Awaitable[Response]],
    ) -> None:
        """Prepare.

        Args:
            next_id: returns the number for a new request.
            user_id: the tenant.
            call: sends a request; returns its successful response or raises.
        """
        self.next_id = next_id
        self.user_id = user_id
        self._call = call

    async def call(
        self, request: Request, kind: type[ResponseT], payload: Payload = b""
    ) -> ResponseT:
        """Return the response to a request, which is of `kind`."""
        response = await self._call(request, payload)
        assert isinstance(response, kind), f"{type(response).__name__} answers {request}"
        return response


async def upload(
    ask: Ask, directory: Path, *, name: str | None = None, progress: Progress | None = None
) -> Upload:
    """Send a model directory to all workers that lack it.

    Args:
        ask: the connection.
        directory: of the model.
        name: what it will be called there; None: as the directory is.
        progress: is told how far it is, on the client's thread.

    Raises:
        ModelError: the directory is no model, or damaged.
        InvalidRequestError: the name cannot be that of a model.
        RequestError: a worker refused it; nothing is left of it there.
        ConnectionLostError: the connection broke; nothing is left anywhere.
    """
    target = directory.resolve().name if name is None else name
    if not is_file_name(target):
        raise invalid(explain_name(target))
    files = await asyncio.to_thread(files_of, directory)
    request = BeginUploadRequest(ask.next_id(), ask.user_id, target, files)
    begun = await ask.call(request, BeginUploadResponse)
    total = sum(file.size_bytes for file in files)
    if begun.lacking_count:
        tell = progress or _tell_nobody
        try:
            await _send(ask, begun.upload_id, directory, files, lambda done: tell(done, total))
            await _end(ask, begun.upload_id, is_complete=True)
        except ConnectionLostError:
            # The controller has given it up as well, and dialling it again would take its time.
            raise
        except BaseException:
            # Best effort: what the controller has given up already is none of its uploads.
            with suppress(ClockworkError):
                await _end(ask, begun.upload_id, is_complete=False)
            raise
    return Upload(target, total, begun.lacking_count, begun.having_count)


def files_of(directory: Path) -> tuple[UploadFile, ...]:
    """Return the files of a model directory, whose checksums are right.

    Raises:
        ModelError: it is no model directory of ours, or damaged.
    """
    if not (directory / MODEL_NAME).exists() and is_original(directory):
        raise ModelError(
            f"{directory} is a model of the original, which cannot be uploaded: copy it to the "
            "workers"
        )
    model = read_model_file(directory)
    files = []
    for name, expected in sorted(model.checksums.items()):
        found = sha256_of(directory / name)
        if found != expected:
            raise ModelError(f"{directory / name} is damaged: its checksum is another one")
        files.append(UploadFile(name, (directory / name).stat().st_size, found))
    path = directory / MODEL_NAME
    return (UploadFile(MODEL_NAME, path.stat().st_size, sha256_of(path)), *files)


async def _send(
    ask: Ask,
    upload_id: int,
    directory: Path,
    files: tuple[UploadFile, ...],
    tell: Callable[[int], None],
) -> None:
    """Send all files in chunks, some of them under way at a time."""
    under_way: list[tuple[int, asyncio.Task[UploadChunkResponse]]] = []
    done = 0
    try:
        chunks = _chunks(directory, files)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            index, offset, payload = chunk
            if len(under_way) == CHUNKS_MAX:
                size, oldest = under_way.pop(0)
                await oldest
                done += size
                tell(done)
            request = UploadChunkRequest(ask.next_id(), upload_id, index, offset)
            call = ask.call(request, UploadChunkResponse, payload)
            under_way.append((len(payload), asyncio.ensure_future(call)))
        for size, task in under_way:
            await task
            done += size
            tell(done)
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


async def _end(ask: Ask, upload_id: int, *, is_complete: bool) -> None:
    request = EndUploadRequest(ask.next_id(), ask.user_id, upload_id, is_complete)
    await ask.call(request, DoneResponse)


def _chunks(directory: Path, files: tuple[UploadFile, ...]) -> Iterator[tuple[int, int, bytes]]:
    """Yield file index, offset and bytes of all chunks in the order in which they are sent."""
    for index, file in enumerate(files):
        offset = 0
        with (directory / file.name).open("rb") as source:
            while offset < file.size_bytes:
                payload = source.read(min(CHUNK_BYTES, file.size_bytes - offset))
                if not payload:
                    raise ModelError(f"{directory / file.name} became shorter while it was sent")
                yield index, offset, payload
                offset += len(payload)


def _tell_nobody(done: int, total: int) -> None:
    pass
