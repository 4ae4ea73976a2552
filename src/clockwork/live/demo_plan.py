"""What the demonstration sends, and what it promises: decided from measured execution times.

Why measured: the same demonstration has to hold its promises on a laptop and on a slow virtual
machine. One device runs one model at a time and is never interrupted, so a promise has to allow
for a few executions of the longest model in front of one's own.
"""

import random
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from msgspec import Struct

from clockwork.live.demo_models import DemoModel

BUSY_SHARE: Final = 0.4
"""How much of the device's time the big models may ask for; chosen, so that queues stay short."""
DIGITS_PER_S: Final = 120.0
"""Requests for digits per second; chosen: an execution takes 0.1 ms, the way there and back 1."""
OTHERS_AHEAD: Final = 4
"""Executions of the longest model that a promise allows for in front of one's own."""
OWN_TIMES: Final = 4
"""How many times its own execution a promise allows for: batches, a load, a hiccup."""
SLO_GRAIN_MS: Final = 50
"""Promises are multiples of this: nobody sells 273 ms."""
JITTER: Final = 1.0
"""How far a request may be shifted, as a share of the time between two."""
COPY_SKEW: Final = 4
"""How much more often a copy is asked for than the next one: tenants differ."""


class Stream(Struct, frozen=True):
    """Requests for one copy of one model."""

    name: str
    # 0 is the first copy.
    copy: int
    rate_per_s: float
    slo_ms: int


class Arrival(Struct, frozen=True, order=True):
    """One request to send."""

    at_s: float
    # Index of the stream.
    stream: int


def plan_streams(models: Sequence[DemoModel], exec_ms: Mapping[str, float]) -> list[Stream]:
    """Return one stream per copy, the copies of a model together.

    Args:
        models: what is served.
        exec_ms: measured time of one execution by name of model.
    """
    longest_ms = max(exec_ms.values())
    # Requests per second of a model with a share of 1 that keep the device busy as planned.
    work_ms = sum(model.share * exec_ms[model.name] for model in models)
    per_share = BUSY_SHARE * 1000 / work_ms
    streams = []
    for model in models:
        rate_per_s = model.share * per_share if model.share else DIGITS_PER_S
        slo_ms = _slo_ms(exec_ms[model.name], longest_ms)
        weights = [COPY_SKEW**-copy for copy in range(model.copies)]
        for copy, weight in enumerate(weights):
            rate = rate_per_s * weight / sum(weights)
            streams.append(Stream(name=model.name, copy=copy, rate_per_s=rate, slo_ms=slo_ms))
    return streams


def plan_arrivals(streams: Sequence[Stream], *, duration_s: float, seed: int) -> list[Arrival]:
    """Return all requests in the order of time: steady streams with a little jitter."""
    rng = random.Random(seed)
    arrivals = []
    for index, stream in enumerate(streams):
        gap_s = 1 / stream.rate_per_s
        at_s = rng.random() * gap_s
        while at_s < duration_s:
            # What would be shifted beyond the end begins anew.
            shifted_s = (at_s + rng.random() * JITTER * gap_s) % duration_s
            arrivals.append(Arrival(at_s=shifted_s, stream=index))
            at_s += gap_s
    return sorted(arrivals)


def cache_pages(pages_by_model: Sequence[int]) -> int:
    """Return how many pages hold about a third of all models, given those that each copy takes.

    At least two of the largest, so that one can be loaded while the other one runs.
    """
    return max(2 * max(pages_by_model), ceil(sum(pages_by_model) / 3))


def _slo_ms(exec_ms: float, longest_ms: float) -> int:
    needed_ms = OTHERS_AHEAD * longest_ms + OWN_TIMES * exec_ms
    return ceil(needed_ms / SLO_GRAIN_MS) * SLO_GRAIN_MS
