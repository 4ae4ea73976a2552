"""What became of a client's requests: counts, latencies, rates.

Everything has a fixed size, however long the run: latencies go into a histogram whose buckets grow
with the value (64 per doubling, so a percentile is at most 1/64 too high).

Latency counts from the *scheduled* arrival: a client that falls behind makes its own delay visible
instead of hiding it.
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from clockwork.client.workload import Workload
from clockwork.messages.client_io import ClientSummary, LatencySummary, ModelCounts, SendInfer
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import InferResponse
from clockwork.messages.status import Status
from clockwork.units import MIB, MS, SECOND

GRAIN_BITS: Final = 10
"""The histogram counts in units of 1,024 ns: finer than any latency that matters."""
FINE_BITS: Final = 6
LATENCY_MAX: Final = 1 << 40
"""In grains: 13 days. Longer ones are counted as this."""

PREAMBLE_BYTES: Final = 48
"""What a message counts beside its payload (SPEC 2.7)."""

_SUCCESS: Final = Status.SUCCESS
_REFUSED: Final = Status.COULD_NOT_START_IN_TIME
"""Members of enums are looked up slowly, on the path of every request."""
_BUCKETS: Final = (LATENCY_MAX.bit_length() - FINE_BITS + 1) << FINE_BITS


class Extent:
    """Count, sum, minimum and maximum of durations; all 0 before the first."""

    __slots__ = ("count", "max_ns", "min_ns", "sum_ns")

    def __init__(self) -> None:
        self.count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    def add(self, latency_ns: int) -> None:
        """Take in one latency, not negative."""
        if not self.count or latency_ns < self.min_ns:
            self.min_ns = latency_ns
        if latency_ns > self.max_ns:
            self.max_ns = latency_ns
        self.count += 1
        self.sum_ns += latency_ns


class Latencies:
    """A bounded histogram of durations, with exact minimum, mean and maximum."""

    __slots__ = ("_buckets", "extent")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.extent = Extent()

    def add(self, latency_ns: int) -> None:
        """Take in one latency, not negative."""
        self.extent.add(latency_ns)
        grains = latency_ns >> GRAIN_BITS
        if grains > LATENCY_MAX:
            grains = LATENCY_MAX
        shift = grains.bit_length() - FINE_BITS - 1
        if shift > 0:
            self._buckets[(shift << FINE_BITS) + (grains >> shift)] += 1
        else:
            self._buckets[grains] += 1

    def percentile_ns(self, share: float) -> int:
        """Return the latency that `share` (0 to 1) of all do not exceed; 0 if there are none."""
        rank = max(1, ceil(share * self.extent.count))
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if seen >= rank and count:
                return min(_upper_ns(index), self.extent.max_ns)
        return 0

    def summary(self) -> LatencySummary | None:
        """Return all figures; None if there are no latencies."""
        extent = self.extent
        if not extent.count:
            return None
        return LatencySummary(
            min_ns=extent.min_ns,
            mean_ns=extent.sum_ns // extent.count,
            p50_ns=self.percentile_ns(0.5),
            p90_ns=self.percentile_ns(0.9),
            p99_ns=self.percentile_ns(0.99),
            p999_ns=self.percentile_ns(0.999),
            p9999_ns=self.percentile_ns(0.9999),
            max_ns=extent.max_ns,
        )


class Tally:
    """All counts of a run, and those since the last line on the console."""

    __slots__ = (
        "_from_ns",
        "_good",
        "_received_bytes",
        "_received_messages",
        "_sent",
        "_sent_bytes",
        "_succeeded",
        "cold_starts",
        "latencies",
        "lost",
        "recent",
        "recently_sent",
        "statuses",
        "throttled",
        "uncounted",
    )

    def __init__(self, model_count: int, *, from_ns: int = 0, uncounted: int = 0) -> None:
        """Count requests that arrive from `from_ns` on.

        Args:
            uncounted: requests in flight that arrived before; their answers are left out.
        """
        self._from_ns = from_ns
        self.uncounted = uncounted
        # By index of the model within the workload.
        self._sent = [0] * model_count
        self._succeeded = [0] * model_count
        self._good = [0] * model_count
        # Responses by status code.
        self.statuses: dict[int, int] = {}
        self.cold_starts = 0
        # Requests that will get no response: there was no connection until their deadlines.
        self.lost = 0
        # Requests that this client refused because the controller was overloaded; also among those
        # of their status.
        self.throttled = 0
        self.latencies = Latencies()
        # Since the last line: latencies, requests, responses, and their payloads.
        self.recent = Extent()
        self.recently_sent = self._sent_bytes = 0
        self._received_messages = self._received_bytes = 0

    @property
    def sent(self) -> int:
        """Requests so far."""
        return sum(self._sent)

    @property
    def answered(self) -> int:
        """Responses so far."""
        return sum(self.statuses.values())

    def add_sent(self, send: SendInfer) -> None:
        """Take in a request."""
        self._sent[send.model] += 1
        self.recently_sent += 1
        self._sent_bytes += send.input_bytes

    def add_answer(
        self, send: SendInfer, response: InferResponse, *, at_ns: int, payload_bytes: int
    ) -> None:
        """Take in the response to `send`, which arrived at `at_ns`."""
        if send.arrival_ns < self._from_ns:
            self.uncounted -= 1
            return
        status = response.status
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._received_messages += 1
        self._received_bytes += payload_bytes
        self.cold_starts += response.is_cold_start
        if status != _SUCCESS:
            return
        latency_ns = at_ns - send.arrival_ns
        if latency_ns < 0:
            latency_ns = 0
        self.latencies.add(latency_ns)
        self.recent.add(latency_ns)
        self._succeeded[send.model] += 1
        if send.deadline_ns is None or at_ns <= send.deadline_ns:
            self._good[send.model] += 1

    def add_lost(self, send: SendInfer) -> None:
        """Take in that `send` will get no response."""
        if send.arrival_ns < self._from_ns:
            self.uncounted -= 1
        else:
            self.lost += 1

    def add_throttled(self, model: int) -> None:
        """Take in a request that was refused here, in place of an overloaded controller."""
        self._sent[model] += 1
        self.recently_sent += 1
        self.throttled += 1
        self.statuses[_REFUSED] = self.statuses.get(_REFUSED, 0) + 1

    def lines(self, elapsed_ns: int) -> list[str]:
        """Return the two lines of SPEC 6.4 for the last `elapsed_ns`, and begin anew."""
        recent, seconds = self.recent, max(elapsed_ns, 1) / SECOND
        latency = f"total={self.recently_sent} throughput=0"
        if recent.count:
            mean_ns = recent.sum_ns / recent.count
            latency = (
                f"total={self.recently_sent} throughput={recent.count / seconds:.2f} "
                f"min={recent.min_ns / MS:.2f} max={recent.max_ns / MS:.2f} "
                f"mean={mean_ns / MS:.2f}"
            )
        sent_bytes = self._sent_bytes + PREAMBLE_BYTES * self.recently_sent
        received_bytes = self._received_bytes + PREAMBLE_BYTES * self._received_messages
        network = (
            f"Client->Controller: {sent_bytes / MIB / seconds:.1f}MB/s "
            f"({round(self.recently_sent / seconds)} msgs) snd, "
            f"{received_bytes / MIB / seconds:.1f}MB/s "
            f"({round(self._received_messages / seconds)} msgs) rcv, "
        )
        self._begin_interval()
        return [latency, network]

    def summary(
        self, workload: Workload, model_ids: Sequence[ModelId], duration_ns: int
    ) -> ClientSummary:
        """Return all figures of a run that sent for `duration_ns`."""
        seconds = max(duration_ns, 1) / SECOND
        good = sum(self._good)
        return ClientSummary(
            workload=workload.name,
            seed=workload.seed,
            duration_ns=duration_ns,
            sent=self.sent,
            statuses={int(status): self.statuses[status] for status in sorted(self.statuses)},
            throttled=self.throttled,
            unanswered=self.sent - self.answered,
            succeeded=sum(self._succeeded),
            good=good,
            cold_starts=self.cold_starts,
            offered_per_s=self.sent / seconds,
            throughput_per_s=self.answered / seconds,
            goodput_per_s=good / seconds,
            latency=self.latencies.summary(),
            model_sets=self._by_set(workload, model_ids),
            models=self._by_model(workload, model_ids),
        )

    def _begin_interval(self) -> None:
        self.recent = Extent()
        self.recently_sent = self._sent_bytes = 0
        self._received_messages = self._received_bytes = 0

    def _by_set(self, workload: Workload, ids: Sequence[ModelId]) -> tuple[ModelCounts, ...]:
        rows, first = [], 0
        for model_set in workload.models:
            end = first + model_set.copies
            rows.append(self._counts(model_set.name, ids[first], range(first, end)))
            first = end
        return tuple(rows)

    def _by_model(self, workload: Workload, ids: Sequence[ModelId]) -> tuple[ModelCounts, ...]:
        names = [model_set.name for model_set in workload.models for _ in range(model_set.copies)]
        return tuple(
            self._counts(name, ids[index], range(index, index + 1))
            for index, name in enumerate(names)
            if self._sent[index]
        )

    def _counts(self, name: str, model_id: ModelId, models: range) -> ModelCounts:
        return ModelCounts(
            name=name,
            model_id=model_id,
            sent=sum(self._sent[model] for model in models),
            succeeded=sum(self._succeeded[model] for model in models),
            good=sum(self._good[model] for model in models),
        )


def _upper_ns(index: int) -> int:
    """Return the largest latency that falls into bucket `index`."""
    shift = max(0, (index >> FINE_BITS) - 1)
    fine = index - (shift << FINE_BITS)
    return ((fine + 1) << (shift + GRAIN_BITS)) - 1
