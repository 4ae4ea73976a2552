"""The controller's link to one worker: one connection at a time, whoever dialled.

A worker of the controller's own list is dialled, and dialled again whenever the connection breaks
(`keep`). One that joins dials itself; its connection is taken over (`adopt`).
"""

import asyncio
from collections.abc import Callable

from clockwork.errors import ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.dialling import Backoff, dial
from clockwork.live.traffic import Flusher, TrafficCounter
from clockwork.live.vocabulary import CONTROLLER_TO_WORKER, Leaving, Message
from clockwork.live.wire import Connection, State
from clockwork.messages.controller_io import (
    ControllerEvent,
    FromWorker,
    ToWorker,
    WorkerConnected,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.ids import WorkerId
from clockwork.messages.role import Payload


class WorkerLink:
    """Handler of the connections to one worker, of which there is one at a time."""

    def __init__(
        self,
        worker_id: WorkerId,
        name: str,
        *,
        post: Callable[[ControllerEvent], None],
        part: Callable[[WorkerLeaving | WorkerLost], None],
        say: Callable[[str], None],
        flusher: Flusher,
        traffic: TrafficCounter,
    ) -> None:
        """Prepare; `keep` dials, or `adopt` takes over a connection.

        Args:
            worker_id: what events call this worker.
            name: what people call it: its address, or its own name.
            post: takes the events WorkerConnected and FromWorker.
            part: takes the events WorkerLeaving and WorkerLost.
            say: takes console lines.
            flusher: of the loop that the link lives on.
            traffic: counts what goes over all links.
        """
        self._name = name
        self._worker_id = worker_id
        self._post = post
        self._part = part
        self._say = say
        self._flusher = flusher
        self._traffic = traffic
        # The connection that is there or being greeted; None while there is none.
        self._connection: Connection | None = None
        self._is_gone = asyncio.Event()
        self._backoff = Backoff()
        # The last failure that was printed: an outage is told once, not per attempt.
        self._told = ""

    @property
    def is_up(self) -> bool:
        """True while there is a connection, greeted or not."""
        return self._connection is not None

    async def keep(self, address: Address) -> None:
        """Keep the link to a worker that listens at `address` up until cancelled."""
        self._say(f"Connecting to worker {address}")
        while True:
            self._is_gone.clear()
            try:
                await dial(address, self._make_connection)
            except ConnectionLostError as error:
                self._tell(f"Worker {self._worker_id}: {error}; trying until it answers")
            else:
                await self._is_gone.wait()
            await asyncio.sleep(self._backoff.next_s())

    def adopt(self, connection: Connection, name: str) -> None:
        """Use a connection that the worker has made, in the place of any other."""
        if self._connection is not None:
            self._connection.abort("the worker has connected anew")
        self._name = name
        self._connection = connection
        connection.traffic = self._traffic

    def dismiss(self) -> None:
        """Let a worker that is leaving go."""
        if self._connection is not None:
            self._connection.close("it was leaving, and has finished")

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
        if type(message) is Leaving:
            self._part(WorkerLeaving(self._worker_id, message.reason))
            return
        self._post(FromWorker(self._worker_id, message, payload, at_ns))

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Tell the role that its worker is gone, and have it dialled again."""
        self._connection = None
        self._is_gone.set()
        if connection.hello is not None:
            self._part(WorkerLost(self._worker_id, reason))
        self._tell(f"Closing connection {self._name}, reason: {reason}")

    def _make_connection(self) -> Connection:
        self._connection = Connection(
            self, CONTROLLER_TO_WORKER, self._flusher, traffic=self._traffic
        )
        return self._connection

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(text)
