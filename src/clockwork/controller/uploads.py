"""Uploads on their way through the controller: from one client to the workers that lack the model.

::

    OPENING    --all workers have answered-->   RECEIVING
    OPENING    --none lacks the model-->        (answered: nothing to send)
    RECEIVING  --EndUpload of the client-->     CLOSING
    CLOSING    --all workers have answered-->   (answered)
    any        --a worker refuses, the client leaves or breaks a rule-->  (failed)

A failed upload is forgotten on all workers, which remove what has arrived. A worker that leaves
meanwhile is left out; when it is back, the same upload brings it up to date and nobody else.

Bounds: `UPLOADS_MAX` uploads, each with at most `CHUNKS_MAX` chunks of `CHUNK_BYTES_MAX` bytes
under way. A chunk is one buffer, whatever the number of workers that it goes to.

Not here: what is written where and checked how (``models/uploads.py``, at the workers).
"""

from collections.abc import Callable
from enum import Enum
from itertools import count
from typing import Final

from msgspec import Struct, field

from clockwork.controller.cluster import Cluster
from clockwork.controller.ledger import Ledger
from clockwork.controller.underway import PendingOrder
from clockwork.messages.actions import ActionFailed, Result
from clockwork.messages.controller_io import ToClient
from clockwork.messages.ids import ActionId, ClientId, WorkerId
from clockwork.messages.requests import DoneResponse, Response
from clockwork.messages.role import Payload
from clockwork.messages.status import Status
from clockwork.messages.uploads import (
    CHUNK_BYTES_MAX,
    CHUNKS_MAX,
    FILES_MAX,
    BeginUpload,
    BeginUploadRequest,
    BeginUploadResponse,
    EndUpload,
    EndUploadRequest,
    StoreChunk,
    UploadAction,
    UploadChunkRequest,
    UploadChunkResponse,
    UploadDone,
    UploadFile,
)
from clockwork.parts.names import explain_name, is_file_name

UPLOADS_MAX: Final = 4
"""Uploads at once (chosen: more only share the same network)."""
NO_WORKER: Final = "no worker is connected; start one, or check the controller's worker list"


class _State(Enum):
    OPENING = "opening"
    RECEIVING = "receiving"
    CLOSING = "closing"


class UploadStep(Struct, eq=False):
    """A request of the client that is answered when all workers have answered."""

    upload: "_Upload"
    user_request_id: int
    open: set[WorkerId]


class _Upload(Struct, eq=False):
    """One upload under way."""

    upload_id: int
    client_id: ClientId
    name: str
    files: tuple[UploadFile, ...]
    # Workers that get the chunks; all workers while OPENING.
    workers: set[WorkerId]
    state: _State = _State.OPENING
    # Workers that had the model before.
    having_count: int = 0
    # Where the next chunk begins; the index is the number of files when all bytes have come.
    file_index: int = 0
    offset: int = 0
    # Requests that wait for workers, oldest first.
    steps: list[UploadStep] = field(default_factory=list)

    def advance(self, size_bytes: int) -> None:
        """Move on by a chunk, and over files that are complete or empty."""
        self.offset += size_bytes
        files = self.files
        while self.file_index < len(files) and self.offset == files[self.file_index].size_bytes:
            self.file_index += 1
            self.offset = 0


