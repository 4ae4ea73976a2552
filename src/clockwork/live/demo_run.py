"""Sends the demonstration's requests to a running controller and collects what becomes of them."""

import asyncio
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from clockwork.errors import ClockworkError
from clockwork.live.async_client import AsyncClient, AsyncModel
from clockwork.live.demo_figures import EvictionCounter, Outcome, percentiles, share
from clockwork.live.demo_models import DEMO_MODELS, DemoInputs
from clockwork.live.demo_plan import Arrival, Stream
from clockwork.live.process import calm_garbage_collector
from clockwork.live.tensors import Inference
from clockwork.models.zoo.catalogue import DIGITS
from clockwork.units import MS

WARM_UP_RUNS: Final = 3
"""Requests per copy before the measured part: a cold one, then warm ones that are timed."""
WARM_UP_SLO_MS: Final = 60_000.0
ANSWER_TIMEOUT_S: Final = 30.0
"""How long the last answers are waited for; they come by their deadlines."""
SCORES: Final = "scores"
"""The output of the digits."""

Say = Callable[[str], None]


class DemoRun:
    """One connection, all requests of the demonstration, all outcomes."""

    def __init__(self, client: AsyncClient, inputs: DemoInputs, evictions: EvictionCounter) -> None:
        """Use a client that is connected."""
        self._client = client
        self._inputs = inputs
        self._evictions = evictions
        # Copies of each model, by name.
        self._models: dict[str, list[AsyncModel]] = {}
        self._open: set[asyncio.Future[Inference]] = set()
        # Requests so far by name, which number the inputs.
        self._sent: dict[str, int] = {}
        self.outcomes: list[Outcome] = []
        self.warm_up_count = 0

    async def warm_up(self) -> dict[str, float]:
        """Ask every copy a few times; return the execution time in ms by name of model.

        What was measured when the model was built counts too, if it is longer.
        """
        for model in await self._client.models():
            self._models.setdefault(model.name, []).append(model)
        exec_ms = {}
        for demo_model in DEMO_MODELS:
            name = demo_model.name
            copies = self._models[name]
            times = [time_ms for copy in copies for time_ms in await self._time(copy)]
            exec_ms[name] = max(median(times), copies[0].info.profile.exec_ns[0] / MS)
        return exec_ms

    async def send(self, streams: Sequence[Stream], arrivals: Sequence[Arrival], say: Say) -> float:
        """Send everything on time, saying a line per second; return how long it took in s."""
        loop = asyncio.get_running_loop()
        calm_garbage_collector()
        begin_s = loop.time()
        reporter = loop.create_task(self._report(begin_s, say))
        try:
            for arrival in arrivals:
                wait_s = begin_s + arrival.at_s - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                self._send(streams[arrival.stream])
            duration_s = loop.time() - begin_s
            if self._open:
                await asyncio.wait(self._open, timeout=ANSWER_TIMEOUT_S)
        finally:
            reporter.cancel()
        return duration_s

    async def _time(self, model: AsyncModel) -> list[float]:
        """Return latencies at the controller of warm requests, one after the other."""
        times_ms = []
        for index in range(WARM_UP_RUNS):
            given = self._inputs.take(model.name, model.inputs, index)
            inference = await model.infer(given, slo_ms=WARM_UP_SLO_MS)
            self.warm_up_count += 1
            if index:
                times_ms.append(inference.server_latency_ms)
        return times_ms

    def _send(self, stream: Stream) -> None:
        index = self._sent.get(stream.name, 0)
        self._sent[stream.name] = index + 1
        model = self._models[stream.name][stream.copy]
        given = self._inputs.take(stream.name, model.inputs, index)
        future = model.infer_async(given, slo_ms=stream.slo_ms)
        self._open.add(future)

        def answered(done: asyncio.Future[Inference]) -> None:
            self._open.discard(done)
            self.outcomes.append(self._outcome(stream, index, done))

        future.add_done_callback(answered)

    def _outcome(self, stream: Stream, index: int, done: asyncio.Future[Inference]) -> Outcome:
        error = done.exception()
        if error is not None:
            # Bugs of ours come out here; everything else is told in the summary.
            if not isinstance(error, ClockworkError):
                raise error
            return Outcome(
                name=stream.name,
                copy=stream.copy,
                latency_ms=None,
                is_in_time=False,
                problem=type(error).__name__,
            )
        inference = done.result()
        is_digit = stream.name == DIGITS
        return Outcome(
            name=stream.name,
            copy=stream.copy,
            latency_ms=inference.latency_ms,
            is_in_time=inference.server_latency_ms <= stream.slo_ms,
            is_cold=inference.is_cold_start,
            batch_size=inference.batch_size,
            is_right=self._inputs.is_right(index, inference[SCORES]) if is_digit else None,
        )

    async def _report(self, begin_s: float, say: Say) -> None:
        """Say what happened in each second."""
        loop = asyncio.get_running_loop()
        second, seen, evicted = 0, 0, self._evictions.read()
        while True:
            second += 1
            await asyncio.sleep(begin_s + second - loop.time())
            fresh = self.outcomes[seen:]
            seen += len(fresh)
            before, evicted = evicted, self._evictions.read()
            say(_line(second, fresh, evicted - before))


def _line(second: int, fresh: Sequence[Outcome], evictions: int) -> str:
    in_time = sum(each.is_in_time for each in fresh)
    cold = sum(each.is_cold for each in fresh)
    latency = percentiles(fresh)
    return (
        f"{second:>4} s   throughput {len(fresh):>4}/s   goodput {in_time:>4}/s "
        f"{share(in_time, len(fresh)):>6.1%}   p50 {latency.p50_ms:>6.1f} ms   "
        f"p99 {latency.p99_ms:>6.1f} ms   cold starts {cold:>3}   evictions {evictions:>3}"
    )
