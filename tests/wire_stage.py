"""Peers for tests of the wire and the clients: handlers that record, a controller that pretends."""

import asyncio
import fcntl
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvloop

from clockwork.live.addresses import Address
from clockwork.live.controller_program import ControllerProgram, ControllerProgramConfig
from clockwork.live.dialling import listen, port_of
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import AT_CLIENT, CONTROLLER_TO_CLIENT, Message, Vocabulary
from clockwork.live.wire import Connection, WireLimits
from clockwork.messages.controller_io import (
    ClientLost,
    ControllerEffect,
    ControllerEvent,
    FromClient,
    StopAsked,
    Stopped,
    ToClient,
)
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, ModelProfile, TensorSpec
from clockwork.messages.requests import (
    DoneResponse,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    Request,
    Response,
)
from clockwork.messages.role import Payload
from clockwork.messages.status import Status

LOCALHOST = "127.0.0.1"


def profile(
    *, inputs: Sequence[TensorSpec] = (), outputs: Sequence[TensorSpec] = ()
) -> ModelProfile:
    """Return a model's profile; without tensors it takes and gives three float32 each."""
    return ModelProfile(
        inputs=tuple(inputs) or (TensorSpec("x", "float32", (3,), 4),),
        outputs=tuple(outputs) or (TensorSpec("y", "float32", (3,), 4),),
        batch_sizes=(1, 2),
        exec_ns=(1000, 1500),
        load_ns=5000,
        weights_bytes=100,
        weights_pages=1,
    )


