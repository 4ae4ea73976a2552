"""What a report says about a run: plain records that become JSON, tables and plots.

Units: milliseconds (`_ms`), rates per second (`_per_s`), shares from 0 to 1.
"""

from msgspec import Struct


class LatencySummary(Struct, frozen=True):
    """Latency of the requests that succeeded; rejected and timed-out ones are not in it."""

    count: int
    min_ms: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_9_ms: float
    p99_99_ms: float
    max_ms: float


class GroupSummary(Struct, frozen=True):
    """The requests of one model or of one tenant."""

    # Model id or user id.
    id: int
    requests: int
    offered_per_s: float
    goodput_per_s: float
    slo_attainment: float
    cold_start_share: float
    # None when nothing succeeded.
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    # Models only, and only with an action log.
    mean_batch_size: float | None = None
    loads: int | None = None


class RequestSummary(Struct, frozen=True):
    """All requests of a run, by the request log."""

    requests: int
    offered_per_s: float
    # Responses that succeeded by their deadline.
    goodput_per_s: float
    # Goodput by offered load.
    slo_attainment: float
    # Requests by status: its name (its number if it is unknown) and how many.
    by_status: dict[str, int]
    # Requests that succeeded after their deadline.
    late: int
    cold_starts: int
    cold_start_share: float
    # None when nothing succeeded.
    latency: LatencySummary | None
    # Most requests first.
    models: list[GroupSummary]
    tenants: list[GroupSummary]


class GpuSummary(Struct, frozen=True):
    """One GPU: what it did and for what share of the time."""

    worker_id: int
    gpu_id: int
    infers: int
    infer_utilization: float
    loads: int
    load_utilization: float


class PredictionError(Struct, frozen=True):
    """How far predictions were off to one side, over the successful actions of a type."""

    # "infer" or "load".
    action: str
    # "duration" of the task, or instant of its "completion".
    of: str
    # "over": it took no longer than predicted; "under": it took longer.
    side: str
    count: int
    # `count` by all predictions of this action and kind.
    share: float
    # None when there are none.
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class ActionSummary(Struct, frozen=True):
    """All actions of a run, by the action log."""

    infers: int
    loads: int
    evicts: int
    # Failed actions by type and status, as in "INFER EXEC_TOO_LATE".
    failures: dict[str, int]
    # Successful Infers by batch size, ascending.
    batch_sizes: dict[int, int]
    # Sum of squares by sum: the batch size that the mean request was in. None without an Infer.
    mean_batch_size: float | None
    # Mean over the GPUs.
    infer_utilization: float
    load_utilization: float
    gpus: list[GpuSummary]
    errors: list[PredictionError]


class Series(Struct, frozen=True):
    """The run over time: one value per bucket; None where a bucket has nothing to tell."""

    bucket_s: float
    # When each bucket begins, counted from the begin of the run.
    at_s: list[float]
    offered_per_s: list[float]
    throughput_per_s: list[float]
    goodput_per_s: list[float]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    max_ms: list[float | None]
    cold_starts_per_s: list[float]
    # Models with a request, and those of them with a cold start.
    active_models: list[int]
    cold_models: list[int]
    mean_batch_size: list[float | None]
    # Mean over the GPUs.
    infer_utilization: list[float]
    load_utilization: list[float]


class Distribution(Struct, frozen=True):
    """Distinct values, ascending, and how often each was seen."""

    values_ms: list[float]
    counts: list[int]


class Report(Struct, frozen=True):
    """All figures of a run that fit on a few pages."""

    directory: str
    # Instants of the first arrival and the last departure, in ns since 1970.
    begin_ns: int
    end_ns: int
    elapsed_s: float
    # None without the log.
    requests: RequestSummary | None
    actions: ActionSummary | None
    series: Series
    # What was wrong with the logs, in sentences.
    warnings: list[str]


class Analysis(Struct, frozen=True):
    """A report, and the distributions that only plots need."""

    report: Report
    # Latency of the requests that succeeded.
    latency: Distribution
    # Sizes of errors by (action, of, side) as in `PredictionError`.
    errors: dict[tuple[str, str, str], Distribution]
