"""Traces of functions, and how their requests are put on models.

Source: clockwork SPEC 7.4. Functions are sorted by their calls, largest first; function i of F asks
for model floor(M * i / F) of M, so that the most popular functions share the first models. The
original meant to shuffle the models before (its shuffle did nothing); here they are shuffled with
the seed.

Not here: files (`live.trace_files`), synthetic traces (`client.trace_generator`), the named
workloads (`client.azure_workloads`).
"""

from array import array
from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from clockwork.client.workload import Recorded, Stream, TraceReplay
from clockwork.errors import ConfigurationError

WORKER_CAPACITY: Final = 0.125
"""Share of a whole trace that one worker was estimated to carry (the original's)."""
COPIES_BY_MEMORY_FACTOR: Final = {1: 3, 2: 13, 3: 29, 4: 66}
"""Copies per zoo model that fill the memory of a cluster so many times (the original's)."""
RESNETS_BY_MEMORY_FACTOR: Final = {1: 200, 2: 800, 3: 1800, 4: 3600}
"""The same when all are copies of one model."""


class TraceFunction(Struct, frozen=True):
    """One function of a trace."""

    # Owner, app and function, as far as the file has them.
    name: str
    # What calls it ("http", "timer", ...); empty if the file does not say.
    trigger: str
    # Calls in the whole trace.
    total: int
    # How it is played as recorded: scale 1, from the start.
    arrivals: TraceReplay | Recorded


class Trace(Struct, frozen=True):
    """Calls of functions over some time."""

    # Where it comes from, for people.
    source: str
    # Length of one pass.
    period_ns: int
    # By total, largest first.
    functions: tuple[TraceFunction, ...]

    @property
    def total(self) -> int:
        """Calls of all functions."""
        return sum(function.total for function in self.functions)


class ReplayOptions(Struct, frozen=True):
    """How a trace is played."""

    # Multiplies all rates.
    scale: float = 1.0
    # Plays the trace so many times as long, with the same requests: rates are divided by this.
    stretch: float = 1.0
    # Length of an interval of counts as it is played; None: as recorded. Unlike `stretch`, rates
    # stay, so that shorter intervals mean fewer requests (the original's `interval`).
    interval_ns: int | None = None
    # Starts each function anywhere in the trace instead of at its beginning.
    random_start: bool = False
    once: bool = False
    exact: bool = False


def ordered(functions: Sequence[TraceFunction]) -> tuple[TraceFunction, ...]:
    """Return functions by total, largest first; of equal ones, the later first (SPEC 7.4)."""
    order = sorted(range(len(functions)), key=lambda index: (-functions[index].total, -index))
    return tuple(functions[index] for index in order)


def played(function: TraceFunction, options: ReplayOptions) -> TraceReplay | Recorded:
    """Return the arrivals of a function as `options` want them."""
    arrivals = function.arrivals
    if isinstance(arrivals, TraceReplay):
        interval_ns = options.interval_ns or arrivals.interval_ns
        return msgspec.structs.replace(
            arrivals,
            interval_ns=round(interval_ns * options.stretch),
            scale=options.scale / options.stretch,
            start=None if options.random_start else arrivals.start,
            once=options.once,
            exact=options.exact,
        )
    if options.stretch == 1:
        offsets_ns = arrivals.offsets_ns
    else:
        offsets_ns = array("q", (round(at * options.stretch) for at in arrivals.offsets_ns))
    return msgspec.structs.replace(
        arrivals,
        offsets_ns=offsets_ns,
        period_ns=round(arrivals.period_ns * options.stretch),
        scale=options.scale,
        once=options.once,
    )


def resampled(trace: Trace, count: int, seed: int) -> Trace:
    """Return a trace of `count` functions made from those of `trace`.

    More functions than there are: each is used equally often, every further time shifted by a
    random part of the trace (which then wraps). Fewer: every so manieth in the order of popularity.
    Shapes and popularity stay, correlations in time between functions do not.
    """
    functions, size = trace.functions, len(trace.functions)
    if not size:
        raise ConfigurationError(f"{trace.source} has no functions to resample")
    if count <= size:
        chosen = [functions[index * size // count] for index in range(count)]
    else:
        rng = Random(f"{seed}:resample")
        chosen = [
            functions[index] if index < size else _shifted(functions[index % size], rng)
            for index in range(count)
        ]
    return Trace(
        source=f"{trace.source}, {size} functions resampled to {count}",
        period_ns=trace.period_ns,
        functions=ordered(chosen),
    )


def in_blocks(
    arrivals: Sequence[TraceReplay | Recorded], *, model_count: int, seed: int
) -> tuple[Stream, ...]:
    """Return a stream per function: contiguous blocks of functions share a model."""
    order = list(range(model_count))
    Random(f"{seed}:models").shuffle(order)
    size = len(arrivals)
    return tuple(
        Stream(models=(order[model_count * index // size],), arrivals=each, user_id=index)
        for index, each in enumerate(arrivals)
    )


def in_turn(arrivals: Sequence[TraceReplay | Recorded], *, model_count: int) -> tuple[Stream, ...]:
    """Return a stream per function: function i asks for model i modulo their number."""
    return tuple(
        Stream(models=(index % model_count,), arrivals=each, user_id=index)
        for index, each in enumerate(arrivals)
    )


def _shifted(function: TraceFunction, rng: Random) -> TraceFunction:
    arrivals = function.arrivals
    if isinstance(arrivals, TraceReplay):
        start = rng.randrange(len(arrivals.counts))
        return msgspec.structs.replace(
            function, arrivals=msgspec.structs.replace(arrivals, start=start)
        )
    shift_ns = rng.randrange(arrivals.period_ns)
    moved = sorted((at + shift_ns) % arrivals.period_ns for at in arrivals.offsets_ns)
    return msgspec.structs.replace(
        function, arrivals=msgspec.structs.replace(arrivals, offsets_ns=array("q", moved))
    )
