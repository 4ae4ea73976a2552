"""What users and strangers do wrong: the mistake is named, and everybody else is served on.

One system serves all tests of this module; after each of them another client must get its answer.
"""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uvloop
from live.system import LOCALHOST, Program, System
from live.zoo import Zoo
from msgspec import Struct
from wire_stage import Recorder, dial

import clockwork
from clockwork.live.frames import MAGIC, PREAMBLE
from clockwork.live.wire import Connection
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import InferRequest, InferResponse
from clockwork.messages.status import Status
from clockwork.units import GIB, MIB, MS

SLO_MS = 30_000
IMAGE = np.zeros((1, 8, 8), np.float32)
PAGES = 4
PAGE_BYTES = 256 * 1024


class Place(Struct, frozen=True):
    """A system that serves, what it serves, and where its worker looks for models."""

    system: System
    worker: Program
    controller: Program
    client: clockwork.Client
    digits: clockwork.Model
    folder: Path


@pytest.fixture(scope="module")
def place(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One real worker that may load models from one folder only."""
    folder = tmp_path_factory.mktemp("allowed")
    shutil.copytree(zoo.directory("digits"), folder / "digits")
    with System(folder / "logs") as system:
        worker = system.worker(
            f"--model-dirs={folder}",
            f"--weights-cache-size={PAGES * PAGE_BYTES}",
            f"--weights-cache-page-size={PAGE_BYTES}",
        )
        controller = system.controller()
        client = system.connect()
        digits = client.load_model(str(folder / "digits"))
        digits.infer(IMAGE, slo_ms=SLO_MS)
        yield Place(system, worker, controller, client, digits, folder)


@pytest.fixture(autouse=True)
def others_are_served(place: Place) -> Iterator[None]:
    """After each test another client gets its answer, and nobody has died."""
    yield
    with clockwork.connect(place.system.address) as other:
        answer = other.model("digits").infer(IMAGE, slo_ms=SLO_MS)
        assert answer["scores"].shape == (10,)
        assert [model.name for model in other.models()] == ["digits"]
    assert place.worker.process.poll() is None
    assert place.controller.process.poll() is None


# Requests that make no sense.


def test_an_unknown_name_is_answered_with_those_that_are_close(place: Place) -> None:
    """The client library says what might have been meant."""
    with pytest.raises(clockwork.InvalidRequestError, match=r"no model 'digit': did you mean dig"):
        place.client.model("digit")


def test_a_model_that_is_gone_is_named(place: Place) -> None:
    """A handle that outlives its model gets an answer from the controller."""
    model = place.client.load_model(str(place.folder / "digits"))
    model.unload()
    with pytest.raises(clockwork.FailedError, match=rf"Invalid model ID {model.model_id}: LS"):
        model.infer(IMAGE, slo_ms=SLO_MS)
    for action in (model.unload, model.evict):
        with pytest.raises(clockwork.FailedError, match=f"Invalid model ID {model.model_id}"):
            action()


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (np.zeros((8, 8), np.float32), r"'image' has shape \(8, 8\), the model expects \(1, 8, 8"),
        (np.zeros((2, 1, 8, 8), np.float32), r"one request at a time"),
        (np.zeros((1, 8, 8), np.float64), r"has dtype float64, the model expects float32"),
        ({"picture": IMAGE}, "no input 'picture'; its inputs are image"),
        ({}, "the input 'image' is missing"),
        ("seven", "'image' cannot be read as float32"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_by_the_client(
    place: Place, inputs: object, text: str
) -> None:
    """Shape, dtype and names are checked before anything is sent."""
    with pytest.raises(clockwork.InvalidRequestError, match=text):
        place.digits.infer(inputs, slo_ms=SLO_MS)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 255, 257, 3 * MIB])
def test_a_wrong_number_of_bytes_is_refused_by_the_controller(place: Place, size: int) -> None:
    """A client of another make gets status 6 with both numbers."""
    model_id = ModelId(place.digits.model_id)
    response = ask_raw(place, InferRequest(1, 0, model_id, SLO_MS * MS), bytes(size))
    assert response.status is Status.INVALID_REQUEST
    assert f"the input has {size} bytes, model {model_id} takes 256" in response.message


def test_an_unknown_id_is_refused_by_the_controller(place: Place) -> None:
    """A client of another make gets status 1 with the number."""
    response = ask_raw(place, InferRequest(1, 0, ModelId(999), SLO_MS * MS), bytes(256))
    assert (response.status, response.batch_size) == (Status.ERROR, 0)
    assert "Invalid model ID 999" in response.message


def test_a_negative_slo_is_refused_by_the_controller(place: Place) -> None:
    """A promise that ends before it begins is no promise."""
    request = InferRequest(1, 0, ModelId(place.digits.model_id), -5)
    response = ask_raw(place, request, bytes(256))
    assert response.status is Status.INVALID_REQUEST
    assert "the SLO is -5 ns" in response.message


def test_an_slo_that_cannot_be_met_is_refused_at_once(place: Place) -> None:
    """The answer says what would be needed, what was allowed, and what to do."""
    with pytest.raises(clockwork.RejectedError) as caught:
        place.digits.infer(IMAGE, slo_ms=0.001)
    assert caught.value.status == 8
    assert "needs 5." in str(caught.value)
    assert "SLO 0.0 ms" in str(caught.value)
    assert "allow more time" in str(caught.value)


# Models that cannot be loaded.


@pytest.mark.parametrize(
    "path", ["/etc", "/nowhere/at/all", "{folder}/../outside", "{folder}/link"]
)
def test_a_path_outside_the_allowed_folders_is_refused(place: Place, path: str) -> None:
    """Neither dots nor links lead out."""
    link = place.folder / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    with pytest.raises(clockwork.FailedError, match="outside the model folders of this worker"):
        place.client.load_model(path.format(folder=place.folder))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "the path is empty"),
        ("\0", "is no path: .*null"),
        ("x" * 5000, "xxx is outside the model folders|is no path: .*too long"),
    ],
)
def test_what_is_no_path_is_refused(place: Place, path: str, text: str) -> None:
    """Nonsense ends at the controller or the worker, with a word about the path."""
    with pytest.raises(clockwork.RequestError, match=text):
        place.client.load_model(path)


@pytest.mark.parametrize("copies", [0, -1, 100_001])
def test_a_senseless_number_of_copies_is_refused(place: Place, copies: int) -> None:
    """The client or the controller says how many there may be."""
    with pytest.raises(clockwork.RequestError, match="copies"):
        place.client.load_model(place.digits.source, copies)


def truncate_weights(folder: Path) -> None:
    """Cut the files of weights in half."""
    for path in folder.glob("weights*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit_of_the_weights(folder: Path) -> None:
    """Change one bit of the files of weights."""
    for path in folder.glob("weights*"):
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content)


def truncate_the_code(folder: Path) -> None:
    """Cut the graphs in half."""
    for path in folder.glob("code*"):
        path.write_bytes(path.read_bytes()[:500])


def remove_the_code(folder: Path) -> None:
    """Delete the graphs."""
    for path in folder.glob("code*"):
        path.unlink()


def truncate_the_description(folder: Path) -> None:
    """Cut ``model.json`` in half."""
    path = folder / "model.json"
    path.write_bytes(path.read_bytes()[:500])


def write_another_format(folder: Path) -> None:
    """Make ``model.json`` one of a later version."""
    path = folder / "model.json"
    path.write_text('{"format": 99, "name": "digits"}', encoding="utf-8")


def empty(folder: Path) -> None:
    """Remove everything."""
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (truncate_weights, "weights.* is damaged or truncated"),
        (flip_a_bit_of_the_weights, "weights.* is damaged or truncated"),
        (truncate_the_code, "code.* is damaged or truncated"),
        (remove_the_code, "cannot read .*code.*No such file"),
        (truncate_the_description, "model.json is broken"),
        (write_another_format, "has format 99, this version reads"),
        (empty, "is no model directory: it has no model.json"),
    ],
)
def test_a_damaged_model_directory_is_refused(
    place: Place, damage: Callable[[Path], None], text: str
) -> None:
    """The file and what is wrong with it are named, and nothing is left behind."""
    folder = place.folder / damage.__name__
    shutil.copytree(place.folder / "digits", folder)
    damage(folder)
    with pytest.raises(clockwork.FailedError, match=text):
        place.client.load_model(str(folder))


def test_a_model_that_was_damaged_and_mended_can_be_loaded(place: Place) -> None:
    """A failure is not remembered."""
    folder = place.folder / "mended"
    shutil.copytree(place.folder / "digits", folder)
    truncate_weights(folder)
    with pytest.raises(clockwork.FailedError, match="damaged or truncated"):
        place.client.load_model(str(folder))
    shutil.rmtree(folder)
    shutil.copytree(place.folder / "digits", folder)
    model = place.client.load_model(str(folder))
    assert model.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1
    model.unload()


def test_a_model_larger_than_the_cache_is_refused(place: Place, zoo: Zoo) -> None:
    """The pages that it needs and those that there are are named."""
    folder = place.folder / "squeezenet"
    shutil.copytree(zoo.directory("squeezenet"), folder)
    with pytest.raises(
        clockwork.FailedError, match=rf"needs \d+ pages, .* cache has {PAGES}: give"
    ):
        place.client.load_model(str(folder))


# Bytes that are no messages.


def frame(*, header_bytes: int = 0, payload_bytes: int = 0, number: int = 1) -> bytes:
    """Return a preamble that announces so much, and nothing behind it."""
    return PREAMBLE.pack(MAGIC, number, header_bytes, payload_bytes, 0, 0)


STRANGE = {
    "garbage": (bytes(range(255, -1, -1)) * 40, "no Clockwork frame"),
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3, "no Clockwork frame"),
    "a payload that is too long": (
        frame(payload_bytes=2**62),
        f"a payload of {2**62} bytes is longer than 1GiB",
    ),
    "a header that is too long": (
        frame(header_bytes=11 * MIB),
        f"a header of {11 * MIB} bytes is longer than 10MiB",
    ),
    "another version": (
        b"CWK\x63" + frame()[4:],
        "the peer speaks protocol version 99, this side speaks 1",
    ),
    "an unknown message": (frame(number=12345), "a message of type 12345 is not allowed here"),
}


@pytest.mark.parametrize("port", ["controller", "worker"])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_bytes_close_their_connection(place: Place, port: str, name: str) -> None:
    """The reason goes to the sender and to the console; the other connections stay."""
    data, text = STRANGE[name]
    program = {"controller": place.controller, "worker": place.worker}[port]
    known = count_lines(program, text)
    ports = {"controller": place.system.controller_port, "worker": place.system.worker_ports[0]}
    heard = converse(ports[port], data)
    assert text.encode() in heard
    program.wait_for(text, count=known + 1)


def test_half_a_frame_harms_nobody(place: Place) -> None:
    """A client that stops in the middle of a frame is forgotten when it leaves."""
    with socket.create_connection((LOCALHOST, place.system.controller_port)) as half:
        half.sendall(frame(payload_bytes=GIB, header_bytes=10))


def test_a_client_that_dials_the_worker_is_told_so(place: Place) -> None:
    """The wrong port is named for what it is."""
    with pytest.raises(clockwork.ConnectionLostError, match="expected a controller"):
        clockwork.connect(f"{LOCALHOST}:{place.system.worker_ports[0]}", timeout_s=5)


# Clients that leave.


def test_a_client_that_leaves_with_requests_in_flight_is_forgotten(place: Place) -> None:
    """Its queue is dropped, what runs is finished, nobody answers into the void."""

    async def leave() -> None:
        connection, recorder = await dial(place.system.controller_port)
        await recorder.ready.wait()
        send_many(connection, place.digits, count=2_000)
        connection.flush()
        await recorder.wait_for(1)
        connection.abort("the test wants it")

    for _ in range(3):
        uvloop.run(leave())


def test_a_client_that_closes_with_requests_in_flight_fails_them(place: Place) -> None:
    """The library ends its own futures when it is closed."""
    client = clockwork.connect(place.system.address)
    model = client.model("digits")
    futures = [model.infer_async(IMAGE, slo_ms=SLO_MS) for _ in range(500)]
    client.close()
    outcomes = [future.exception() for future in futures]
    assert all(isinstance(each, clockwork.ConnectionLostError | None) for each in outcomes)


def send_many(connection: Connection, model: clockwork.Model, *, count: int) -> None:
    """Send inferences without waiting for answers."""
    for number in range(count):
        request = InferRequest(number, 0, ModelId(model.model_id), SLO_MS * MS)
        connection.send(request, (IMAGE.tobytes(),))


def ask_raw(place: Place, request: InferRequest, payload: bytes) -> InferResponse:
    """Return the answer to a request that the client library would not send."""

    async def ask() -> InferResponse:
        connection, recorder = await dial(place.system.controller_port)
        await recorder.ready.wait()
        connection.send(request, (payload,))
        response = (await answer(recorder))[0]
        connection.close("the test is over")
        await connection.wait_closed()
        return response

    return uvloop.run(ask())


async def answer(recorder: Recorder) -> tuple[InferResponse, bytes]:
    """Return the first answer of a connection."""
    message, payload = (await recorder.wait_for(1))[0]
    assert isinstance(message, InferResponse)
    return message, payload


def converse(port: int, data: bytes) -> bytes:
    """Send bytes to a port; return all that comes back until the other side closes."""
    heard = b""
    with socket.create_connection((LOCALHOST, port)) as stranger:
        stranger.sendall(data)
        try:
            while piece := stranger.recv(65536):
                heard += piece
        except ConnectionResetError:
            # What was not read when the other side closed comes back as a reset.
            pass
    return heard


def count_lines(program: Program, text: str) -> int:
    """Return how many lines with `text` a program has printed."""
    return sum(text in line for line in list(program.lines))
