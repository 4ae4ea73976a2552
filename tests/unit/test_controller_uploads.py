"""Uploads through the controller role: who gets what, how much is under way, what may go wrong."""

import pytest
from controller_stage import CLIENT, Stage, profile

from clockwork.messages.ids import ClientId
from clockwork.messages.requests import DoneResponse
from clockwork.messages.status import ActionStatus, Status
from clockwork.messages.uploads import (
    CHUNK_BYTES_MAX,
    CHUNKS_MAX,
    BeginUpload,
    BeginUploadRequest,
    BeginUploadResponse,
    EndUpload,
    EndUploadRequest,
    StoreChunk,
    UploadChunkRequest,
    UploadChunkResponse,
    UploadDone,
    UploadFile,
)

SHA = "0" * 64
FILES = (
    UploadFile("model.json", 3, SHA),
    UploadFile("nothing.txt", 0, SHA),
    UploadFile("weights.bin", 5, SHA),
)


class Uploading:
    """A stage with two workers, and a client that uploads."""

    def __init__(self, *, workers: int = 2) -> None:
        self.stage = Stage(workers=workers).start(profile())
        self.number = 1000

    def begin(
        self,
        name: str = "resnet",
        files: tuple[UploadFile, ...] = FILES,
        client: ClientId = CLIENT,
    ) -> None:
        """The client offers a model."""
        self.number += 1
        self.stage.request(BeginUploadRequest(self.number, 0, name, files), client=client)

    def chunk(self, file_index: int, offset: int, payload: bytes, *, upload: int = 1) -> None:
        """The client sends bytes."""
        self.number += 1
        request = UploadChunkRequest(self.number, upload, file_index, offset)
        self.stage.request(request, payload)

    def end(self, upload: int = 1) -> None:
        """The client has sent all."""
        self.number += 1
        self.stage.request(EndUploadRequest(self.number, 0, upload))

    def answer(self, *workers: int, is_there: bool = False) -> None:
        """Have workers answer the oldest step that each owes."""
        for worker in workers:
            step = self.steps(worker)[0]
            now_ns = self.stage.now_ns
            self.stage.result(UploadDone(step.action_id, is_there, now_ns, now_ns), worker)

    def fail(self, worker: int, text: str = "the disk is full") -> None:
        """Have a worker refuse the oldest step that it owes."""
        self.stage.fail(self.steps(worker)[0], ActionStatus.INVALID_MODEL_PATH, text)

    def steps(self, worker: int) -> list[BeginUpload | StoreChunk | EndUpload]:
        """Return the steps that a worker owes."""
        kind = (BeginUpload, StoreChunk, EndUpload)
        return self.stage.take(kind, worker=worker)  # type: ignore[arg-type]

    def opened(self, *lacking: int) -> "Uploading":
        """Begin; workers that are not named have the model."""
        self.begin()
        for worker in range(len(self.stage.role.cluster.workers)):
            self.answer(worker, is_there=worker not in lacking)
        return self

    def told(self, kind: type) -> list[tuple[Status, str]]:
        """Return status and message of the responses of a kind, and forget all effects."""
        found = [(each.status, each.message) for each in self.stage.responses(kind)]
        self.stage.effects.clear()
        return found


OK = (Status.SUCCESS, "")


def test_only_workers_that_lack_the_model_get_it() -> None:
    """All are asked, one gets the bytes, and the client learns how many there are of each."""
    run = Uploading().opened(1)
    (answer,) = run.stage.responses(BeginUploadResponse)
    assert (answer.status, answer.lacking_count, answer.having_count) == (Status.SUCCESS, 1, 1)
    run.chunk(0, 0, b"{ }")
    assert run.steps(0) == []
    (step,) = run.steps(1)
    assert isinstance(step, StoreChunk)
    assert (step.name, step.file_index, step.offset) == ("resnet", 0, 0)
    run.answer(1)
    assert run.told(UploadChunkResponse) == [OK]
    run.chunk(2, 0, b"01234")
    run.answer(1)
    run.end()
    (step,) = run.steps(1)
    assert isinstance(step, EndUpload)
    assert step.is_complete
    run.answer(1)
    assert run.told(DoneResponse) == [OK]