class Uploads:
    """Passes uploads on and answers their clients."""

    def __init__(self, *, cluster: Cluster, ledger: Ledger) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._numbers = count(1)
        # By number.
        self._uploads: dict[int, _Upload] = {}

    def begin(self, client_id: ClientId, request: BeginUploadRequest) -> None:
        """Ask all workers to make place for a model."""
        number = request.user_request_id
        workers = {worker.worker_id for worker in self._cluster.workers if worker.is_ready}
        problem = self._problem_of(request)
        if problem is not None:
            response = BeginUploadResponse(number, Status.INVALID_REQUEST, problem, 0, 0, 0)
            self._answer(client_id, response)
        elif not workers:
            self._answer(client_id, BeginUploadResponse(number, Status.ERROR, NO_WORKER, 0, 0, 0))
        else:
            upload = _Upload(next(self._numbers), client_id, request.name, request.files, workers)
            self._uploads[upload.upload_id] = upload
            upload.advance(0)
            self._send(
                upload,
                number,
                lambda action_id: BeginUpload(action_id, upload.name, upload.files),
            )

    def chunk(self, client_id: ClientId, request: UploadChunkRequest, payload: Payload) -> None:
        """Pass the next bytes on to all workers that lack the model."""
        number, upload = request.user_request_id, self._uploads.get(request.upload_id)
        if upload is None or upload.client_id != client_id:
            text = f"upload {request.upload_id} is not under way: begin it anew"
            response = UploadChunkResponse(number, Status.INVALID_REQUEST, text)
            self._answer(client_id, response)
            return
        problem = self._problem_of_chunk(upload, request, payload)
        if problem is not None:
            self._answer(client_id, UploadChunkResponse(number, Status.INVALID_REQUEST, problem))
            self._fail(upload, problem)
            return
        upload.advance(len(payload))
        self._send(
            upload,
            number,
            lambda action_id: StoreChunk(
                action_id, upload.name, request.file_index, request.offset
            ),
            payload,
        )

    def end(self, client_id: ClientId, request: EndUploadRequest) -> None:
        """Have the workers check and keep the model."""
        number, upload = request.user_request_id, self._uploads.get(request.upload_id)
        problem = None
        if upload is None or upload.client_id != client_id:
            problem = f"upload {request.upload_id} is not under way: begin it anew"
        elif not request.is_complete:
            self._fail(upload, "its client gave it up")
            self._answer(client_id, DoneResponse(number, Status.SUCCESS, ""))
            return
        elif upload.state is not _State.RECEIVING or upload.steps:
            problem = "an upload is ended once all its chunks are answered"
        elif upload.file_index < len(upload.files):
            problem = f"the upload ends within {upload.files[upload.file_index].name}"
        if problem is not None or upload is None:
            self._answer(client_id, DoneResponse(number, Status.INVALID_REQUEST, problem or ""))
            if upload is not None and upload.client_id == client_id:
                self._fail(upload, problem or "")
            return
        upload.state = _State.CLOSING
        name = upload.name
        self._send(upload, number, lambda action_id: EndUpload(action_id, name, is_complete=True))

    def client_lost(self, client_id: ClientId) -> None:
        """Forget the uploads of a client that left."""
        for upload in list(self._uploads.values()):
            if upload.client_id == client_id:
                self._fail(upload, None)

    def on_result(self, pending: PendingOrder, result: Result, now_ns: int) -> None:
        """Take in a worker's answer."""
        step = pending.owner
        assert isinstance(step, UploadStep), f"{step!r} is no step of an upload"
        if step.upload.upload_id not in self._uploads:
            return  # it has failed
        upload, worker_id = step.upload, pending.worker_id
        step.open.discard(worker_id)
        if isinstance(result, UploadDone):
            if upload.state is _State.OPENING and result.is_there:
                upload.workers.discard(worker_id)
                upload.having_count += 1
        elif not self._cluster.workers[worker_id].is_ready:
            upload.workers.discard(worker_id)
        else:
            text = result.message if isinstance(result, ActionFailed) else "a wrong answer"
            self._fail(upload, f"worker {worker_id}: {text}")
            return
        self._answer_done_steps(upload)

    def _send(
        self,
        upload: _Upload,
        number: int,
        make: Callable[[ActionId], UploadAction],
        payload: Payload = b"",
    ) -> None:
        """Send an action to the workers of an upload; the client waits for all of them."""
        upload.workers = {id_ for id_ in upload.workers if self._cluster.workers[id_].is_ready}
        step = UploadStep(upload, number, set(upload.workers))
        upload.steps.append(step)
        for worker_id in sorted(upload.workers):
            action_id = self._ledger.next_action_id()
            self._ledger.send(
                PendingOrder(action_id, worker_id, step),
                make(action_id),
                (payload,) if payload else (),
            )
        self._answer_done_steps(upload)

    def _answer_done_steps(self, upload: _Upload) -> None:
        """Answer the oldest requests of an upload as far as all workers have answered them."""
        steps = upload.steps
        while steps and not steps[0].open:
            if not upload.workers and not upload.having_count:
                self._fail(upload, "the workers left while the model was being uploaded")
                return
            self._finish_step(upload, steps.pop(0).user_request_id)

    def _finish_step(self, upload: _Upload, number: int) -> None:
        """Tell the client that a request of its upload is done."""
        if upload.state is _State.OPENING:
            upload.state = _State.RECEIVING
            self._answer(
                upload.client_id,
                BeginUploadResponse(
                    number,
                    Status.SUCCESS,
                    "",
                    upload.upload_id,
                    len(upload.workers),
                    upload.having_count,
                ),
            )
            if not upload.workers:
                self._forget(upload)
        elif upload.state is _State.RECEIVING:
            self._answer(upload.client_id, UploadChunkResponse(number, Status.SUCCESS, ""))
        else:
            self._answer(upload.client_id, DoneResponse(number, Status.SUCCESS, ""))
            self._forget(upload)

    def _fail(self, upload: _Upload, reason: str | None) -> None:
        """Forget an upload everywhere; tell its client why, unless the client is gone (None)."""
        for step in upload.steps:
            if reason is not None:
                number, status = step.user_request_id, Status.ERROR
                response: Response = UploadChunkResponse(number, status, reason)
                if upload.state is _State.OPENING:
                    response = BeginUploadResponse(number, status, reason, 0, 0, 0)
                elif upload.state is _State.CLOSING:
                    response = DoneResponse(number, status, reason)
                self._answer(upload.client_id, response)
        for worker_id in sorted(upload.workers):
            if self._cluster.workers[worker_id].is_ready:
                action_id = self._ledger.next_action_id()
                self._ledger.send(
                    PendingOrder(action_id, worker_id, UploadStep(upload, 0, set())),
                    EndUpload(action_id, upload.name, is_complete=False),
                )
        self._forget(upload)

    def _forget(self, upload: _Upload) -> None:
        del self._uploads[upload.upload_id]

    def _problem_of(self, request: BeginUploadRequest) -> str | None:
        """Return why an upload cannot even begin."""
        names = [file.name for file in request.files]
        if len(self._uploads) >= UPLOADS_MAX:
            return f"{UPLOADS_MAX} uploads are under way; try again when one of them has ended"
        if any(upload.name == request.name for upload in self._uploads.values()):
            return f"{request.name} is being uploaded already"
        if not 0 < len(names) <= FILES_MAX:
            return f"a model has 1 to {FILES_MAX} files, not {len(names)}"
        wrong = next((name for name in (request.name, *names) if not is_file_name(name)), None)
        return None if wrong is None else explain_name(wrong)

    def _problem_of_chunk(
        self, upload: _Upload, request: UploadChunkRequest, payload: Payload
    ) -> str | None:
        """Return which rule a chunk breaks."""
        if upload.state is not _State.RECEIVING:
            return "the upload is not ready for chunks"
        if len(upload.steps) >= CHUNKS_MAX:
            return f"{CHUNKS_MAX} chunks are under way: wait for their answers"
        if not 0 < len(payload) <= CHUNK_BYTES_MAX:
            return f"a chunk of {len(payload)} bytes came, allowed are 1 to {CHUNK_BYTES_MAX}"
        place, expected = (request.file_index, request.offset), (upload.file_index, upload.offset)
        if place != expected or upload.file_index == len(upload.files):
            return f"file {place[0]} from byte {place[1]} came out of turn"
        if upload.offset + len(payload) > upload.files[upload.file_index].size_bytes:
            return f"the chunk goes beyond the end of {upload.files[upload.file_index].name}"
        return None

    def _answer(self, client_id: ClientId, response: Response) -> None:
        self._ledger.effects.append(ToClient(client_id, response, b""))
