"""Turns a record of `client.workload` into a source: an object that says when the next request is.

A source is driven by whoever holds it::

    source.start(now_ns)
    while source.next_ns <= now_ns:
        ...send a request that is due at source.next_ns...
        source.advance()

and, for closed loops, told of every answer with `on_answer`. `next_ns` is FOREVER_NS while a source
waits for answers, and for ever when `has_ended`.

Invariants: `next_ns` never decreases from one `advance` to the next, whatever the time at which the
holder gets round to it, so an open loop never drifts: a late holder catches up. Equal seeds give
equal arrivals.
"""

from random import Random
from typing import Final, Protocol, assert_never, runtime_checkable

from clockwork.client.closed_loops import BurstyClosedSource, ClosedLoopSource
from clockwork.client.open_loops import (
    BurstyOpenSource,
    FixedRateSource,
    GammaSource,
    OnOffSource,
    PoissonSource,
)
from clockwork.client.trace_replay import RecordedSource, replay_of
from clockwork.client.workload import (
    Arrivals,
    BurstyClosed,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    OnOff,
    Poisson,
    Recorded,
    TraceReplay,
)


class Source(Protocol):
    """When the requests of one stream are due."""

    @property
    def next_ns(self) -> int:
        """When the next request is due; FOREVER_NS: not before an answer, or never."""

    @property
    def has_ended(self) -> bool:
        """True if there will never be another request."""

    def start(self, now_ns: int) -> None:
        """Begin at `now_ns`; called once, before everything else."""

    def advance(self) -> None:
        """Take the request that is due at `next_ns` as sent."""

    def on_answer(self, ready_ns: int) -> None:
        """Take in an answer; the place of its request may be used again from `ready_ns` on."""


@runtime_checkable
class Tunable(Protocol):
    """A source whose speed a ladder may change."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the rate (or a replay's scale) from `now_ns` on; keeps work already drawn."""


CLOSED: Final = (ClosedLoop, BurstyClosed)
"""Arrivals that wait for answers."""


def source_of(arrivals: Arrivals, rng: Random) -> Source:
    """Return a fresh source, not started. It owns `rng` from now on."""
    match arrivals:
        case ClosedLoop():
            return ClosedLoopSource(arrivals)
        case BurstyClosed():
            return BurstyClosedSource(arrivals, rng)
        case Poisson():
            return PoissonSource(arrivals, rng)
        case FixedRate():
            return FixedRateSource(arrivals)
        case BurstyOpen():
            return BurstyOpenSource(arrivals, rng)
        case Gamma():
            return GammaSource(arrivals, rng)
        case OnOff():
            return OnOffSource(arrivals)
        case TraceReplay():
            return replay_of(arrivals, rng)
        case Recorded():
            return RecordedSource(arrivals, rng)
        case _:
            assert_never(arrivals)
