"""Open loops: arrivals that never wait for an answer.

Each source holds the instant of its next arrival as the sum of all gaps before, in whole
nanoseconds, and never looks at the time of its holder: arrivals do not drift (SPEC 7.1).

Theory of `tune`: a gap is an amount of work (for Poisson arrivals one exponential of mean 1) that
is worked off at the current rate. A change of rate keeps what is left of the work, so that a ladder
from 0.01 to 100 requests/s does not first wait out a gap of a hundred seconds.
"""

from random import Random

from clockwork.client.workload import BurstyOpen, FixedRate, Gamma, OnOff, Poisson
from clockwork.units import FOREVER_NS, SECOND


class PoissonSource:
    """Exponential gaps; the first arrival comes after one."""

    __slots__ = ("_mean_ns", "_rng", "next_ns")

    has_ended = False

    def __init__(self, spec: Poisson, rng: Random) -> None:
        self._rng = rng
        self._mean_ns = SECOND / spec.rate_per_s
        self.next_ns = FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Draw the first gap."""
        self.next_ns = now_ns
        self.advance()

    def advance(self) -> None:
        """Draw the next gap."""
        self.next_ns += round(self._rng.expovariate(1.0) * self._mean_ns)

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: an open loop does not wait."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the rate to `value` per second from `now_ns` on."""
        mean_ns = SECOND / value
        self.next_ns = _stretched(self.next_ns, now_ns, mean_ns / self._mean_ns)
        self._mean_ns = mean_ns


class FixedRateSource:
    """Constant gaps; the first arrival comes after one."""

    __slots__ = ("_count", "_gap_ns", "_start_ns", "next_ns")

    has_ended = False

    def __init__(self, spec: FixedRate) -> None:
        self._gap_ns = SECOND / spec.rate_per_s
        self._start_ns = 0
        self._count = 0
        self.next_ns = FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Begin one gap before the first arrival."""
        self._start_ns = now_ns
        self._count = 0
        self.advance()

    def advance(self) -> None:
        """Go on by one gap; multiples are taken from the start, so roundings never add up."""
        self._count += 1
        self.next_ns = self._start_ns + round(self._count * self._gap_ns)

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: an open loop does not wait."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the rate to `value` per second from `now_ns` on."""
        gap_ns = SECOND / value
        self.next_ns = _stretched(self.next_ns, now_ns, gap_ns / self._gap_ns)
        self._start_ns = self.next_ns
        self._count = 0
        self._gap_ns = gap_ns


class BurstyOpenSource:
    """Poisson arrivals during bursts; it starts in a burst.

    Gaps are worked off during bursts only, which for exponential gaps is the same as drawing anew
    at the start of each burst.
    """

    __slots__ = ("_burst_ns", "_burst_to_ns", "_idle_ns", "_mean_ns", "_rng", "next_ns")

    has_ended = False

    def __init__(self, spec: BurstyOpen, rng: Random) -> None:
        self._rng = rng
        self._mean_ns = SECOND / spec.rate_per_s
        self._burst_ns = spec.burst_ns
        self._idle_ns = spec.idle_ns
        self._burst_to_ns = 0
        self.next_ns = FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Begin the first burst and draw the first gap."""
        self.next_ns = now_ns
        self._burst_to_ns = now_ns + self._draw(self._burst_ns)
        self.advance()

    def advance(self) -> None:
        """Draw the next gap, and skip the silences that it runs into."""
        self.next_ns += round(self._rng.expovariate(1.0) * self._mean_ns)
        while self.next_ns >= self._burst_to_ns:
            idle_ns = self._draw(self._idle_ns)
            self.next_ns += idle_ns
            self._burst_to_ns += idle_ns + self._draw(self._burst_ns)

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: an open loop does not wait."""

    def _draw(self, mean_ns: int) -> int:
        return max(1, round(self._rng.expovariate(1.0) * mean_ns))


class GammaSource:
    """Gamma-distributed gaps; the first arrival comes after one."""

    __slots__ = ("_mean_ns", "_rng", "_shape", "next_ns")

    has_ended = False

    def __init__(self, spec: Gamma, rng: Random) -> None:
        self._rng = rng
        self._mean_ns = SECOND / spec.rate_per_s
        # A gamma distribution of shape k has the coefficient of variation 1 / sqrt(k).
        self._shape = spec.variation**-2
        self.next_ns = FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Draw the first gap."""
        self.next_ns = now_ns
        self.advance()

    def advance(self) -> None:
        """Draw the next gap."""
        gap = self._rng.gammavariate(self._shape, 1.0 / self._shape)
        self.next_ns += round(gap * self._mean_ns)

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: an open loop does not wait."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the rate to `value` per second from `now_ns` on."""
        mean_ns = SECOND / value
        self.next_ns = _stretched(self.next_ns, now_ns, mean_ns / self._mean_ns)
        self._mean_ns = mean_ns


class OnOffSource:
    """A small batch, shortly after it a large one, then silence until the period is over."""

    __slots__ = ("_index", "_spec", "_start_ns", "next_ns")

    has_ended = False

    def __init__(self, spec: OnOff) -> None:
        self._spec = spec
        # Of the next request within its period.
        self._index = 0
        self._start_ns = 0
        self.next_ns = FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Begin the first period."""
        self._start_ns = now_ns
        self.next_ns = now_ns

    def advance(self) -> None:
        """Go on in the batch, to the large batch, or to the next period."""
        spec = self._spec
        self._index += 1
        if self._index == spec.small + spec.large:
            self._index = 0
            self._start_ns += spec.period_ns
        self.next_ns = self._start_ns + (spec.delay_ns if self._index >= spec.small else 0)

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: an open loop does not wait."""


def _stretched(instant_ns: int, now_ns: int, factor: float) -> int:
    """Return `instant_ns` with what is left of it after `now_ns` multiplied by `factor`."""
    return now_ns + max(0, round((instant_ns - now_ns) * factor))
