"""Frames: how messages become bytes, and how bytes that arrive in any pieces become messages.

A frame is a preamble of 36 bytes (little-endian, no padding), a MessagePack header, a payload::

    u32  magic           "CWK" and the protocol version
    u32  type            meaning depends on the connection (`clockwork.live.vocabulary`)
    u32  header length   at most HEADER_BYTES_MAX
    u64  payload length  at most what the connection allows
    i64  clock           the sender's clock when the frame was queued, ns
    i64  minimum         the smallest delta that the sender has seen, FOREVER_NS if none (SPEC 2.8)

Copies: a small payload is cut out of the receive buffer (one copy); a large one gets a buffer of
its own, which is handed to the socket, so that only what came with its header is copied.

Not here: connections and their life (`clockwork.live.wire`).
"""

import struct
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import numpy as np

from clockwork.errors import ProtocolError
from clockwork.live.vocabulary import Decode, Message
from clockwork.messages.role import Payload
from clockwork.parts.clock_offset import ClockOffset
from clockwork.units import GIB, KIB, MIB, format_bytes

PROTOCOL_VERSION: Final = 1
_SIGNATURE: Final = b"CWK"
MAGIC: Final = int.from_bytes(_SIGNATURE + bytes([PROTOCOL_VERSION]), "little")
PREAMBLE: Final = struct.Struct("<IIIQqq")
PREAMBLE_BYTES: Final = PREAMBLE.size

HEADER_BYTES_MAX: Final = 10 * MIB
"""Longest header (the original's limit); an LS of 10,000 models takes about 4 MiB."""
PAYLOAD_BYTES_MAX: Final = GIB
"""Longest payload unless the connection is told otherwise; chosen."""
RECEIVE_BYTES: Final = 256 * KIB
"""The receive buffer: some thousand small frames, which is also what one peer can bring before
the others get their turn."""
LARGE_PAYLOAD_BYTES: Final = 64 * KIB
"""Payloads above this are received into a buffer of their own."""
_AFTER_LARGE_BYTES: Final = 4 * KIB
"""What is read at once after a large payload: enough for the next frame's header, and little to
copy when another large payload follows it."""

Deliver = Callable[[Message, Payload, int], None]
encode_header: Final = msgspec.msgpack.Encoder().encode
_NOTHING: Final = b""
# What decoders raise for headers that are no message of the connection. Memory: an array may claim
# to be longer than it is.
_UNREADABLE: Final = (KeyError, msgspec.DecodeError, ValueError, RecursionError, MemoryError)


