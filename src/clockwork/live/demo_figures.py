"""What the demonstration counts, second by second and in all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus

_TYPE_COLUMN: Final = 2
_STATUS_COLUMN: Final = 3


class Outcome(Struct, frozen=True):
    """What became of one request."""

    name: str
    copy: int
    # None: it was answered with an error, which `problem` names.
    latency_ms: float | None
    # Answered successfully by its deadline.
    is_in_time: bool
    is_cold: bool = False
    batch_size: int = 0
    # Only for digits.
    is_right: bool | None = None
    problem: str = ""


class Percentiles(Struct, frozen=True):
    """Of latencies, in ms; 0 where there are none."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class ModelSummary(Struct, frozen=True):
    """One row of the final table."""

    name: str
    copies: int
    slo_ms: int
    requests: int
    goodput_share: float
    cold_starts: int
    # Requests per execution.
    mean_batch: float
    latency: Percentiles


class Summary(Struct, frozen=True, kw_only=True):
    """What ``summary.json`` holds."""

    requests: int
    answered: int
    # Answers that were successes by their deadline, as a share of requests.
    goodput_share: float
    # Of the digits, as a share of those that were read.
    accuracy: float
    cold_starts: int
    evictions: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    duration_s: float
    requests_per_s: float
    # Rows of the request log; the requests before the measured part are in it too.
    logged: int
    # Requests before the measured part.
    warm_up: int
    cache_share: float
    # Messages of requests that failed, with their number.
    problems: dict[str, int]
    models: list[ModelSummary]


def percentiles(outcomes: Sequence[Outcome]) -> Percentiles:
    """Return percentiles over the requests that succeeded."""
    latencies = [each.latency_ms for each in outcomes if each.latency_ms is not None]
    if not latencies:
        return Percentiles(0.0, 0.0, 0.0)
    p50, p99, most = np.percentile(latencies, [50, 99, 100])
    return Percentiles(round(float(p50), 3), round(float(p99), 3), round(float(most), 3))


def summarise_model(name: str, outcomes: Sequence[Outcome], *, slo_ms: int) -> ModelSummary:
    """Return the row of a model; `outcomes` are those of all its copies."""
    batches = [each.batch_size for each in outcomes if each.batch_size]
    return ModelSummary(
        name=name,
        copies=len({each.copy for each in outcomes}),
        slo_ms=slo_ms,
        requests=len(outcomes),
        goodput_share=share(sum(each.is_in_time for each in outcomes), len(outcomes)),
        cold_starts=sum(each.is_cold for each in outcomes),
        # Each request of a batch of n stands for 1/n of an execution.
        mean_batch=round(len(batches) / sum(1 / size for size in batches), 2) if batches else 0.0,
        latency=percentiles(outcomes),
    )


def share(part: int, whole: int) -> float:
    """Return a share, rounded down to six digits; 0 of nothing."""
    return int(1e6 * part / whole) / 1e6 if whole else 0.0


class EvictionCounter:
    """Counts the successful evictions in an action log that is being written."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of the file; it may not be there yet."""
        self._path = path
        self._offset = 0
        self.count = 0

    def read(self) -> int:
        """Take in what was written since the last call; return the evictions so far."""
        if not self._path.exists():
            return self.count
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            columns = line.split(b"\t")
            if columns[_TYPE_COLUMN : _STATUS_COLUMN + 1] == _EVICTED:
                self.count += 1
        return self.count


_EVICTED: Final = [
    str(int(ActionType.EVICT_WEIGHTS)).encode(),
    str(int(ActionStatus.SUCCESS)).encode(),
]
