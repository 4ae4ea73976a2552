"""Uploads: model directories that travel from a client through the controller to workers.

::

    client      BeginUploadRequest   UploadChunkRequest ...   EndUploadRequest
                       v                     v                       v
    controller    BeginUpload           StoreChunk ...          EndUpload
                       v                     v                       v
    workers       UploadDone            UploadDone ...          UploadDone

A chunk is answered when all workers that lack the model have stored it, and a client has at most
`CHUNKS_MAX` of them under way: what an upload takes of the controller's memory is bounded by that,
whatever the size of the model and the speed of the workers.

Chunks are sent in the order of the files, each file from its beginning.
"""

from typing import Final

from msgspec import Struct

from clockwork.messages.ids import ActionId, TaskId
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import KIB, MIB

CHUNK_BYTES: Final = 256 * KIB
"""What clients send at once: 0.2 ms of 10 GbE, which is all that an inference behind it waits."""
CHUNK_BYTES_MAX: Final = MIB
"""What the controller takes at once (chosen)."""
CHUNKS_MAX: Final = 4
"""Chunks of one upload under way (chosen: enough to keep disk and network busy at once)."""
FILES_MAX: Final = 64
"""Files of one model; a model directory has 3, and 2 more per kind of processor (chosen)."""


class UploadFile(Struct, frozen=True):
    """One file of a model directory."""

    # Without any directory.
    name: str
    size_bytes: int
    # In hexadecimal.
    sha256: str


# Between a client and the controller.


class BeginUploadRequest(Struct, frozen=True):
    """Offer a model directory to all workers that lack it."""

    user_request_id: int
    user_id: int
    # What the directory will be called, and how LoadModel finds it.
    name: str
    # In the order of their chunks.
    files: tuple[UploadFile, ...]


class BeginUploadResponse(Struct, frozen=True):
    """Whether chunks may be sent. Without workers that lack the model nothing is to be sent."""

    user_request_id: int
    status: Status
    message: str
    upload_id: int
    # Workers that lack the model, and those that have it already.
    lacking_count: int
    having_count: int


class UploadChunkRequest(Struct, frozen=True, array_like=True):
    """The next bytes of an upload, which are the payload."""

    user_request_id: int
    upload_id: int
    # Index into the files of the upload.
    file_index: int
    # First byte in that file.
    offset: int


class UploadChunkResponse(Struct, frozen=True, array_like=True):
    """The chunk is stored, or the upload has failed."""

    user_request_id: int
    status: Status
    message: str


class EndUploadRequest(Struct, frozen=True):
    """Check the files, and make the model one that can be loaded. Answered with DoneResponse."""

    user_request_id: int
    user_id: int
    upload_id: int
    # False to forget what was sent.
    is_complete: bool = True


# Between the controller and workers.


class BeginUpload(Struct, frozen=True):
    """Make place for a model directory, unless this very directory is there already."""

    action_id: ActionId
    name: str
    files: tuple[UploadFile, ...]


class StoreChunk(Struct, frozen=True, array_like=True):
    """Append the payload to a file of an upload."""

    action_id: ActionId
    # That of BeginUpload.
    name: str
    file_index: int
    offset: int


class EndUpload(Struct, frozen=True):
    """Check an upload and keep it, or forget it."""

    action_id: ActionId
    name: str
    is_complete: bool


UploadAction = BeginUpload | StoreChunk | EndUpload


class UploadDone(Struct, frozen=True):
    """A step of an upload succeeded."""

    action_id: ActionId
    # True if the whole model is there.
    is_there: bool
    received_at_ns: int
    sent_at_ns: int


# Between a worker's role and its shell.


class StoreUpload(Struct, frozen=True, gc=False):
    """Carry out a step of an upload, after those before it. Exactly one UploadStored answers."""

    task_id: TaskId
    action: UploadAction
    payload: Payload


class UploadStored(Struct, frozen=True, gc=False):
    """A step of an upload was carried out."""

    task_id: TaskId
    is_there: bool
    # What went wrong; SUCCESS and empty otherwise.
    status: ActionStatus = ActionStatus.SUCCESS
    message: str = ""


class DropUploads(Struct, frozen=True, gc=False):
    """Remove what has arrived of unfinished uploads: their controller is gone."""
