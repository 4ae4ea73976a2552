"""Connections over real sockets: greetings, order, limits, and whatever a peer can do wrong."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from wire_stage import LOCALHOST, Port, Recorder, dial

from clockwork.live.clock import now_ns
from clockwork.live.frames import MAGIC, PREAMBLE, PROTOCOL_VERSION, encode_header
from clockwork.live.vocabulary import (
    AT_CLIENT,
    AT_WORKER,
    CONTROLLER_TO_WORKER,
    HELLO_NUMBER,
    Hello,
)
from clockwork.live.wire import Connection, State, WireLimits
from clockwork.messages.actions import GetWorkerState, Infer
from clockwork.messages.ids import ActionId, GpuId, ModelId
from clockwork.messages.requests import InferRequest, InferResponse, LsRequest
from clockwork.messages.status import Status
from clockwork.units import FOREVER_NS, KIB, MIB

Runner = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Runner:
    """What runs a test's coroutine: the wire has to work on both loops."""
    runner: Runner = request.param
    return runner


def request(number: int = 0) -> InferRequest:
    """Return an infer request."""
    return InferRequest(user_request_id=number, user_id=0, model_id=ModelId(1))


def response(number: int = 0) -> InferResponse:
    """Return its response."""
    return InferResponse(number, Status.SUCCESS, "", ModelId(1), 1, 0, False)


async def pair(port: Port) -> tuple[Connection, Recorder, Connection, Recorder]:
    """Return both ends of a greeted connection, the dialling one first."""
    ours, our_recorder = await dial(port.port)
    theirs, their_recorder = await port.accepted()
    await our_recorder.ready.wait()
    await their_recorder.ready.wait()
    return ours, our_recorder, theirs, their_recorder


def frame_of(number: int, message: object, *, magic: int = MAGIC) -> bytes:
    """Return the bytes of a frame without payload."""
    header = encode_header(message)
    return PREAMBLE.pack(magic, number, len(header), 0, 0, FOREVER_NS) + header


async def raw_reply(port: Port, data: bytes) -> bytes:
    """Send raw bytes to `port`, and return all that comes back until it closes."""
    reader, writer = await asyncio.open_connection(LOCALHOST, port.port)
    writer.write(data)
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply


def test_messages_arrive_whole_and_in_order(run: Runner) -> None:
    """Small and large payloads, in one and in several pieces, arrive as they were sent."""

    async def scenario() -> None:
        async with Port() as port:
            ours, _, theirs, heard = await pair(port)
            large = bytes(range(256)) * 4 * KIB
            ours.send(request(0))
            ours.send(request(1), (b"abc", b"", b"def"))
            ours.send(request(2), (b"head", large, b"tail"))
            ours.send(request(3), (memoryview(large)[: 100 * KIB],))
            ours.send(request(4), (b"end",))
            messages = await heard.wait_for(5)
            assert [message for message, _ in messages] == [request(number) for number in range(5)]
            assert [payload for _, payload in messages] == [
                b"",
                b"abcdef",
                b"head" + large + b"tail",
                large[: 100 * KIB],
                b"end",
            ]
            assert heard.instants_ns == sorted(heard.instants_ns)
            assert heard.instants_ns[-1] <= now_ns()
            assert theirs.traffic.messages_received == 6
            assert theirs.traffic.bytes_received == ours.traffic.bytes_sent
            ours.abort("done")

    run(scenario())


def test_both_sides_learn_the_offset_of_their_clocks(run: Runner) -> None:
    """After a few messages each way the round trip is known, and the offset is nearly nothing."""

    async def scenario() -> None:
        async with Port() as port:
            ours, heard_here, theirs, heard_there = await pair(port)
            for number in range(1, 6):
                ours.send(request(number))
                await heard_there.wait_for(number)
                theirs.send(response(number))
                await heard_here.wait_for(number)
            assert ours.clock.round_trip_ns > 0
            assert abs(ours.clock.offset_ns) <= ours.clock.round_trip_ns
            ours.abort("done")

    run(scenario())


def test_a_closed_connection_sends_what_was_queued(run: Runner) -> None:
    """Closing is orderly: the peer hears everything, then the reason of the end."""

    async def scenario() -> None:
        async with Port() as port:
            ours, closed_here, _, there = await pair(port)
            ours.send(request(1), (bytes(MIB),))
            ours.close("that was all")
            assert closed_here.closed.result() == "that was all"
            assert await there.closed == "the other side closed the connection"
            assert len(there.messages) == 1
            ours.send(request(2))
            ours.close("again")
            await ours.wait_closed()
            assert closed_here.close_count == there.close_count == 1

    run(scenario())


