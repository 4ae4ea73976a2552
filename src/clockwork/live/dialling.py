"""Opens connections: dials an address until it answers, or listens on a port."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from clockwork.errors import ConfigurationError, ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.wire import Connection

FIRST_PAUSE_S: Final = 0.05
"""Wait after the first failed attempt to dial; chosen: a local process starts in a few of these."""
LONGEST_PAUSE_S: Final = 0.5
"""Longest wait between two attempts; chosen: a restarted controller serves two seconds after its
start, and needs its workers before. (With 2 s it was found up to 0.8 s late.)"""


class Backoff:
    """Waits that double from attempt to attempt."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def reset(self) -> None:
        """Begin with the shortest wait again: the last attempt succeeded."""
        self._pause_s = FIRST_PAUSE_S

    def next_s(self) -> float:
        """Return how long to wait now."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return pause_s


async def dial(address: Address, make_connection: Callable[[], Connection]) -> Connection:
    """Return a connection to `address` on which our Hello is on its way.

    Raises:
        ConnectionLostError: nobody listens there, or the host is unknown.
    """
    loop = asyncio.get_running_loop()
    made: list[Connection] = []

    def make() -> Connection:
        made.append(make_connection())
        return made[-1]

    try:
        _, connection = await loop.create_connection(make, address.host, address.port)
    except OSError as error:
        raise ConnectionLostError(f"cannot reach {address}: {_reason(error)}") from None
    except asyncio.CancelledError:
        # The loop closes a socket that was just made, and tells nobody.
        for connection in made:
            connection.disown("dialling was given up")
        raise
    return connection


async def listen(host: str, port: int, make_connection: Callable[[], Connection]) -> asyncio.Server:
    """Return a server that makes a connection for everybody who dials `host`:`port`.

    Raises:
        ConfigurationError: the port is taken or not allowed, or the host is not ours.
    """
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(make_connection, host, port, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = (
                f"port {port} on {host} is in use: stop the process that listens there "
                f"(ss -ltnp 'sport = :{port}' names it), or choose another port with --port"
            )
        else:
            text = f"cannot listen on {host}:{port}: {_reason(error)}"
        raise ConfigurationError(text) from None


def port_of(server: asyncio.Server) -> int:
    """Return the port on which `server` listens: the one that it was given unless that was 0."""
    port: int = server.sockets[0].getsockname()[1]
    return port


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens there; start it, or check host and port"
    return os.strerror(error.errno) if error.errno else str(error)
