"""The controller's link to one worker: dials, and dials again whenever it breaks."""

import asyncio
from collections.abc import Callable

from clockwork.errors import ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.dialling import Backoff, dial
from clockwork.live.traffic import Flusher, TrafficCounter
from clockwork.live.vocabulary import CONTROLLER_TO_WORKER, Message
from clockwork.live.wire import Connection, State
from clockwork.messages.controller_io import (
    ControllerEvent,
    FromWorker,
    ToWorker,
    WorkerConnected,
    WorkerLost,
)
from clockwork.messages.ids import WorkerId
from clockwork.messages.role import Payload


class WorkerLink:
    """Handler of the connections to one worker, of which there is one at a time."""

    def __init__(
        self,
        worker_id: WorkerId,
        address: Address,
        *,
        post: Callable[[ControllerEvent], None],
        say: Callable[[str], None],
        flusher: Flusher,
        traffic: TrafficCounter,
    ) -> None:
        """Prepare; `keep` dials.

        Args:
            worker_id: what events call this worker.
            address: where it listens.
            post: takes the events WorkerConnected, FromWorker and WorkerLost.
            say: takes console lines.
            flusher: of the loop that the link lives on.
            traffic: counts what goes over all links.
        """
        self.address = address
        self._worker_id = worker_id
        self._post = post
        self._say = say
        self._flusher = flusher
        self._traffic = traffic
        # The connection that is there or being greeted; None while there is none.
        self._connection: Connection | None = None
        self._is_gone = asyncio.Event()
        self._backoff = Backoff()
        # The last failure that was printed: an outage is told once, not per attempt.
        self._told = ""

    async def keep(self) -> None:
        """Keep the link up until cancelled."""
        self._say(f"Connecting to worker {self.address}")
        while True:
            self._is_gone.clear()
            try:
                await dial(self.address, self._make_connection)
            except ConnectionLostError as error:
                self._tell(f"Worker {self._worker_id}: {error}; trying until it answers")
            else:
                await self._is_gone.wait()
            await asyncio.sleep(self._backoff.next_s())

    def send(self, effect: ToWorker) -> None:
        """Send an action; without a connection it is dropped: the role has been told."""
        connection = self._connection
        if connection is not None and connection.state is State.OPEN:
            connection.send(effect.message, effect.payloads)

    async def close(self, reason: str) -> None:
        """Close the connection, and wait until it is gone. `keep` has been cancelled before."""
        connection = self._connection
        if connection is not None:
            connection.close(reason)
            await connection.wait_closed()

    def on_ready(self, connection: Connection) -> None:
        """Tell the role that its worker is there."""
        self._say("Connection established")
        self._told = ""
        self._backoff.reset()
        self._post(WorkerConnected(self._worker_id))

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Hand a result to the role."""
        self._post(FromWorker(self._worker_id, message, payload, at_ns))

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Tell the role that its worker is gone, and have it dialled again."""
        self._connection = None
        self._is_gone.set()
        if connection.hello is not None:
            self._post(WorkerLost(self._worker_id, reason))
        self._tell(f"Closing connection {self.address}, reason: {reason}")

    def _make_connection(self) -> Connection:
        self._connection = Connection(
            self, CONTROLLER_TO_WORKER, self._flusher, traffic=self._traffic
        )
        return self._connection

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(text)
