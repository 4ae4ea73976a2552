"""An open-loop HTTP client for the control of the goodput benchmark.

Poisson arrivals, Zipf popularity; latency counts from the scheduled arrival. Connections are kept
and used again; a new one is made when none is free. Writes one line of JSON: seconds of sending
and latencies in ms, null for requests without a good answer.

    python benchmarks/http_load.py PORT RATE SECONDS WARM_UP_S MODELS INPUT_BYTES SEED OUT.json
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections import deque
from itertools import accumulate
from pathlib import Path
from typing import Final

import uvloop

DRAIN_S: Final = 3.0
"""How long answers are awaited after the last request: far beyond every SLO."""
CONNECTIONS_MAX: Final = 4_000


class HttpConnection(asyncio.Protocol):
    """One kept connection with at most one request on it."""

    def __init__(self, load: "HttpLoad") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        # The scheduled arrival of the request under way, if any.
        self._arrival_s: float | None = None
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = transport  # type: ignore[assignment]

    @property
    def is_usable(self) -> bool:
        """True as long as nobody has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, arrival_s: float, pieces: list[bytes]) -> None:
        """Send a request."""
        assert self._transport is not None, "not connected"
        self._arrival_s = arrival_s
        self._head, self._missing = b"", -1
        self._transport.writelines(pieces)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self._missing < 0:
            self._head += data
            head, blank, body = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            lengths = [part for part in head.lower().split(b"\r\n") if b"content-length" in part]
            self._missing = int(lengths[0].split(b":")[1]) - len(body)
            self._head = head
        else:
            self._missing -= len(data)
        if self._missing <= 0 and self._arrival_s is not None:
            self._load.answered(self, self._arrival_s, is_good=b" 200 " in self._head[:16])
            self._arrival_s = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave: the server closes what was idle for some seconds."""
        self._load.lost(self)


class HttpLoad:
    """Offers the load and notes latencies."""

    def __init__(self, port: int, *, models: int, input_bytes: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._cumulative = list(accumulate(1 / rank for rank in range(1, models + 1)))
        self._heads = [
            f"POST /models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {input_bytes}\r\n\r\n".encode()
            for model in range(models)
        ]
        self._body = random.Random(1).randbytes(input_bytes // 4 * 4)
        self._idle: deque[HttpConnection] = deque()
        self._made = 0
        # Arrival and answer, in seconds; the answer is None until there is a good one.
        self.answers: dict[float, float | None] = {}

    async def run(self, rate: float, seconds: float) -> None:
        """Send at a rate for so long, then wait for the answers."""
        arrival_s = time.monotonic()
        end_s = arrival_s + seconds
        while True:
            arrival_s += self._random.expovariate(rate)
            if arrival_s > end_s:
                break
            delay_s = arrival_s - time.monotonic()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            self.answers[arrival_s] = None
            await self._send(arrival_s)
        await asyncio.sleep(DRAIN_S)

    def answered(self, connection: HttpConnection, arrival_s: float, *, is_good: bool) -> None:
        """Note an answer; the connection is free again."""
        self._idle.append(connection)
        if is_good:
            self.answers[arrival_s] = time.monotonic()

    def lost(self, connection: HttpConnection) -> None:
        """Use a connection no more; what was asked on it stays without an answer."""
        self._made -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    async def _send(self, arrival_s: float) -> None:
        model = self._random.choices(range(len(self._heads)), cum_weights=self._cumulative)[0]
        while self._idle and not self._idle[-1].is_usable:
            self._idle.pop()
        if not self._idle:
            if self._made >= CONNECTIONS_MAX:
                return
            self._made += 1
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(
                lambda: HttpConnection(self), "127.0.0.1", self._port
            )
            self._idle.append(made)
        self._idle.pop().ask(arrival_s, [self._heads[model], self._body])


def main() -> None:
    """Run and write what was seen after the warm-up."""
    port, rate, seconds, warm_up_s, models, input_bytes, seed, out = sys.argv[1:]
    gc.disable()

    async def play() -> HttpLoad:
        load = HttpLoad(int(port), models=int(models), input_bytes=int(input_bytes), seed=int(seed))
        await load.run(float(rate), float(warm_up_s) + float(seconds))
        return load

    load = uvloop.run(play())
    first_s = min(load.answers) + float(warm_up_s)
    latencies = [
        None if answer_s is None else round(1e3 * (answer_s - arrival_s), 3)
        for arrival_s, answer_s in load.answers.items()
        if arrival_s >= first_s
    ]
    text = json.dumps({"seconds": float(seconds), "latencies_ms": latencies})
    Path(out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