def test_a_model_that_all_have_is_not_sent() -> None:
    """The upload is over with its first answer."""
    run = Uploading().opened()
    (answer,) = run.stage.responses(BeginUploadResponse)
    assert (answer.lacking_count, answer.having_count) == (0, 2)
    run.begin()
    assert len(run.steps(0)) == 1


def test_a_chunk_is_answered_when_all_workers_have_stored_it() -> None:
    """Answers come in the order of the chunks, whatever the order of the workers."""
    run = Uploading().opened(0, 1)
    run.told(BeginUploadResponse)
    run.chunk(0, 0, b"{ ")
    run.chunk(0, 2, b"}")
    run.answer(0, 0)
    assert run.told(UploadChunkResponse) == []
    run.answer(1)
    assert run.told(UploadChunkResponse) == [OK]
    run.answer(1)
    assert run.told(UploadChunkResponse) == [OK]


def test_one_worker_that_refuses_fails_the_upload_everywhere() -> None:
    """The client learns which worker and why; the others are told to forget what they have."""
    run = Uploading().opened(0, 1)
    run.told(BeginUploadResponse)
    run.chunk(0, 0, b"{ }")
    run.answer(0)
    run.fail(1)
    assert run.told(UploadChunkResponse) == [(Status.ERROR, "worker 1: the disk is full")]
    for worker in (0, 1):
        (step,) = run.steps(worker)
        assert isinstance(step, EndUpload)
        assert not step.is_complete
        run.answer(worker)
    run.chunk(2, 0, b"01234")
    ((status, text),) = run.told(UploadChunkResponse)
    assert status is Status.INVALID_REQUEST
    assert text == "upload 1 is not under way: begin it anew"


@pytest.mark.parametrize("step", ["begin", "end"])
def test_refusals_at_both_ends_are_told(step: str) -> None:
    """No place at the beginning, a wrong checksum at the end."""
    run = Uploading(workers=1)
    if step == "begin":
        run.begin()
        run.fail(0)
        assert run.told(BeginUploadResponse) == [(Status.ERROR, "worker 0: the disk is full")]
        return
    run.opened(0)
    run.chunk(0, 0, b"{ }")
    run.answer(0)
    run.chunk(2, 0, b"01234")
    run.answer(0)
    run.end()
    run.fail(0, "another checksum")
    assert run.told(DoneResponse) == [(Status.ERROR, "worker 0: another checksum")]


def test_a_client_that_leaves_leaves_nothing() -> None:
    """Workers forget the upload, and its name is free."""
    run = Uploading(workers=1).opened(0)
    run.chunk(0, 0, b"{ }")
    run.stage.lose_client()
    run.answer(0)
    (step,) = run.steps(0)
    assert isinstance(step, EndUpload)
    assert not step.is_complete
    run.answer(0)
    run.told(BeginUploadResponse)
    run.begin()
    assert run.told(BeginUploadResponse) == []


def test_a_worker_that_leaves_is_left_out() -> None:
    """What it owes is not waited for; if nobody is left, the upload fails."""
    run = Uploading().opened(0, 1)
    run.told(BeginUploadResponse)
    run.chunk(0, 0, b"{ }")
    run.stage.lose_worker(1)
    run.answer(0)
    assert run.told(UploadChunkResponse) == [OK]
    run.chunk(2, 0, b"01234")
    run.stage.lose_worker(0)
    ((status, text),) = run.told(UploadChunkResponse)
    assert status is Status.ERROR
    assert text == "the workers left while the model was being uploaded"


@pytest.mark.parametrize(
    ("file_index", "offset", "payload", "words"),
    [
        (0, 1, b"x", "file 0 from byte 1 came out of turn"),
        (2, 0, b"x", "file 2 from byte 0 came out of turn"),
        (-1, 0, b"x", "out of turn"),
        (0, 0, b"", "a chunk of 0 bytes came"),
        (0, 0, b"x" * (CHUNK_BYTES_MAX + 1), f"allowed are 1 to {CHUNK_BYTES_MAX}"),
        (0, 0, b"xxxx", "the chunk goes beyond the end of model.json"),
    ],
)
def test_a_chunk_that_breaks_a_rule_ends_the_upload(
    file_index: int, offset: int, payload: bytes, words: str
) -> None:
    """Nothing of it reaches a worker but the order to forget it."""
    run = Uploading(workers=1).opened(0)
    run.told(BeginUploadResponse)
    run.chunk(file_index, offset, payload)
    ((status, text),) = run.told(UploadChunkResponse)
    assert status is Status.INVALID_REQUEST
    assert words in text
    (step,) = run.steps(0)
    assert isinstance(step, EndUpload)


