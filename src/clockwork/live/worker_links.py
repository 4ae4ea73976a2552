"""All of a controller's links to workers: those that it dials, and those that have joined.

Invariant: a worker's id is its link's for ever; ids of dialled workers are their places in the
controller's list, and those of joined ones follow.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from clockwork.live.addresses import Address
from clockwork.live.clock import now_ns
from clockwork.live.seats import Seat, Seats
from clockwork.live.traffic import Flusher, TrafficCounter
from clockwork.live.vocabulary import CONTROLLER_TO_WORKER, Hello, Vocabulary
from clockwork.live.wire import Connection, ConnectionHandler
from clockwork.live.worker_link import WorkerLink
from clockwork.messages.controller_io import (
    ControllerEvent,
    Dismiss,
    ToWorker,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.ids import WorkerId


class WorkerLinks:
    """Finds the link of a worker, and makes one for a worker that joins."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        seats: Sequence[Seat],
        post: Callable[[ControllerEvent], None],
        say: Callable[[str], None],
        flusher: Flusher,
        on_seat: Callable[[Seat], None],
        on_left: Callable[[WorkerId], None],
    ) -> None:
        """Prepare; `start` dials.

        Args:
            addresses: of the workers to dial, in the order of their ids.
            seats: of workers that had joined in an earlier life.
            post: takes events.
            say: takes console lines.
            flusher: of the loop that the links live on.
            on_seat: told which worker has joined, every time.
            on_left: told which joined worker has left in order and is not expected back.
        """
        self.traffic = TrafficCounter()
        self._post = post
        self._say = say
        self._on_seat = on_seat
        self._on_left = on_left
        self._make = partial(
            WorkerLink,
            post=post,
            part=self._part,
            say=say,
            flusher=flusher,
            traffic=self.traffic,
        )
        self._addresses = tuple(addresses)
        self._links = {
            WorkerId(index): self._make(WorkerId(index), str(address))
            for index, address in enumerate(self._addresses)
        }
        self._seats = Seats(len(self._addresses), seats, is_taken=self._is_up)

    def start(self) -> list["asyncio.Task[None]"]:
        """Begin to dial; return the tasks that do it until they are cancelled."""
        return [
            asyncio.ensure_future(self._links[WorkerId(index)].keep(address))
            for index, address in enumerate(self._addresses)
        ]

    def send(self, effect: ToWorker) -> None:
        """Send an action."""
        self._links[effect.worker_id].send(effect)

    def dismiss(self, effect: Dismiss) -> None:
        """Let a worker that is leaving go."""
        self._links[effect.worker_id].dismiss()

    def welcome(self, connection: Connection, hello: Hello) -> tuple[ConnectionHandler, Vocabulary]:
        """Take over a connection whose peer is a worker that joins."""
        name = hello.name or connection.peer.rpartition(":")[0]
        seat = self._seats.take(name, hello.process, now_ns())
        link = self._links.get(seat.worker_id)
        if link is None:
            link = self._links[seat.worker_id] = self._make(seat.worker_id, name)
        link.adopt(connection, f"{connection.peer} ({name})")
        self._say(f"Worker {seat.worker_id} joins: {name} at {connection.peer}")
        self._on_seat(seat)
        return link, CONTROLLER_TO_WORKER

    async def close(self, reason: str) -> None:
        """Close all connections, and wait until they are gone."""
        await asyncio.gather(*(link.close(reason) for link in self._links.values()))

    def _is_up(self, worker_id: WorkerId) -> bool:
        link = self._links.get(worker_id)
        return link is not None and link.is_up

    def _part(self, event: WorkerLeaving | WorkerLost) -> None:
        """Hand an event on, after noting who is gone."""
        if event.worker_id >= len(self._addresses):
            self._seats.leave(event.worker_id, now_ns())
            if isinstance(event, WorkerLeaving):
                self._on_left(event.worker_id)
        self._post(event)
