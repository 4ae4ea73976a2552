"""Connections: the life of one TCP connection that carries frames.

::

    GREETING --peer's Hello fits--> OPEN
    GREETING, OPEN --close(reason), bad bytes, peer gone--> CLOSED

A connection reports to its handler: `on_ready` once when OPEN is reached, `on_message` per message
while OPEN, `on_closed` exactly once. Whatever a peer sends, nothing is ever raised into the event
loop: the connection closes with one reason, and the peer is told (Refusal).

What leaves: all messages of one turn of the loop go out in one write; small pieces are joined,
large payloads are handed to the socket as they are. A peer that does not read is closed once
`outgoing_bytes_max` wait for it. What arrives: at most READ_TURN_BYTES per turn, then the other
connections get theirs.

Not here: what messages mean (`clockwork.live.vocabulary`), how they look (`clockwork.live.frames`),
who listens and who dials.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Final, Protocol, cast

from msgspec import Struct

from clockwork.errors import ProtocolError
from clockwork.live.clock import now_ns
from clockwork.live.frames import (
    MAGIC,
    PAYLOAD_BYTES_MAX,
    PREAMBLE,
    PROTOCOL_VERSION,
    FrameReader,
    encode_header,
)
from clockwork.live.traffic import Flusher, TrafficCounter
from clockwork.live.vocabulary import (
    GREETING,
    Hello,
    Message,
    PeerRefusedError,
    Refusal,
    Vocabulary,
)
from clockwork.messages.role import Payload
from clockwork.parts.clock_offset import ClockOffset
from clockwork.units import KIB, MIB, format_bytes

OUTGOING_BYTES_MAX: Final = 256 * MIB
"""What may wait for a peer that does not read; chosen: 400 ResNet inputs, 0.2 s of 10 GbE."""
READ_TURN_BYTES: Final = MIB
"""What one connection may bring before the loop turns to the others; chosen."""
JOIN_BYTES_MAX: Final = 16 * KIB
"""Payloads up to this are copied together with their neighbours: a system call's worth of time."""
HELLO_TIMEOUT_S: Final = 10.0
"""How long a peer may take to say Hello; chosen, generous for a loaded machine."""
LINGER_S: Final = 2.0
"""How long a closing connection may take to send what is queued; chosen."""

# First probe after 4 s of silence, then every 2 s, three of them. Data that nobody acknowledges may
# wait longer: a peer that is busy is not dead.
_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)
_pack: Final = PREAMBLE.pack


class State(Enum):
    """Where a connection is in its life."""

    GREETING = auto()
    OPEN = auto()
    CLOSED = auto()


