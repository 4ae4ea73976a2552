"""Replays of traces: Poisson within counts per interval, exact counts, and recorded instants.

Theory of the Poisson replay (SPEC 7.2): arrivals of a rate that changes from interval to interval
are unit exponentials of *work*, worked off at the current rate. What is left at the end of an
interval is carried into the next one, exactly; a count of 0 is silence. At the end the trace wraps
to its first interval.

An exact replay has the (scaled) count of arrivals in each interval, at uniform instants: that is
the same process under the condition that the totals come out as recorded.
"""

from math import inf
from random import Random
from typing import Final

from clockwork.client.workload import Recorded, TraceReplay
from clockwork.units import FOREVER_NS, MINUTE

_ROUNDING: Final = 1e-6
"""Sums of counts are whole numbers up to this: floats are exact enough for 10^9 requests."""


def replay_of(spec: TraceReplay, rng: Random) -> "TraceReplaySource | ExactReplaySource":
    """Return the source that plays `spec`."""
    return ExactReplaySource(spec, rng) if spec.exact else TraceReplaySource(spec, rng)


class _Tape:
    """A position in the counts of a trace: one interval, its count, and when it ends."""

    __slots__ = ("_index", "_left", "_spec", "count", "end_ns")

    def __init__(self, spec: TraceReplay) -> None:
        self._spec = spec
        self._index = 0
        # Intervals to play, the current one included; falls below zero when there is no end.
        self._left = len(spec.counts) if spec.once and any(spec.counts) else 0
        self.count = 0
        self.end_ns = 0

    @property
    def size(self) -> int:
        """Number of intervals."""
        return len(self._spec.counts)

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return sum(self._spec.counts)

    def start(self, now_ns: int, rng: Random) -> None:
        """Go to where the replay begins, at `now_ns`."""
        interval_ns, size = self._spec.interval_ns, len(self._spec.counts)
        if self._spec.start is None:
            self._index, within_ns = divmod(rng.randrange(interval_ns * size), interval_ns)
        else:
            self._index, within_ns = self._spec.start % size, 0
        self.end_ns = now_ns + interval_ns - within_ns
        self.count = self._spec.counts[self._index]

    def advance(self) -> bool:
        """Go to the next interval that has a count; return False if the single pass is over.

        A trace must have a count. Most intervals of most functions have none, and a ladder has all
        functions look for the next one: steps over the others are as cheap as they can be.
        """
        counts, index, left, steps = self._spec.counts, self._index, self._left, 0
        size, count = len(counts), 0
        while not count:
            left -= 1
            if left == 0:
                self._left = left
                return False
            steps += 1
            index += 1
            if index == size:
                index = 0
            count = counts[index]
        self._index, self._left, self.count = index, left, count
        self.end_ns += steps * self._spec.interval_ns
        return True

    def skip(self, passes: int) -> None:
        """Go forward by whole passes, which must not end."""
        self.end_ns += passes * self._spec.interval_ns * len(self._spec.counts)

    def rewind(self, now_ns: int) -> None:
        """Go back to the interval of `now_ns`."""
        begin_ns = self.end_ns - self._spec.interval_ns
        if begin_ns > now_ns:
            back = -((now_ns - begin_ns) // self._spec.interval_ns)
            self._left += back
            self._move(-back)

    def _move(self, by: int) -> None:
        self._index = (self._index + by) % len(self._spec.counts)
        self.count = self._spec.counts[self._index]
        self.end_ns += by * self._spec.interval_ns


class TraceReplaySource:
    """Poisson arrivals whose rate follows the counts of a trace."""

    __slots__ = (
        "_interval_ns",
        "_pass_count",
        "_pass_work",
        "_per_count",
        "_rng",
        "_tape",
        "has_ended",
        "next_ns",
    )

    def __init__(self, spec: TraceReplay, rng: Random) -> None:
        self._rng = rng
        self._tape = _Tape(spec)
        self._interval_ns = spec.interval_ns
        # Counts of a whole pass, by which a rare function may leap; infinite where passes end.
        self._pass_count = inf if spec.once else float(self._tape.total)
        # Requests per nanosecond and count, and the work of a whole pass.
        self._per_count = self._pass_work = 0.0
        self._set_scale(spec.scale)
        self.has_ended = self._tape.total == 0
        self.next_ns = FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Begin where the record says, and draw the first arrival."""
        if not self.has_ended:
            self._tape.start(now_ns, self._rng)
            self._work_off(self._rng.expovariate(1.0), now_ns)

    def advance(self) -> None:
        """Draw the next arrival."""
        self._work_off(self._rng.expovariate(1.0), self.next_ns)

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: a replay does not wait."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the scale to `value` from `now_ns` on.

        What is left of an exponential is again one, so the work is drawn anew; that is the same
        process as keeping it, without adding up the intervals until the next arrival.
        """
        if not self.has_ended:
            self._set_scale(value)
            self._tape.rewind(now_ns)
            self._work_off(self._rng.expovariate(1.0), now_ns)

    def _set_scale(self, scale: float) -> None:
        self._per_count = scale / MINUTE
        self._pass_work = self._pass_count * self._per_count * self._interval_ns

    def _work_off(self, work: float, from_ns: int) -> None:
        """Set `next_ns` to when `work` that starts at `from_ns` is done."""
        tape = self._tape
        if work > self._pass_work:
            passes, work = divmod(work, self._pass_work)
            tape.skip(int(passes))
            from_ns += int(passes) * self._interval_ns * self._tape.size
        while True:
            rate = tape.count * self._per_count
            doable = rate * (tape.end_ns - from_ns)
            if work < doable:
                self.next_ns = from_ns + round(work / rate)
                return
            work -= doable
            if not tape.advance():
                self.has_ended = True
                self.next_ns = FOREVER_NS
                return
            from_ns = tape.end_ns - self._interval_ns


class ExactReplaySource:
    """As many arrivals in each interval as its scaled count says, at uniform instants.

    Fractions of a request are carried from interval to interval, from a random one on.
    """

    __slots__ = (
        "_carry",
        "_due_ns",
        "_interval_ns",
        "_is_endless",
        "_per_count",
        "_rng",
        "_tape",
        "has_ended",
    )

    def __init__(self, spec: TraceReplay, rng: Random) -> None:
        self._rng = rng
        self._tape = _Tape(spec)
        self._interval_ns = spec.interval_ns
        self._is_endless = not spec.once
        # Requests per count.
        self._per_count = spec.scale * spec.interval_ns / MINUTE
        self._carry = _ROUNDING + (1 - 2 * _ROUNDING) * rng.random()
        # What is left of the current interval, the next arrival last.
        self._due_ns: list[int] = []
        self.has_ended = self._tape.total == 0

    @property
    def next_ns(self) -> int:
        """When the next request is due; FOREVER_NS: never."""
        return self._due_ns[-1] if self._due_ns else FOREVER_NS

    def start(self, now_ns: int) -> None:
        """Begin where the record says."""
        if self.has_ended:
            return
        self._tape.start(now_ns, self._rng)
        self._fill()
        # A start within an interval leaves out what came before.
        self._due_ns = [due_ns for due_ns in self._due_ns if due_ns >= now_ns]
        self._look()

    def advance(self) -> None:
        """Go to the next arrival."""
        self._due_ns.pop()
        self._look()

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: a replay does not wait."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the scale to `value`, from the next interval on."""
        self._per_count = value * self._interval_ns / MINUTE

    def _look(self) -> None:
        if not self._due_ns and self._is_endless and self._per_count > 0:
            self._leap()
        while not self._due_ns:
            if self._per_count == 0 or not self._tape.advance():
                self.has_ended = True
                return
            self._fill()

    def _leap(self) -> None:
        """Skip the passes in which a rare function has no arrival."""
        per_pass = self._tape.total * self._per_count
        passes = int((1 - self._carry) / per_pass)
        self._tape.skip(passes)
        self._carry += passes * per_pass

    def _fill(self) -> None:
        self._carry += self._tape.count * self._per_count
        count = int(self._carry)
        self._carry -= count
        begin_ns, random = self._tape.end_ns - self._interval_ns, self._rng.random
        self._due_ns = [begin_ns + int(random() * self._interval_ns) for _ in range(count)]
        self._due_ns.sort(reverse=True)


class RecordedSource:
    """Arrivals at recorded offsets, over and over."""

    __slots__ = ("_copies", "_index", "_rng", "_scale", "_spec", "_start_ns", "has_ended")

    def __init__(self, spec: Recorded, rng: Random) -> None:
        self._spec = spec
        self._rng = rng
        self._scale = spec.scale
        # The next arrival, how often it is still to be sent, and when this pass began.
        self._index = -1
        self._copies = 0
        self._start_ns = 0
        self.has_ended = not spec.offsets_ns or spec.scale <= 0

    @property
    def next_ns(self) -> int:
        """When the next request is due; FOREVER_NS: never."""
        if self.has_ended or not self._copies:
            return FOREVER_NS
        return self._start_ns + self._spec.offsets_ns[self._index]

    def start(self, now_ns: int) -> None:
        """Begin with the first recorded arrival."""
        self._start_ns = now_ns
        self._look()

    def advance(self) -> None:
        """Go to the next copy or the next recorded arrival."""
        self._copies -= 1
        self._look()

    def on_answer(self, ready_ns: int) -> None:
        """Do nothing: a replay does not wait."""

    def tune(self, value: float, now_ns: int) -> None:
        """Set the scale to `value`, from the next recorded arrival on."""
        self._scale = value

    def _look(self) -> None:
        while not self._copies and not self.has_ended:
            self._index += 1
            if self._index == len(self._spec.offsets_ns):
                self._index = 0
                self._start_ns += self._spec.period_ns
                self.has_ended = self._spec.once or self._scale <= 0
            # Rounded up or down at random, so that the mean is the scale.
            self._copies = int(self._scale + self._rng.random())