class FrameReader:
    """Turns what a socket brings into messages.

    The owner asks for `space`, lets the socket fill it, and reports with `received`. Payloads that
    are delivered belong to the receiver of the call; the reader never touches them again.
    """

    __slots__ = (
        "_buffer",
        "_clock",
        "_decoders",
        "_deliver",
        "_end",
        "_large",
        "_large_end",
        "_large_message",
        "_offer_bytes",
        "_payload_bytes_max",
        "_view",
        "frame_count",
        "is_stopped",
    )

    def __init__(
        self,
        deliver: Deliver,
        decoders: Mapping[int, Decode],
        *,
        clock: ClockOffset,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._deliver = deliver
        self._decoders = decoders
        self._clock = clock
        # Frames delivered so far.
        self.frame_count = 0
        # Set by the owner to have the rest of what was read left alone.
        self.is_stopped = False
        self._payload_bytes_max = payload_bytes_max
        # Length of what the buffer holds: the beginning of one frame, at the buffer's beginning.
        self._end = 0
        self._offer_bytes = RECEIVE_BYTES
        # While a large payload is on its way: its buffer, the filled length, its message.
        self._large: memoryview | None = None
        self._large_end = 0
        self._large_message: Message = None
        self._take_buffer(RECEIVE_BYTES)

    def expect(self, deliver: Deliver, decoders: Mapping[int, Decode]) -> None:
        """Accept other types from the next frame on, and deliver them elsewhere."""
        self._deliver = deliver
        self._decoders = decoders

    def close(self) -> None:
        """Let go of the buffers and of who got the messages; nothing may be read any more.

        The two refer to each other, and the collector does not look at what is old.
        """
        self.is_stopped = True
        self._deliver, self._decoders = _ignore, {}
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._large = self._large_message = None

    def space(self) -> memoryview:
        """Return where the socket may write next; never empty."""
        if self._large is not None:
            return self._large[self._large_end :]
        return self._view[self._end : self._end + self._offer_bytes]

    def received(self, count: int, at_ns: int) -> None:
        """Take in `count` bytes that were written to `space`; deliver all complete frames.

        Raises:
            ProtocolError: the bytes are no frame of this connection; the reader is then useless.
        """
        if self._large is None:
            self._parse(self._end + count, at_ns)
            return
        self._large_end += count
        if self._large_end == len(self._large):
            payload, self._large = self._large, None
            self._offer_bytes = _AFTER_LARGE_BYTES
            self.frame_count += 1
            self._deliver(self._large_message, payload, at_ns)

    def _parse(self, end: int, at_ns: int) -> None:
        """Deliver all complete frames of the first `end` bytes, and keep the rest.

        The loop is the hot path of every process, hence no calls but those that do the work.
        """
        view, buffer, unpack = self._view, self._buffer, PREAMBLE.unpack_from
        payload_bytes_max = self._payload_bytes_max
        at = count = number = header_bytes = payload_bytes = clock_ns = minimum_ns = 0
        is_partial = False
        while end - at >= PREAMBLE_BYTES:
            magic, number, header_bytes, payload_bytes, clock_ns, minimum_ns = unpack(buffer, at)
            if (
                magic != MAGIC
                or header_bytes > HEADER_BYTES_MAX
                or payload_bytes > payload_bytes_max
                or clock_ns < 0
            ):
                raise ProtocolError(explain(buffer[at:end], payload_bytes_max))
            header_end = at + PREAMBLE_BYTES + header_bytes
            frame_end = header_end + payload_bytes
            is_partial = frame_end > end
            if is_partial:
                break
            try:
                message = self._decoders[number](view[at + PREAMBLE_BYTES : header_end])
            except _UNREADABLE as error:
                raise _unreadable(number, error) from None
            count += 1
            payload = buffer[header_end:frame_end] if payload_bytes else _NOTHING
            self._deliver(message, payload, at_ns)
            if self.is_stopped:
                return
            at = frame_end
        self.frame_count += count
        self._keep(at, end)
        if is_partial:
            self._await_rest(number, header_bytes, payload_bytes)
        if count or self._large is not None:
            self._clock.observe(at_ns - clock_ns, minimum_ns)

    def _keep(self, at: int, end: int) -> None:
        """Move the incomplete frame to the front; give an extra large buffer back when empty."""
        self._end = end - at
        if at and self._end:
            self._view[: self._end] = self._view[at:end]
        elif not self._end and len(self._buffer) > RECEIVE_BYTES:
            self._take_buffer(RECEIVE_BYTES)
        self._offer_bytes = len(self._buffer)

    def _await_rest(self, number: int, header_bytes: int, payload_bytes: int) -> None:
        """Make room for the rest of the frame at the front, whose preamble is complete."""
        header_end = PREAMBLE_BYTES + header_bytes
        if payload_bytes <= LARGE_PAYLOAD_BYTES:
            self._make_room(header_end + payload_bytes)
        elif self._end < header_end:
            self._make_room(header_end)
        else:
            try:
                self._large_message = self._decoders[number](self._view[PREAMBLE_BYTES:header_end])
            except _UNREADABLE as error:
                raise _unreadable(number, error) from None
            # Not a bytearray: that would be filled with zeros first.
            self._large = np.empty(payload_bytes, np.uint8).data
            self._large_end = self._end - header_end
            self._large[: self._large_end] = self._view[header_end : self._end]
            self._end = 0

    def _make_room(self, size_bytes: int) -> None:
        if size_bytes > len(self._buffer):
            held = self._view[: self._end]
            self._take_buffer(size_bytes)
            self._view[: self._end] = held
            self._offer_bytes = size_bytes

    def _take_buffer(self, size_bytes: int) -> None:
        self._buffer = bytearray(size_bytes)
        self._view = memoryview(self._buffer)


def _ignore(message: Message, payload: Payload, at_ns: int) -> None:
    """Receive what comes after the end."""


def explain(start: bytes | bytearray, payload_bytes_max: int) -> str:
    """Return why the preamble at the start of `start` cannot be accepted."""
    signature, version = bytes(start[:3]), start[3]
    if signature != _SIGNATURE:
        return f"the bytes {bytes(start[:8])!r} are no Clockwork frame: is this the right port?"
    if version != PROTOCOL_VERSION:
        return (
            f"the peer speaks protocol version {version}, this side speaks {PROTOCOL_VERSION}: "
            "install the same Clockwork version on both"
        )
    _, _, header_bytes, payload_bytes, clock_ns, _ = PREAMBLE.unpack_from(start)
    if header_bytes > HEADER_BYTES_MAX:
        return f"a header of {header_bytes} bytes is longer than {format_bytes(HEADER_BYTES_MAX)}"
    if payload_bytes > payload_bytes_max:
        return (
            f"a payload of {payload_bytes} bytes is longer than {format_bytes(payload_bytes_max)}"
        )
    return f"the sender's clock {clock_ns} lies before 1970"


def _unreadable(number: int, error: Exception) -> ProtocolError:
    if isinstance(error, KeyError):
        return ProtocolError(f"a message of type {number} is not allowed here")
    return ProtocolError(f"cannot read a message of type {number}: {error}")