def test_a_refused_peer_is_told_why(run: Runner) -> None:
    """The reason of a refusal travels to the other side."""

    async def scenario() -> None:
        async with Port() as port:
            ours, here, theirs, _ = await pair(port)
            theirs.refuse("the house is full")
            assert await here.closed == "the other side closed the connection: the house is full"
            assert ours.state is State.CLOSED

    run(scenario())


def test_a_peer_of_the_wrong_kind_is_refused(run: Runner) -> None:
    """A controller that dials the port for clients hears what the port is for."""

    async def scenario() -> None:
        async with Port() as port:
            _, here = await dial(port.port, CONTROLLER_TO_WORKER)
            _, there = await port.accepted()
            assert "expected a client, but the peer is a controller" in await there.closed
            assert not there.ready.is_set()
            reason = await here.closed
            assert "expected a" in reason

    run(scenario())


@pytest.mark.parametrize(
    "hello",
    [
        frame_of(HELLO_NUMBER, Hello(PROTOCOL_VERSION + 1, "client")),
        frame_of(HELLO_NUMBER, Hello(PROTOCOL_VERSION, "client"), magic=MAGIC + (1 << 24)),
    ],
)
def test_a_peer_of_another_version_is_refused(run: Runner, hello: bytes) -> None:
    """Both sides are named with their versions, in the log here and on the wire."""

    async def scenario() -> None:
        async with Port() as port:
            reply = await raw_reply(port, hello)
            _, there = await port.accepted()
            text = "install the same Clockwork version on both"
            assert text in await there.closed
            assert text.encode() in reply

    run(scenario())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n", "no Clockwork frame"),
        (bytes(500), "no Clockwork frame"),
        (frame_of(HELLO_NUMBER, [1, 2, 3]), "cannot read a message of type 240"),
        (frame_of(2, request()), "type 2 is not allowed here"),
        (PREAMBLE.pack(MAGIC, HELLO_NUMBER, 2**31, 0, 0, 0), "longer than"),
        (PREAMBLE.pack(MAGIC, HELLO_NUMBER, 0, 2**62, 0, 0), "longer than"),
    ],
)
def test_bad_bytes_close_one_connection_with_one_reason(
    run: Runner, data: bytes, reason: str
) -> None:
    """Garbage ends its own connection only; the others go on."""

    async def scenario() -> None:
        async with Port() as port:
            ours, here, theirs, _ = await pair(port)
            await raw_reply(port, data)
            _, there = await port.accepted()
            assert reason in await there.closed
            assert there.close_count == 1
            theirs.send(response(1))
            await here.wait_for(1)
            ours.abort("done")

    run(scenario())


def test_a_message_for_the_other_side_is_refused(run: Runner) -> None:
    """After the greeting, too, only the messages of the vocabulary may come."""

    async def scenario() -> None:
        async with Port() as port:
            data = frame_of(HELLO_NUMBER, Hello(PROTOCOL_VERSION, "client"))
            await raw_reply(port, data + frame_of(5, LsRequest(1, 0)) + frame_of(105, response()))
            _, there = await port.accepted()
            assert await there.closed == "a message of type 105 is not allowed here"
            assert len(there.messages) == 1

    run(scenario())


def test_messages_right_behind_the_hello_are_heard(run: Runner) -> None:
    """A peer need not wait for our Hello before it speaks."""

    async def scenario() -> None:
        async with Port() as port:
            _, writer = await asyncio.open_connection(LOCALHOST, port.port)
            hello = frame_of(HELLO_NUMBER, Hello(PROTOCOL_VERSION, "client"))
            writer.write(hello + frame_of(5, LsRequest(1, 0)))
            _, there = await port.accepted()
            assert await there.wait_for(1) == [(LsRequest(1, 0), b"")]
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_a_payload_above_the_limit_is_refused(run: Runner) -> None:
    """The limit is per connection, and the reason names it."""

    async def scenario() -> None:
        async with Port(limits=WireLimits(payload_bytes_max=KIB)) as port:
            ours, here, _, there = await pair(port)
            ours.send(request(), (bytes(KIB + 1),))
            assert await there.closed == "a payload of 1025 bytes is longer than 1KiB"
            assert "longer than 1KiB" in await here.closed

    run(scenario())


