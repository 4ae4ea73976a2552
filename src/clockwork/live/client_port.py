"""The port on which the controller listens: for clients, and for workers that join."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from clockwork.live.dialling import listen, port_of
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import CONTROLLER_TO_CLIENT, Hello, Message, Vocabulary
from clockwork.live.wire import Connection, ConnectionHandler, Guest, WireLimits
from clockwork.messages.controller_io import ClientLost, ControllerEvent, FromClient, ToClient
from clockwork.messages.ids import ClientId
from clockwork.messages.role import Payload

CLOSE_S: Final = 3.0
"""How long closing waits for clients that do not read; chosen, above a connection's linger."""


class ClientPort:
    """Accepts clients, numbers them, and carries requests in and responses out."""

    def __init__(
        self,
        *,
        post: Callable[[ControllerEvent], None],
        say: Callable[[str], None],
        flusher: Flusher,
        limits: WireLimits,
        welcome_worker: Guest | None = None,
    ) -> None:
        """Prepare; `open` listens.

        Args:
            post: takes the events FromClient and ClientLost.
            say: takes console lines.
            flusher: of the loop that the port lives on.
            limits: what a client may do.
            welcome_worker: takes over connections of workers that join; None refuses them.
        """
        self._post = post
        self._say = say
        self._flusher = flusher
        self._limits = limits
        self._welcome_worker = welcome_worker
        self._server: asyncio.Server | None = None
        # All connections that are not closed, greeted or not; ids are never used again.
        self._connections: dict[ClientId, Connection] = {}
        self._next_id = 0

    @property
    def port(self) -> int:
        """The port that is listened on, after `open`."""
        assert self._server is not None, "not open"
        return port_of(self._server)

    async def open(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigurationError: the port is taken, or the host is not ours.
        """
        self._server = await listen(host, port, self._accept)
        self._say(f"IO service thread listening for clients on {host}:{self.port}")

    def send(self, effect: ToClient) -> None:
        """Send a response; a client that has gone does not get it."""
        connection = self._connections.get(effect.client_id)
        if connection is not None:
            connection.send(effect.message, (effect.payload,) if effect.payload else ())

    async def close(self, reason: str) -> None:
        """Listen no more; close all connections after what is queued for them."""
        if self._server is not None:
            self._server.close()
        connections = list(self._connections.values())
        for connection in connections:
            connection.refuse(reason)
        waits = [asyncio.ensure_future(connection.wait_closed()) for connection in connections]
        if waits:
            await asyncio.wait(waits, timeout=CLOSE_S)

    def _accept(self) -> Connection:
        client_id = ClientId(self._next_id)
        self._next_id += 1
        link = _ClientLink(client_id, self._post, partial(self._on_gone, client_id))
        guests = {"worker": partial(self._hand_over, client_id)} if self._welcome_worker else {}
        connection = Connection(
            link, CONTROLLER_TO_CLIENT, self._flusher, limits=self._limits, guests=guests
        )
        self._connections[client_id] = connection
        return connection

    def _hand_over(
        self, client_id: ClientId, connection: Connection, hello: Hello
    ) -> tuple[ConnectionHandler, Vocabulary]:
        """Have a connection looked after by those who know workers."""
        del self._connections[client_id]
        assert self._welcome_worker is not None, "workers are not welcome here"
        return self._welcome_worker(connection, hello)

    def _on_gone(self, client_id: ClientId, reason: str) -> None:
        connection = self._connections.pop(client_id)
        if connection.hello is not None:
            self._post(ClientLost(client_id))
        self._say(f"Closing connection {connection.peer}, reason: {reason}")


class _ClientLink:
    """Handler of one client's connection: one object per client spares a look-up per request."""

    __slots__ = ("_client_id", "_on_gone", "_post")

    def __init__(
        self,
        client_id: ClientId,
        post: Callable[[ControllerEvent], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self._client_id = client_id
        self._post = post
        self._on_gone = on_gone

    def on_ready(self, connection: Connection) -> None:
        """Nothing to do: clients speak first."""

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        self._post(FromClient(self._client_id, message, payload, at_ns))

    def on_closed(self, connection: Connection, reason: str) -> None:
        self._on_gone(reason)
