"""How much went over the connections of a process: counters, and one write per turn of the loop."""

import asyncio
from typing import Protocol

from clockwork.telemetry.console import Traffic


class TrafficCounter:
    """Counts messages and bytes (preambles and headers included) of one or more connections."""

    __slots__ = ("bytes_received", "bytes_sent", "messages_received", "messages_sent")

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self.messages_sent = 0
        self.messages_received = 0

    def reading(self) -> Traffic:
        """Return what was counted so far."""
        return Traffic(
            sent_bytes=self.bytes_sent,
            sent_messages=self.messages_sent,
            received_bytes=self.bytes_received,
            received_messages=self.messages_received,
        )


class Flushable(Protocol):
    """What has queued something to be written."""

    def flush(self) -> None:
        """Write it."""


class Flusher:
    """Writes out what was queued during one turn of the loop, for all connections of a process.

    It runs by itself in the next turn; a driver calls `flush` as soon as a batch's effects are
    carried out, which saves that turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Flushable] = []

    def add(self, connection: Flushable) -> None:
        """Have `connection` write what it has queued, soon."""
        if not self._dirty:
            self._loop.call_soon(self.flush)
        self._dirty.append(connection)

    def flush(self) -> None:
        """Have everything written now."""
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()
