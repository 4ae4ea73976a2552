"""Frames: every message survives the wire, in any pieces; anything else is one ProtocolError."""

from contextlib import suppress
from itertools import accumulate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clockwork.errors import ProtocolError
from clockwork.live.frames import (
    HEADER_BYTES_MAX,
    LARGE_PAYLOAD_BYTES,
    MAGIC,
    PREAMBLE,
    PREAMBLE_BYTES,
    RECEIVE_BYTES,
    FrameReader,
    encode_header,
)
from clockwork.live.vocabulary import (
    AT_CLIENT,
    AT_WORKER,
    CONTROLLER_TO_CLIENT,
    CONTROLLER_TO_WORKER,
    Message,
    PeerRefusedError,
    Vocabulary,
)
from clockwork.messages.role import Payload
from clockwork.parts.clock_offset import ClockOffset
from clockwork.units import FOREVER_NS

SIDES = (AT_CLIENT, AT_WORKER, CONTROLLER_TO_CLIENT, CONTROLLER_TO_WORKER)
CLASSES = [(side, number, kind) for side in SIDES for number, kind in side.classes.items()]
PAYLOADS = st.one_of(
    st.binary(max_size=50),
    st.integers(0, 3 * LARGE_PAYLOAD_BYTES).map(lambda size: bytes(range(256)) * (size // 256 + 1)),
)


def frame(
    number: int, header: bytes, payload: bytes = b"", *, clock_ns: int = 1_000, magic: int = MAGIC
) -> bytes:
    """Return a frame's bytes."""
    preamble = PREAMBLE.pack(magic, number, len(header), len(payload), clock_ns, FOREVER_NS)
    return preamble + header + payload


class Ear:
    """A reader, and what it heard."""

    def __init__(self, side: Vocabulary) -> None:
        self.heard: list[tuple[Message, bytes]] = []
        self.clock = ClockOffset()
        self.reader = FrameReader(
            self._hear, side.decoders, clock=self.clock, payload_bytes_max=4 * LARGE_PAYLOAD_BYTES
        )

    def feed(self, data: bytes, cuts: list[int]) -> None:
        """Give `data` in pieces of the lengths in `cuts`, then the rest as large as fits."""
        rest = memoryview(data)
        sizes = iter(cuts)
        while rest:
            space = self.reader.space()
            size = min(next(sizes, len(rest)), len(space), len(rest))
            space[:size] = rest[:size]
            self.reader.received(size, 5_000)
            rest = rest[size:]

    def _hear(self, message: Message, payload: Payload, at_ns: int) -> None:
        self.heard.append((message, bytes(payload)))


@st.composite
def frames_of_a_side(draw: st.DrawFn) -> tuple[Vocabulary, list[tuple[int, Message, bytes]]]:
    """Draw a side and frames that it accepts, as number, message and payload."""
    side = draw(st.sampled_from(SIDES))
    messages = []
    for _ in range(draw(st.integers(1, 6))):
        number = draw(st.sampled_from(sorted(side.classes)))
        message = draw(messages_of(side.classes[number]))
        messages.append((number, message, draw(PAYLOADS)))
    return side, messages


@st.composite
def messages_of(draw: st.DrawFn, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Draw an instance of a record class, by its annotations."""
    values = {
        field.name: draw(_values(field.type)) for field in msgspec.inspect.type_info(kind).fields
    }
    return kind(**values)


def _values(kind: msgspec.inspect.Type) -> st.SearchStrategy[object]:
    inspect = msgspec.inspect
    if isinstance(kind, inspect.IntType):
        return st.integers(-(2**63), 2**63 - 1)
    if isinstance(kind, inspect.FloatType):
        return st.floats(allow_nan=False)
    if isinstance(kind, inspect.StrType):
        return st.text(max_size=20)
    if isinstance(kind, inspect.BoolType):
        return st.booleans()
    if isinstance(kind, inspect.NoneType):
        return st.none()
    if isinstance(kind, inspect.EnumType):
        return st.sampled_from(list(kind.cls))
    if isinstance(kind, inspect.VarTupleType):
        return st.lists(_values(kind.item_type), max_size=4).map(tuple)
    if isinstance(kind, inspect.UnionType):
        return st.one_of(*map(_values, kind.types))
    assert isinstance(kind, inspect.StructType), kind
    return messages_of(kind.cls)


@given(frames_of_a_side(), st.lists(st.integers(1, 40_000), max_size=40))
def test_messages_survive_in_any_pieces(
    frames: tuple[Vocabulary, list[tuple[int, Message, bytes]]], cuts: list[int]
) -> None:
    """What was sent is heard, equal and in order, wherever reads cut it."""
    side, messages = frames
    ear = Ear(side)
    data = b"".join(
        frame(number, encode_header(message), payload) for number, message, payload in messages
    )
    ear.feed(data, cuts)
    assert ear.heard == [(message, payload) for _, message, payload in messages]
    assert ear.reader.frame_count == len(messages)
    assert ear.clock.local_minimum_ns == 4_000


@given(frames_of_a_side(), st.data())
def test_every_boundary_is_a_place_to_cut(
    frames: tuple[Vocabulary, list[tuple[int, Message, bytes]]], data: st.DataObject
) -> None:
    """Two pieces are as good as one, whatever their border."""
    side, messages = frames
    number, message, _ = messages[0]
    whole = 2 * frame(number, encode_header(message), b"payload")
    ear = Ear(side)
    ear.feed(whole, [data.draw(st.integers(1, len(whole)))])
    assert ear.heard == 2 * [(message, b"payload")]


@given(st.sampled_from(SIDES), st.binary(min_size=1, max_size=500))
def test_garbage_is_one_protocol_error(side: Vocabulary, data: bytes) -> None:
    """Bytes of any kind raise ProtocolError or wait for more, and deliver nothing."""
    ear = Ear(side)
    try:
        ear.feed(data, [])
    except ProtocolError:
        pass
    else:
        assert len(data) < PREAMBLE_BYTES or data[:4] == MAGIC.to_bytes(4, "little")
    assert not ear.heard


@given(frames_of_a_side(), st.data())
def test_a_changed_frame_is_heard_or_refused(
    frames: tuple[Vocabulary, list[tuple[int, Message, bytes]]], data: st.DataObject
) -> None:
    """Flipped bytes give another valid message or one of the two errors, never another one."""
    side, messages = frames
    number, message, _ = messages[0]
    changed = bytearray(frame(number, encode_header(message), b"abc"))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    ear = Ear(side)
    try:
        ear.feed(bytes(changed), [])
    except (ProtocolError, PeerRefusedError):
        assert len(ear.heard) <= 1
    else:
        assert all(type(heard) in side.classes.values() for heard, _ in ear.heard)


def mutate(data: bytes, draw: st.DataObject) -> tuple[bytes, int]:
    """Return `data` with a piece cut out, put in, doubled or overwritten, and where it begins."""
    begin = draw.draw(st.integers(0, len(data) - 1))
    end = begin + draw.draw(st.integers(1, 80))
    noise = draw.draw(st.binary(min_size=1, max_size=80))
    changes = {
        "cut": data[:begin] + data[end:],
        "end": data[:begin],
        "insert": data[:begin] + noise + data[begin:],
        "double": data[:end] + data[begin:],
        "overwrite": data[:begin] + noise + data[begin + len(noise) :],
    }
    change = draw.draw(st.sampled_from(sorted(changes)))
    return changes[change], begin


@given(frames_of_a_side(), st.lists(st.integers(1, 2_000), max_size=20), st.data())
def test_a_damaged_stream_is_heard_up_to_the_damage(
    frames: tuple[Vocabulary, list[tuple[int, Message, bytes]]],
    cuts: list[int],
    data: st.DataObject,
) -> None:
    """Frames before the damage are heard as they were; behind it are messages or the one error."""
    side, messages = frames
    sent = [frame(number, encode_header(message), rest) for number, message, rest in messages]
    damaged, begin = mutate(b"".join(sent), data)
    ear = Ear(side)
    with suppress(ProtocolError, PeerRefusedError):
        ear.feed(damaged, cuts)
    ends = list(accumulate(map(len, sent)))
    whole = sum(end <= begin for end in ends)
    assert ear.heard[:whole] == [(message, rest) for _, message, rest in messages[:whole]]
    assert all(type(heard) in side.classes.values() for heard, _ in ear.heard)


@given(st.sampled_from(CLASSES), st.binary(max_size=200))
def test_a_header_of_garbage_is_refused(
    entry: tuple[Vocabulary, int, type[msgspec.Struct]], header: bytes
) -> None:
    """A valid preamble does not help a header that is no message."""
    side, number, kind = entry
    ear = Ear(side)
    try:
        ear.feed(frame(number, header), [])
    except ProtocolError:
        assert not ear.heard
    else:
        assert type(ear.heard[0][0]) is kind


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost:12346\r\n\r\n", "no Clockwork frame"),
        (frame(2, b"", magic=MAGIC + (1 << 24)), "install the same Clockwork version"),
        (PREAMBLE.pack(MAGIC, 2, HEADER_BYTES_MAX + 1, 0, 0, 0), "is longer than 10MiB"),
        (PREAMBLE.pack(MAGIC, 2, 9, 2**40, 0, 0), "a payload of 1099511627776 bytes is longer"),
        (frame(2, b"", clock_ns=-5), "before 1970"),
        (frame(99, b""), "type 99 is not allowed here"),
        (frame(2, b"\xdd\xff\xff\xff\xff"), "cannot read a message of type 2"),
    ],
)
def test_the_error_says_what_is_wrong(data: bytes, reason: str) -> None:
    """Each kind of bad frame has its own reason."""
    with pytest.raises(ProtocolError, match=reason):
        Ear(CONTROLLER_TO_CLIENT).feed(data, [])


def test_a_header_longer_than_the_buffer_is_received() -> None:
    """The buffer grows for one frame, and goes back to its size."""
    ear = Ear(CONTROLLER_TO_CLIENT)
    long = CONTROLLER_TO_CLIENT.classes[3](1, 2, "p" * (3 * RECEIVE_BYTES), 1)
    short = CONTROLLER_TO_CLIENT.classes[5](1, 2)
    ear.feed(frame(3, encode_header(long)) + frame(5, encode_header(short)), [])
    assert [message for message, _ in ear.heard] == [long, short]
    assert len(ear.reader.space()) == RECEIVE_BYTES


def test_a_stopped_reader_delivers_nothing_more() -> None:
    """Frames behind the one that closed the connection stay unheard."""
    ear = Ear(CONTROLLER_TO_CLIENT)
    request = frame(5, encode_header(CONTROLLER_TO_CLIENT.classes[5](1, 2)))
    ear.reader.is_stopped = True
    ear.feed(request * 3, [])
    assert len(ear.heard) == 1


def test_a_refusal_is_raised_with_its_reason() -> None:
    """No handler has to look for it among the messages."""
    with pytest.raises(PeerRefusedError, match="no room"):
        Ear(AT_CLIENT).feed(frame(241, encode_header(("no room",))), [])
