"""Measures the wire alone: small frames per second, and large payloads as a share of memcpy.

One process echoes, this one asks; both on this machine. Prints one line per figure:

    python benchmarks/echo.py [--seconds 2] [--in-flight 1000] [--json FILE]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from clockwork.live.process import keep_freed_memory
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import AT_CLIENT, CONTROLLER_TO_CLIENT, Message
from clockwork.live.wire import Connection
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import InferRequest, InferResponse
from clockwork.messages.role import Payload
from clockwork.messages.status import Status

IMAGE_BYTES: Final = 602_112
"""A ResNet's input: [3, 224, 224] float32."""


class Echo:
    """Answers every request with its own payload."""

    def on_ready(self, connection: Connection) -> None:
        """Do nothing: clients speak first."""

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Send the response."""
        response = InferResponse(
            message.user_request_id, Status.SUCCESS, "", message.model_id, 1, 0, False
        )
        connection.send(response, (payload,) if payload else ())

    def on_closed(self, connection: Connection, reason: str) -> None:
        """End the process with its only client."""
        asyncio.get_running_loop().stop()


class Asker:
    """Keeps a number of requests in flight, and counts responses until the time is over."""

    def __init__(self, payload: bytes, in_flight: int, seconds: float) -> None:
        self.answered = 0
        self.latencies_ns: list[int] = []
        self.elapsed_s = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self._payload = (payload,) if payload else ()
        self._in_flight = in_flight
        self._seconds = seconds
        self._begin_ns = 0
        self._sent_ns = 0

    def on_ready(self, connection: Connection) -> None:
        """Send the first requests."""
        self._begin_ns = time.monotonic_ns()
        for _ in range(self._in_flight):
            self._ask(connection)

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Count a response, and ask again."""
        self.answered += 1
        if self._in_flight == 1:
            self.latencies_ns.append(time.monotonic_ns() - self._sent_ns)
        if self.answered % 64 == 0 or self._in_flight < 64:
            self.elapsed_s = (time.monotonic_ns() - self._begin_ns) / 1e9
            if self.elapsed_s >= self._seconds:
                connection.close("the benchmark is over")
                return
        self._ask(connection)

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Let the benchmark go on."""
        self.done.set_result(reason)

    def _ask(self, connection: Connection) -> None:
        self._sent_ns = time.monotonic_ns()
        connection.send(InferRequest(self.answered, 0, ModelId(1)), self._payload)


def serve(ports: "multiprocessing.Queue[int]") -> None:
    """Echo until the client leaves; tell the port first."""

    async def start() -> None:
        loop = asyncio.get_running_loop()
        flusher = Flusher(loop)
        server = await loop.create_server(
            lambda: Connection(Echo(), CONTROLLER_TO_CLIENT, flusher), "127.0.0.1", 0
        )
        ports.put(server.sockets[0].getsockname()[1])

    loop = uvloop.new_event_loop()
    loop.run_until_complete(start())
    loop.run_forever()


async def ask(port: int, payload: bytes, in_flight: int, seconds: float) -> Asker:
    """Return an asker that has done its work against the echo at `port`."""
    loop = asyncio.get_running_loop()
    asker = Asker(payload, in_flight, seconds)
    await loop.create_connection(
        lambda: Connection(asker, AT_CLIENT, Flusher(loop)), "127.0.0.1", port
    )
    await asker.done
    return asker


def measure(payload: bytes, in_flight: int, seconds: float) -> Asker:
    """Return what an asker in this process measured against an echo in another."""
    ports: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(ports,))
    server.start()
    asker = uvloop.run(ask(ports.get(), payload, in_flight, seconds))
    server.join()
    return asker


def memcpy_bytes_per_s(seconds: float) -> float:
    """Return how fast this machine copies image-sized buffers that no cache holds."""
    source = np.ones((256, IMAGE_BYTES), np.uint8)
    target = np.zeros_like(source)
    begin, count = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        np.copyto(target[count % 256], source[count % 256])
        count += 1
    return count * IMAGE_BYTES / (time.monotonic() - begin)


def run(seconds: float, in_flight: int) -> dict[str, Any]:
    """Return all figures of one run."""
    small = measure(b"", in_flight, seconds)
    single = measure(b"", 1, seconds / 2)
    images = measure(os.urandom(IMAGE_BYTES), 8, seconds)
    compressed = measure(os.urandom(90_000), 32, seconds)
    memcpy = memcpy_bytes_per_s(seconds / 4)
    # Every payload travels there and back.
    image_bytes_per_s = 2 * images.answered * IMAGE_BYTES / images.elapsed_s
    return {
        "echo_rps": round(small.answered / small.elapsed_s),
        "round_trip_p50_us": round(float(np.percentile(single.latencies_ns, 50)) / 1000, 1),
        "round_trip_p99_us": round(float(np.percentile(single.latencies_ns, 99)) / 1000, 1),
        "images_per_s": round(images.answered / images.elapsed_s),
        "image_mb_per_s": round(image_bytes_per_s / 1e6),
        "compressed_per_s": round(compressed.answered / compressed.elapsed_s),
        "memcpy_mb_per_s": round(memcpy / 1e6),
        "share_of_memcpy": round(image_bytes_per_s / memcpy, 3),
    }


def main(report: Callable[[str], None] = print) -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    parser.add_argument("--in-flight", type=int, default=1000, help="small frames in flight")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    keep_freed_memory()
    figures = run(options.seconds, options.in_flight)
    for name, value in figures.items():
        report(f"{name:>20} = {value:,}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
