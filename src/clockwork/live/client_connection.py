"""A client's connection with callbacks: the layer below the Python clients, without futures.

Invariants: every callback is called exactly once, with the response or with the error that there
will be none; all of them on the loop's thread. The numbers of requests in flight are unique.
"""

import asyncio
from collections.abc import Callable, Sequence

from clockwork.errors import ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.dialling import dial
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import AT_CLIENT, Message
from clockwork.live.wire import Connection, State
from clockwork.messages.requests import Request, Response
from clockwork.messages.role import Payload

Answer = Callable[[Response | ConnectionLostError, Payload, int], None]
"""Takes a response (or why there is none), its payload, and when its last byte was read."""


class ClientConnection:
    """Handler of one connection to a controller. `open_connection` makes one."""

    def __init__(self, address: Address) -> None:
        """Prepare a connection to `address` on the running loop."""
        self.address = address
        self._flusher = Flusher(asyncio.get_running_loop())
        self._connection: Connection | None = None
        self._answers: dict[int, Answer] = {}
        self._is_settled = asyncio.Event()
        # Why the connection is gone; None while it is there.
        self._loss: str | None = None

    @property
    def is_open(self) -> bool:
        """True while requests can be sent."""
        return self._connection is not None and self._connection.state is State.OPEN

    @property
    def is_hopeless(self) -> bool:
        """True if who answers is no controller of our version: trying again does not help."""
        return self._connection is not None and self._connection.has_refused

    @property
    def pending_count(self) -> int:
        """Requests that wait for their response."""
        return len(self._answers)

    def send(self, request: Request, payloads: Sequence[Payload], answer: Answer) -> None:
        """Send a request.

        Args:
            request: its `user_request_id` is that of no other request in flight.
            payloads: pieces of the input; not to be changed before the answer.
            answer: called once; at once if the connection is lost already.
        """
        connection = self._connection
        if self._loss is not None or connection is None:
            answer(ConnectionLostError(self._loss or "the connection is not open"), b"", 0)
            return
        self._answers[request.user_request_id] = answer
        connection.send(request, payloads)

    def forget(self, user_request_id: int) -> None:
        """Ignore the response to a request: nobody waits for it any more."""
        self._answers.pop(user_request_id, None)

    async def open(self) -> None:
        """Dial, and wait for the controller's Hello.

        Raises:
            ConnectionLostError: nobody answers, or not as a controller of this version would.
        """
        self._connection = await dial(
            self.address, lambda: Connection(self, AT_CLIENT, self._flusher)
        )
        try:
            await self._is_settled.wait()
        except asyncio.CancelledError:
            self._connection.abort("this client waits no longer")
            raise
        if self._loss is not None:
            raise ConnectionLostError(self._loss)

    async def close(self) -> None:
        """Close; requests that wait get their ConnectionLostError."""
        if self._connection is not None:
            self._connection.close("this client closed the connection")
            await self._connection.wait_closed()

    def on_ready(self, connection: Connection) -> None:
        """Let requests be sent."""
        self._is_settled.set()

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Hand a response to who waits for it."""
        answer = self._answers.pop(message.user_request_id, None)
        if answer is not None:
            answer(message, payload, at_ns)

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Tell all who wait that there will be no response."""
        self._loss = f"the connection to {self.address} is lost: {reason}"
        self._is_settled.set()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            # One exception each: raising adds to its traceback.
            answer(ConnectionLostError(self._loss), b"", 0)