class Recorder:
    """A handler that keeps what a connection reports."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.messages: list[tuple[Message, bytes]] = []
        self.instants_ns: list[int] = []
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.close_count = 0
        self._waits: list[tuple[int, asyncio.Event]] = []

    def on_ready(self, connection: Connection) -> None:
        """Keep that messages may be sent."""
        self.ready.set()

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Keep a message."""
        self.messages.append((message, bytes(payload)))
        self.instants_ns.append(at_ns)
        for count, event in self._waits:
            if len(self.messages) >= count:
                event.set()

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Keep the reason."""
        self.close_count += 1
        if not self.closed.done():
            self.closed.set_result(reason)

    async def wait_for(self, count: int) -> list[tuple[Message, bytes]]:
        """Return the messages once there are `count` of them."""
        event = asyncio.Event()
        self._waits.append((count, event))
        if len(self.messages) < count:
            await event.wait()
        return self.messages


class Port:
    """Listens on a free port; every connection has a recorder of its own."""

    def __init__(
        self, vocabulary: Vocabulary = CONTROLLER_TO_CLIENT, limits: WireLimits | None = None
    ) -> None:
        self.recorders: list[Recorder] = []
        self.connections: list[Connection] = []
        self._accepted: asyncio.Queue[tuple[Connection, Recorder]] = asyncio.Queue()
        self._vocabulary = vocabulary
        self._limits = limits
        self._flusher = Flusher(asyncio.get_running_loop())
        self._server: asyncio.Server | None = None
        # The port to listen on; 0: any that is free.
        self.listen_on = 0

    async def __aenter__(self) -> "Port":
        """Listen."""
        self._server = await listen(LOCALHOST, self.listen_on, self._accept)
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.abort("the test is over")
            await connection.wait_closed()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return port_of(self._server)

    def unread_bytes(self, index: int) -> int:
        """Return what has arrived at a connection's socket and was not read yet."""
        transport = self.connections[index]._transport
        assert transport is not None, "not connected yet"
        peer_socket = transport.get_extra_info("socket")
        answer = fcntl.ioctl(peer_socket.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    async def accepted(self) -> tuple[Connection, Recorder]:
        """Return the next connection that somebody made, with its recorder."""
        return await self._accepted.get()

    def _accept(self) -> Connection:
        recorder = Recorder()
        connection = Connection(recorder, self._vocabulary, self._flusher, limits=self._limits)
        self.recorders.append(recorder)
        self.connections.append(connection)
        self._accepted.put_nowait((connection, recorder))
        return connection


async def dial(
    port: int, vocabulary: Vocabulary = AT_CLIENT, limits: WireLimits | None = None
) -> tuple[Connection, Recorder]:
    """Return a connection to `port` with its recorder; it may be refused later."""
    recorder = Recorder()
    loop = asyncio.get_running_loop()
    flusher = Flusher(loop)
    _, connection = await loop.create_connection(
        lambda: Connection(recorder, vocabulary, flusher, limits=limits), LOCALHOST, port
    )
    return connection, recorder


class PretendedRole:
    """A controller role without workers: every model gives back its input."""

    def __init__(self) -> None:
        self.events: list[ControllerEvent] = []
        self.models: list[ModelInfo] = []
        # What becomes of inferences: status and message by model id; success where absent.
        self.outcomes: dict[int, tuple[Status, str]] = {}
        # Requests of any kind that are still to be answered with 5.
        self.initializing_count = 0
        # Whether inferences are kept without an answer, in `held`.
        self.is_holding = False
        self.held: list[FromClient] = []
        # Whether nothing at all is answered.
        self.is_mute = False
        self.lost_clients = threading.Semaphore(0)
        self.arrived = threading.Semaphore(0)
        self.profile = profile()

    @property
    def wakeup_ns(self) -> int | None:
        """Never."""
        return None

    def check(self) -> None:
        """Nothing can be wrong."""

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Answer all requests of a batch."""
        effects: list[ControllerEffect] = []
        for event in batch:
            self.events.append(event)
            if isinstance(event, FromClient):
                self.arrived.release()
                effects += self._answer(event) if not self.is_mute else []
            elif isinstance(event, ClientLost):
                self.lost_clients.release()
            elif isinstance(event, StopAsked):
                effects.append(Stopped())
        return effects

    def release(self) -> list[ControllerEffect]:
        """Return the answers to what was held."""
        self.is_holding = False
        held, self.held = self.held, []
        return [effect for event in held for effect in self._answer(event)]

    def _answer(self, event: FromClient) -> list[ControllerEffect]:
        message = event.message
        if isinstance(message, InferRequest) and self.is_holding:
            self.held.append(event)
            return []
        response, payload = self._response(message, event.payload)
        return [ToClient(event.client_id, response, payload)]

    def _response(self, message: Request, payload: Payload) -> tuple[Response, Payload]:
        number = message.user_request_id
        status, text = Status.SUCCESS, ""
        if self.initializing_count:
            self.initializing_count -= 1
            status = Status.INITIALIZING
        if isinstance(message, LsRequest):
            return LsResponse(number, status, text, tuple(self.models)), b""
        if isinstance(message, LoadModelRequest):
            return self._loaded(message, status), b""
        if not isinstance(message, InferRequest):
            return DoneResponse(number, status, text), b""
        if status is Status.SUCCESS:
            status, text = self.outcomes.get(message.model_id, (status, text))
        is_good = status is Status.SUCCESS
        response = InferResponse(number, status, text, message.model_id, 1, 2_000_000, False)
        return response, payload if is_good else b""

    def _loaded(self, message: LoadModelRequest, status: Status) -> LoadModelResponse:
        number = message.user_request_id
        if status is Status.SUCCESS and "missing" in message.path:
            status = Status.INVALID_REQUEST
        if status is not Status.SUCCESS:
            return LoadModelResponse(number, status, f"{message.path} is not there", 0, None)
        first = len(self.models)
        self.models += [
            ModelInfo(ModelId(first + index), message.path, self.profile)
            for index in range(message.copies)
        ]
        return LoadModelResponse(number, status, "", message.copies, self.models[first])


class ControllerThread:
    """A controller program with a role of the test's, on a thread and loop of its own."""

    def __init__(self, role: PretendedRole, port: int = 0, workers: Sequence[Address] = ()) -> None:
        self.role = role
        self.port = port
        self._workers = tuple(workers)
        self._loop = uvloop.new_event_loop()
        self._program: ControllerProgram | None = None

    def start(self) -> None:
        """Listen."""
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        """Close everything."""
        assert self._program is not None
        asyncio.run_coroutine_threadsafe(self._program.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, function: Callable[[], object]) -> None:
        """Run `function` on the controller's thread, and wait for it."""

        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def release_held(self) -> None:
        """Send the answers that the role holds back."""
        assert self._program is not None
        clients = self._program._clients

        def send() -> None:
            for effect in self.role.release():
                assert isinstance(effect, ToClient)
                clients.send(effect)

        self.call(send)

    async def _start(self) -> None:
        config = ControllerProgramConfig(workers=self._workers, host=LOCALHOST, port=self.port)
        self._program = ControllerProgram(config, self.role)
        await self._program.start()
        self.port = self._program.port


@contextmanager
def running(role: PretendedRole, port: int = 0) -> Iterator[ControllerThread]:
    """Run a controller for as long as the context lasts."""
    controller = ControllerThread(role, port)
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()
