"""Requests at a steady rate from a thread, whose outcomes are all kept: who survives, and when.

Each request has its place in `asked`, so one without an outcome cannot hide.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import uvloop

from clockwork.errors import ClockworkError
from clockwork.live.async_client import AsyncClient, AsyncModel
from clockwork.live.clock import now_ns
from clockwork.units import MS, SECOND

PATIENCE_S = 60.0
STEADY_COUNT = 100
"""Requests in a row by which goodput is judged: half a second's at the usual rate."""
STEADY_SHARE = 0.95
"""Of these have to succeed in time for goodput to be there."""


class Asked:
    """One request: when it was sent, when and how it ended."""

    def __init__(self) -> None:
        self.sent_ns = now_ns()
        # None while it is under way.
        self.done_ns: int | None = None
        # What became of it: "good", "late", or the name of an exception.
        self.outcome = ""
        self.error: ClockworkError | None = None

    def end(self, outcome: str, error: ClockworkError | None = None) -> None:
        """Take the one outcome."""
        assert self.done_ns is None, f"a second outcome: {outcome} after {self.outcome}"
        self.done_ns, self.outcome, self.error = now_ns(), outcome, error


class Traffic:
    """An open loop on a client of its own; leaving the context stops it and waits for the rest."""

    def __init__(self, address: str, models: Sequence[int], *, rate: int, slo_ms: float) -> None:
        """Prepare to ask for models in turn, `rate` times per second."""
        self.asked: list[Asked] = []
        self._address = address
        self._models = models
        self._rate = rate
        self._slo_ms = slo_ms
        self._is_stopped = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), daemon=True)

    def __enter__(self) -> "Traffic":
        """Begin to ask, and wait until goodput is there."""
        self._thread.start()
        self.wait_until_steady(0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop asking, and wait for the outcomes of all that was asked."""
        self._is_stopped = True
        self._thread.join(PATIENCE_S)
        if kind is not None:
            print(f"{len(self.asked)} requests: {self.outcomes()}")

    def outcomes(self) -> Counter[str]:
        """Return how requests ended; those that did not count as an empty text."""
        return Counter(each.outcome for each in self.asked)

    def wait_until_steady(self, after_ns: int) -> float:
        """Wait until requests sent after `after_ns` succeed; return the seconds until then."""
        with self._news:
            is_steady = self._news.wait_for(
                lambda: self.steady_ns(after_ns) is not None, PATIENCE_S
            )
        assert is_steady, f"no goodput: {self.outcomes()} of the last {self.asked[-20:]}"
        steady_ns = self.steady_ns(after_ns)
        assert steady_ns is not None
        return (steady_ns - after_ns) / SECOND

    def steady_ns(self, after_ns: int) -> int | None:
        """Return from which instant after another on requests succeed; None if not yet.

        That is when the first of some requests in a row was sent of which nearly all succeeded.
        """
        later = [each for each in self.asked if each.sent_ns >= after_ns and each.done_ns]
        good = [each.outcome == "good" for each in later]
        count = sum(good[:STEADY_COUNT])
        for first in range(len(good) - STEADY_COUNT + 1):
            if count >= STEADY_COUNT * STEADY_SHARE and good[first]:
                return later[first].sent_ns
            if first + STEADY_COUNT < len(good):
                count += good[first + STEADY_COUNT] - good[first]
        return None

    async def _run(self) -> None:
        client = await AsyncClient.connect(self._address, timeout_s=PATIENCE_S)
        infos = {model.model_id: model for model in await client.models()}
        models = [infos[model_id] for model_id in self._models]
        tasks = []
        begin_ns = now_ns()
        while not self._is_stopped:
            place = len(self.asked)
            due_ns = begin_ns + place * SECOND // self._rate
            if due_ns > now_ns():
                await asyncio.sleep((due_ns - now_ns()) / SECOND)
            self.asked.append(Asked())
            tasks.append(
                asyncio.ensure_future(self._ask(self.asked[-1], models[place % len(models)]))
            )
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
        await client.close()

    async def _ask(self, asked: Asked, model: AsyncModel) -> None:
        try:
            await model.infer(None, slo_ms=self._slo_ms)
        except ClockworkError as error:
            asked.end(type(error).__name__, error)
        else:
            # Waiting for a connection counts: what matters is when the caller has the answer.
            is_good = now_ns() - asked.sent_ns <= self._slo_ms * MS
            asked.end("good" if is_good else "late")
        with self._news:
            self._news.notify_all()