def test_a_silent_peer_is_closed(run: Runner) -> None:
    """Who says no Hello in time does not hold a connection for ever."""

    async def scenario() -> None:
        async with Port(limits=WireLimits(hello_timeout_s=0.01)) as port:
            await raw_reply(port, b"")
            _, there = await port.accepted()
            assert "no Hello within 0.01 s" in await there.closed

    run(scenario())


def test_a_peer_that_does_not_read_is_closed(run: Runner) -> None:
    """What waits for a slow reader is bounded; the rest of the process does not notice."""

    async def scenario() -> None:
        async with Port(limits=WireLimits(outgoing_bytes_max=4 * MIB)) as port:
            _, writer = await asyncio.open_connection(LOCALHOST, port.port)
            writer.transport.pause_reading()
            writer.write(frame_of(HELLO_NUMBER, Hello(PROTOCOL_VERSION, "client")))
            theirs, there = await port.accepted()
            await there.ready.wait()
            ours, here, others, _ = await pair(port)
            payload = bytes(MIB)
            while not there.closed.done():
                theirs.send(response(), (payload,))
                await asyncio.sleep(0)
            assert "does not read" in there.closed.result()
            assert "limit 4MiB" in there.closed.result()
            others.send(response(7))
            await here.wait_for(1)
            ours.abort("done")
            writer.transport.abort()

    run(scenario())


def test_a_slow_reader_within_the_limit_gets_everything(run: Runner) -> None:
    """A peer that pauses is waited for."""

    async def scenario() -> None:
        async with Port() as port:
            ours, here, theirs, _ = await pair(port)
            assert ours._transport is not None
            ours._transport.pause_reading()
            for number in range(20):
                theirs.send(response(number), (bytes(MIB),))
            theirs.flush()
            ours._transport.resume_reading()
            messages = await here.wait_for(20)
            assert [message.user_request_id for message, _ in messages] == list(range(20))
            assert {len(payload) for _, payload in messages} == {MIB}
            ours.abort("done")

    run(scenario())


def test_a_flood_of_one_client_does_not_keep_others_waiting(run: Runner) -> None:
    """Reading is bounded per turn: another client's request comes through in between."""

    async def scenario() -> None:
        async with Port() as port:
            flooder, _, _, flooded = await pair(port)
            polite, _, _, asked = await pair(port)
            for number in range(64):
                flooder.send(request(number), (bytes(MIB),))
            flooder.flush()
            polite.send(request(1))
            await asked.wait_for(1)
            assert len(flooded.messages) < 64
            await flooded.wait_for(64)
            flooder.abort("done")
            polite.abort("done")

    run(scenario())


def test_a_broken_socket_is_reported_once(run: Runner) -> None:
    """A reset in the middle of a frame closes the connection like anything else."""

    async def scenario() -> None:
        async with Port() as port:
            sock = socket.create_connection((LOCALHOST, port.port))
            hello = frame_of(HELLO_NUMBER, Hello(PROTOCOL_VERSION, "client"))
            sock.sendall(hello + hello[:20])
            _, there = await port.accepted()
            await there.ready.wait()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            assert "connection" in await there.closed
            assert there.close_count == 1

    run(scenario())


def test_actions_and_results_travel_between_controller_and_worker(run: Runner) -> None:
    """The same numbers mean other messages on a worker's connection."""

    async def scenario() -> None:
        async with Port(AT_WORKER) as port:
            controller, _ = await dial(port.port, CONTROLLER_TO_WORKER)
            _, worker = await port.accepted()
            action = Infer(ActionId(1), ModelId(2), GpuId(0), 3, 4, 5, 1, (3,))
            controller.send(action, (b"abc",))
            controller.send(GetWorkerState(ActionId(2)))
            assert await worker.wait_for(2) == [
                (action, b"abc"),
                (GetWorkerState(ActionId(2)), b""),
            ]
            controller.abort("done")

    run(scenario())


def test_a_client_cannot_say_what_only_controllers_say(run: Runner) -> None:
    """A message outside of the vocabulary is a bug of the sender, found before it is sent."""

    async def scenario() -> None:
        async with Port() as port:
            ours, _, _, _ = await pair(port)
            with pytest.raises(KeyError):
                ours.send(response())
            assert AT_CLIENT.numbers[InferRequest] == 2
            ours.abort("done")

    run(scenario())
