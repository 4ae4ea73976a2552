"""A worker's side of joining: it dials the controller, and again whenever the connection breaks."""

import asyncio
import os
import socket
from collections.abc import Callable

from clockwork.errors import ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.dialling import Backoff, dial
from clockwork.live.wire import Connection


def default_name() -> str:
    """Return what a worker is called that was given no name: its machine's."""
    return socket.gethostname()


def process_name() -> str:
    """Return a text that no other start of a worker has."""
    return os.urandom(8).hex()


class Joining:
    """Keeps a connection to one controller."""

    def __init__(
        self,
        address: Address,
        *,
        make_connection: Callable[[], Connection],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; `keep` dials.

        Args:
            address: where the controller listens.
            make_connection: makes a connection for each attempt; one at a time is in use.
            say: takes console lines.
        """
        self._address = address
        self._make_connection = make_connection
        self._say = say
        # The last failure that was printed: an outage is told once, not per attempt.
        self._told = ""

    async def keep(self) -> None:
        """Keep the connection up until cancelled."""
        backoff = Backoff()
        self._say(f"Joining the controller at {self._address}")
        while True:
            try:
                connection = await dial(self._address, self._make_connection)
            except ConnectionLostError as error:
                self._tell(f"{error}; trying until it answers")
            else:
                await connection.wait_closed()
                # More than a Hello: it has given us work, and did not send us away.
                if connection.traffic.messages_received > 1:
                    backoff.reset()
                    self._told = ""
            await asyncio.sleep(backoff.next_s())

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._say(text)