def test_too_many_chunks_under_way_end_the_upload() -> None:
    """This bounds what an upload takes of the controller's memory."""
    files = (UploadFile("model.json", 100, SHA),)
    run = Uploading(workers=1)
    run.begin(files=files)
    run.answer(0)
    run.told(BeginUploadResponse)
    for offset in range(CHUNKS_MAX):
        run.chunk(0, offset, b"x")
    assert run.told(UploadChunkResponse) == []
    run.chunk(0, CHUNKS_MAX, b"x")
    told = run.told(UploadChunkResponse)
    assert len(told) == CHUNKS_MAX + 1
    assert f"{CHUNKS_MAX} chunks are under way" in told[0][1]


def test_an_upload_is_ended_when_all_has_come_and_no_earlier() -> None:
    """Bytes that are missing, or not stored yet, are named."""
    run = Uploading(workers=1).opened(0)
    run.chunk(0, 0, b"{ }")
    run.end()
    assert "once all its chunks are answered" in run.told(DoneResponse)[0][1]
    for _ in run.steps(0):
        run.answer(0)
    run.begin()
    run.answer(0)
    run.chunk(0, 0, b"{ }", upload=2)
    run.answer(0)
    run.end(upload=2)
    assert "the upload ends within weights.bin" in run.told(DoneResponse)[0][1]
    run.end(upload=77)
    assert run.told(DoneResponse)[0][1] == "upload 77 is not under way: begin it anew"


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        ("../evil", FILES, "'../evil' is no name for a model or its files"),
        (".hidden", FILES, "is no name"),
        ("a/b", FILES, "is no name"),
        ("", FILES, "is no name"),
        ("x" * 200, FILES, "use up to 128"),
        ("resnet", (UploadFile("../../etc/passwd", 1, SHA),), "'../../etc/passwd' is no name"),
        ("resnet", (), "a model has 1 to 64 files, not 0"),
        ("resnet", FILES * 30, "not 90"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(
    name: str, files: tuple[UploadFile, ...], words: str
) -> None:
    """No worker hears of them."""
    run = Uploading()
    run.begin(name, files)
    ((status, text),) = run.told(BeginUploadResponse)
    assert status is Status.INVALID_REQUEST
    assert words in text
    assert run.steps(0) == []


def test_a_name_is_uploaded_once_at_a_time_and_four_in_all() -> None:
    """Others are told to wait."""
    run = Uploading(workers=1)
    for name in ("a", "b", "c", "d"):
        run.begin(name)
    run.begin("a")
    run.begin("e")
    texts = [text for _, text in run.told(BeginUploadResponse)]
    assert all("4 uploads are under way" in text for text in texts)
    run.fail(0)
    run.begin("b")
    assert "b is being uploaded already" in run.told(BeginUploadResponse)[-1][1]


def test_another_clients_upload_cannot_be_touched() -> None:
    """Its number is unknown to others, and it goes on."""
    run = Uploading(workers=1)
    run.begin(client=ClientId(99))
    run.answer(0)
    run.told(BeginUploadResponse)
    run.chunk(0, 0, b"{ }")
    assert run.told(UploadChunkResponse)[0][0] is Status.INVALID_REQUEST
    run.end()
    assert run.told(DoneResponse)[0][0] is Status.INVALID_REQUEST
    assert run.steps(0) == []


def test_an_upload_waits_until_it_is_known_which_workers_there_are() -> None:
    """Status 5 has the client library ask again."""
    stage = Stage(workers=2)
    stage.connect(0)
    stage.request(BeginUploadRequest(1, 0, "resnet", FILES))
    (answer,) = stage.responses(BeginUploadResponse)
    assert answer.status is Status.INITIALIZING
    stage.connect(1)
    stage.request(BeginUploadRequest(2, 0, "resnet", FILES))
    assert len(stage.take(BeginUpload)) == 2


def test_without_workers_nothing_can_be_uploaded() -> None:
    """The message says what to start."""
    run = Uploading(workers=1)
    run.stage.lose_worker()
    run.begin()
    assert "no worker is connected" in run.told(BeginUploadResponse)[0][1]