class ConnectionHandler(Protocol):
    """Who a connection reports to."""

    def on_ready(self, connection: "Connection") -> None:
        """Take note that the peer said Hello: messages may be sent now."""

    def on_message(
        self, connection: "Connection", message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Take a message; `payload` is the receiver's own, `at_ns` when its last byte was read."""

    def on_closed(self, connection: "Connection", reason: str) -> None:
        """Take note that the connection is gone, for a reason that a user can read."""


class WireLimits(Struct, frozen=True):
    """What one connection allows its peer."""

    payload_bytes_max: int = PAYLOAD_BYTES_MAX
    outgoing_bytes_max: int = OUTGOING_BYTES_MAX
    hello_timeout_s: float = HELLO_TIMEOUT_S


Guest = Callable[["Connection", Hello], tuple[ConnectionHandler, Vocabulary]]
"""Takes over a connection whose peer has said Hello: returns its new handler and vocabulary."""


class Connection(asyncio.BufferedProtocol):
    """One side of a connection. Give it to `loop.create_connection` or `create_server`."""

    def __init__(
        self,
        handler: ConnectionHandler,
        vocabulary: Vocabulary,
        flusher: Flusher,
        *,
        limits: WireLimits | None = None,
        traffic: TrafficCounter | None = None,
        credentials: bytes = b"",
        name: str = "",
        process: str = "",
        guests: Mapping[str, Guest] | None = None,
    ) -> None:
        """Prepare; `credentials`, `name` and `process` are for the Hello.

        Args:
            guests: by role, what takes over connections of peers in another than the expected one.
        """
        self.state = State.GREETING
        # "host:port" of the other side; known when the connection is made.
        self.peer = "?"
        # What the peer said of itself; None until `on_ready`.
        self.hello: Hello | None = None
        # True once this side has refused the peer: bad bytes, a wrong role or version.
        self.has_refused = False
        self.traffic = traffic or TrafficCounter()
        self.clock = ClockOffset()
        self._handler = handler
        self._vocabulary = vocabulary
        self._numbers = vocabulary.numbers
        self._flusher = flusher
        self._limits = limits or WireLimits()
        self._introduction = Hello(
            PROTOCOL_VERSION, vocabulary.role, credentials=credentials, name=name, process=process
        )
        self._guests = guests or {}
        self._reader = FrameReader(
            self._on_greeting,
            GREETING,
            clock=self.clock,
            payload_bytes_max=self._limits.payload_bytes_max,
        )
        self._transport: asyncio.Transport | None = None
        self._hello_timer: asyncio.TimerHandle | None = None
        # Small pieces that wait to be joined, and what is ready for the socket before them.
        self._pieces: list[Payload] = []
        self._ready: list[Payload] = []
        # The clock in the preambles of this turn's frames: one reading serves all of them.
        self._stamp_ns = 0
        self._is_congested = False
        self._is_lost = asyncio.Event()
        # Bytes that reads brought in a row in this turn.
        self._turn_bytes = 0
        self._offered_bytes = 0

    # What the owner calls.

    def send(self, message: Message, payloads: Sequence[Payload] = ()) -> None:
        """Queue a message; it leaves at the end of this turn of the loop.

        Sending on a closed connection does nothing: its handler knows that it is closed.

        Args:
            message: of a class that the vocabulary lets this side send.
            payloads: byte buffers of format B that nobody changes any more; joined on the wire.
        """
        # Not `self.state is State.CLOSED`, which takes five times as long.
        if self._reader.is_stopped:
            return
        pieces = self._pieces
        if not pieces and not self._ready:
            self._stamp_ns = now_ns()
            self._flusher.add(self)
        header = encode_header(message)
        preamble = _pack(
            MAGIC,
            self._numbers[type(message)],
            len(header),
            sum(map(len, payloads)) if payloads else 0,
            self._stamp_ns,
            self.clock.local_minimum_ns,
        )
        pieces += (preamble, header)
        if payloads:
            self._queue_payloads(payloads)
        self.traffic.messages_sent += 1

    def flush(self) -> None:
        """Hand what is queued to the socket."""
        transport = self._transport
        # A transport that has failed is closing before it tells us so.
        if transport is None or self.state is State.CLOSED or transport.is_closing():
            return
        if self._ready:
            ready, self._ready = self._ready, []
            if self._pieces:
                ready.append(b"".join(self._pieces))
            self.traffic.bytes_sent += sum(map(len, ready))
            transport.writelines(ready)
        elif self._pieces:
            joined = b"".join(self._pieces)
            self.traffic.bytes_sent += len(joined)
            transport.write(joined)
        self._pieces.clear()
        if self._is_congested:
            self._check_outgoing(transport)

    def refuse(self, reason: str) -> None:
        """Close after telling the peer why."""
        self.has_refused = True
        self.send(Refusal(reason=reason))
        self.close(reason)

    def close(self, reason: str) -> None:
        """Close after sending what is queued; the handler learns `reason` before this returns."""
        if self.state is State.CLOSED:
            return
        self.flush()
        self._finish(reason)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                loop.call_later(LINGER_S, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Close at once; what is queued is lost."""
        if self.state is not State.CLOSED:
            self._finish(reason)
            if self._transport is not None:
                self._transport.abort()

    def disown(self, reason: str) -> None:
        """Close without touching the socket, which the loop has taken back in the meantime."""
        self._transport = None
        self.abort(reason)

    async def wait_closed(self) -> None:
        """Wait until the socket is gone, after `close` or `abort`."""
        if self._transport is not None:
            await self._is_lost.wait()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say Hello, and start to wait for the peer's."""
        # uvloop's transports have all methods of asyncio's without being derived from them.
        self._transport = cast(asyncio.Transport, transport)
        self.peer = _peer_name(self._transport)
        _notice_dead_peers(self._transport)
        self._transport.set_write_buffer_limits(high=MIB)
        self.send(self._introduction)
        self._hello_timer = asyncio.get_running_loop().call_later(
            self._limits.hello_timeout_s, self._on_silence
        )

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the loop may write what it reads."""
        space = self._reader.space()
        self._offered_bytes = len(space)
        return space

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what was read; close on bytes that are no frames of ours."""
        reader, traffic = self._reader, self.traffic
        frames_before = reader.frame_count
        traffic.bytes_received += nbytes
        try:
            reader.received(nbytes, now_ns())
        except ProtocolError as error:
            self.refuse(str(error))
            return
        except PeerRefusedError as refusal:
            self.abort(f"the other side closed the connection: {refusal}")
            return
        traffic.messages_received += reader.frame_count - frames_before
        # The loop reads this connection again at once as long as reads fill what they are offered.
        if nbytes < self._offered_bytes:
            self._turn_bytes = 0
        else:
            self._turn_bytes += nbytes
            if self._turn_bytes > READ_TURN_BYTES:
                self._yield_turn()

    def eof_received(self) -> None:
        """Close when the peer has said all it will."""
        self.abort("the other side closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """Close when the socket broke."""
        self._is_lost.set()
        self.abort(f"the connection broke: {exc}" if exc else "the connection was closed")
        self._reader.close()

    def pause_writing(self) -> None:
        """Watch from now on what waits for the peer."""
        self._is_congested = True

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._is_congested = False

    # Private.

    def _on_greeting(self, message: Message, payload: Payload, at_ns: int) -> None:
        if message.protocol_version != PROTOCOL_VERSION:
            self.refuse(
                f"the peer speaks protocol version {message.protocol_version}, this side "
                f"{PROTOCOL_VERSION}: install the same Clockwork version on both"
            )
            return
        if message.role in self._guests:
            self._handler, self._vocabulary = self._guests[message.role](self, message)
            self._numbers = self._vocabulary.numbers
        if message.role == self._vocabulary.peer_role:
            self._open(message)
        else:
            self.refuse(
                f"expected a {self._vocabulary.peer_role}, but the peer is a {message.role}: "
                "connect clients to the controller's port and the controller to workers' ports"
            )

    def _open(self, hello: Hello) -> None:
        self.hello = hello
        self.state = State.OPEN
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        # A partial, not a method: this layer costs 50 ns per message instead of 120.
        self._reader.expect(partial(self._handler.on_message, self), self._vocabulary.decoders)
        self._handler.on_ready(self)

    def _queue_payloads(self, payloads: Sequence[Payload]) -> None:
        pieces = self._pieces
        for payload in payloads:
            if len(payload) <= JOIN_BYTES_MAX:
                pieces.append(payload)
            else:
                self._ready += (b"".join(pieces), payload)
                pieces.clear()

    def _on_silence(self) -> None:
        self.refuse(f"no Hello within {self._limits.hello_timeout_s:g} s: is this the right port?")

    def _check_outgoing(self, transport: asyncio.Transport) -> None:
        waiting = transport.get_write_buffer_size()
        limit = self._limits.outgoing_bytes_max
        if waiting > limit:
            self.abort(
                f"the other side does not read: {format_bytes(waiting)} wait to be sent, "
                f"limit {format_bytes(limit)}"
            )

    def _yield_turn(self) -> None:
        """Stop reading until the next turn of the loop."""
        self._turn_bytes = 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self, reason: str) -> None:
        self.state = State.CLOSED
        self._reader.is_stopped = True
        self._pieces.clear()
        self._ready.clear()
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        self._handler.on_closed(self, reason)


def _peer_name(transport: asyncio.Transport) -> str:
    address = transport.get_extra_info("peername")
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "?"


def _notice_dead_peers(transport: asyncio.Transport) -> None:
    """Have the kernel break the connection when the peer's machine is silent for 10 s."""
    peer_socket = transport.get_extra_info("socket")
    if peer_socket is not None:
        for level, option, value in _KEEP_ALIVE:
            peer_socket.setsockopt(level, option, value)
