"""Adds up an action log, block by block, into its part of a report.

Source: SPEC 6.2 (columns), section 10 (what the paper plots). A prediction is *over* when the
action took no longer than predicted and *under* when it took longer: the first wastes time of a
GPU, the second endangers deadlines.
"""

from typing import Final

import polars as pl

from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus
from clockwork.telemetry.buckets import Buckets
from clockwork.telemetry.request_summary import distribution
from clockwork.telemetry.summary import ActionSummary, Distribution, GpuSummary, PredictionError
from clockwork.telemetry.tally import FINE_DIGITS, GroupedSums, Tally
from clockwork.units import MS, SECOND

ACTION_COLUMNS: Final = (
    "t",
    "action_type",
    "status",
    "worker_id",
    "gpu_id",
    "model_id",
    "batch_size",
    "expected_exec_duration",
    "worker_exec_duration",
    "expected_exec_complete",
    "worker_exec_complete",
)
"""Columns of the action log that a report needs."""

_KINDS: Final = {"infer": ActionType.INFER, "load": ActionType.LOAD_WEIGHTS}
_PREDICTED: Final = {"duration": "exec_duration", "completion": "exec_complete"}
_IS_INFER: Final = pl.col("action_type") == int(ActionType.INFER)
_BATCH: Final = pl.col("batch_size").filter(_IS_INFER)
_BATCH_SUMS: Final = (
    _BATCH.sum().alias("batched"),
    (_BATCH * _BATCH).sum().alias("batched_squared"),
)
_BUSY_SUMS: Final = tuple(
    expression
    for kind, number in _KINDS.items()
    for expression in (
        (pl.col("action_type") == int(number)).sum().cast(pl.Int64).alias(f"{kind}s"),
        pl.col("worker_exec_duration")
        .filter(pl.col("action_type") == int(number))
        .sum()
        .alias(f"{kind}_busy_ns"),
    )
)


class ActionTotals:
    """What is known of an action log so far."""

    def __init__(self, buckets: Buckets) -> None:
        """Start from nothing.

        Args:
            buckets: of the run over time.
        """
        self._buckets = buckets
        self._outcomes = GroupedSums(["action_type", "status"])
        self._batch_sizes = GroupedSums(["batch_size"])
        self._gpus = GroupedSums(["worker_id", "gpu_id"])
        self._models = GroupedSums(["model_id"])
        self._series = GroupedSums(["bucket"])
        self._errors = Tally(["action_type", "of", "side"], digits=FINE_DIGITS)
        self._largest_errors = GroupedSums(["action_type", "of", "side"], maxima=["max_ns"])

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows that have `ACTION_COLUMNS`."""
        count = pl.len().cast(pl.Int64).alias("count")
        self._outcomes.add(frame.group_by("action_type", "status").agg(count))
        done = frame.filter(
            pl.col("status") == int(ActionStatus.SUCCESS),
            pl.col("action_type").is_in([int(number) for number in _KINDS.values()]),
        )
        self._batch_sizes.add(done.filter(_IS_INFER).group_by("batch_size").agg(count))
        self._gpus.add(done.group_by("worker_id", "gpu_id").agg(_BUSY_SUMS))
        self._models.add(done.group_by("model_id").agg(*_BUSY_SUMS, *_BATCH_SUMS))
        ended = done.with_columns(self._buckets.of(pl.col("t") + pl.col("worker_exec_complete")))
        self._series.add(ended.group_by("bucket").agg(*_BUSY_SUMS, *_BATCH_SUMS))
        for of, column in _PREDICTED.items():
            self._add_errors(done, of, column)

    def summary(self, elapsed_s: float) -> ActionSummary:
        """Return all figures of a run of `elapsed_s` seconds; more than 0."""
        outcomes = self._outcomes.frame().to_dicts()
        gpus = [_gpu(row, elapsed_s) for row in self._gpus.frame().to_dicts()]
        batch_sizes = {
            row["batch_size"]: row["count"] for row in self._batch_sizes.frame().to_dicts()
        }
        return ActionSummary(
            infers=_successes(outcomes, ActionType.INFER),
            loads=_successes(outcomes, ActionType.LOAD_WEIGHTS),
            evicts=_successes(outcomes, ActionType.EVICT_WEIGHTS),
            failures={
                f"{_name(ActionType, row['action_type'])} {_name(ActionStatus, row['status'])}": (
                    row["count"]
                )
                for row in outcomes
                if row["status"] != ActionStatus.SUCCESS
            },
            batch_sizes=batch_sizes,
            mean_batch_size=mean_batch_size(batch_sizes),
            infer_utilization=_mean([gpu.infer_utilization for gpu in gpus]),
            load_utilization=_mean([gpu.load_utilization for gpu in gpus]),
            gpus=gpus,
            errors=self._error_summaries(),
        )

    def models(self) -> dict[int, tuple[float | None, int]]:
        """Return each model's mean batch size (None without an Infer) and its loads."""
        return {
            row["model_id"]: (
                row["batched_squared"] / row["batched"] if row["batched"] else None,
                row["loads"],
            )
            for row in self._models.frame().to_dicts()
        }

    def series(self) -> pl.DataFrame:
        """Return one row per bucket of the run with everything that actions tell."""
        series = self._series.frame()
        frame = self._buckets.frame()
        if series.is_empty():
            return frame
        gpus = self._gpus.frame().height
        joined = frame.join(series, on="bucket", how="left")
        capacity_ns = pl.col("length_s") * SECOND * gpus
        return joined.with_columns(
            (pl.col("batched_squared") / pl.col("batched")).alias("mean_batch_size"),
            (pl.col("infer_busy_ns") / capacity_ns).alias("infer_utilization"),
            (pl.col("load_busy_ns") / capacity_ns).alias("load_utilization"),
        )

    def distributions(self) -> dict[tuple[str, str, str], Distribution]:
        """Return the sizes of errors by action, kind and side, all eight, in a fixed order."""
        frame = self._errors.frame()
        return {
            (kind, of, side): distribution(_chosen(frame, number, of, side))
            for kind, number in _KINDS.items()
            for of in _PREDICTED
            for side in ("over", "under")
        }

    def _add_errors(self, done: pl.DataFrame, of: str, column: str) -> None:
        """Count errors of actions that were predicted at all."""
        error = pl.col(f"worker_{column}") - pl.col(f"expected_{column}")
        errors = done.filter(pl.col(f"expected_{column}") > 0).select(
            "action_type",
            pl.lit(of).alias("of"),
            pl.when(error > 0).then(pl.lit("under")).otherwise(pl.lit("over")).alias("side"),
            error.abs().alias("error_ns"),
        )
        self._errors.add(errors, pl.col("error_ns"))
        by_side = errors.group_by("action_type", "of", "side")
        self._largest_errors.add(
            by_side.agg(
                pl.len().cast(pl.Int64).alias("count"), pl.col("error_ns").max().alias("max_ns")
            )
        )

    def _error_summaries(self) -> list[PredictionError]:
        percentiles = self._errors.percentiles((50, 99))
        largest = self._largest_errors.frame()
        keys = ["action_type", "of", "side"]
        frame = largest.join(percentiles, on=keys) if len(percentiles) else largest
        return [
            _error_summary(frame, kind, of, side)
            for kind in _KINDS
            for of in _PREDICTED
            for side in ("over", "under")
        ]


def mean_batch_size(batch_sizes: dict[int, int]) -> float | None:
    """Return the batch size that the mean request was in; None without a batch.

    The paper's figure: the sum of squares by the sum.
    """
    requests = sum(size * count for size, count in batch_sizes.items())
    if not requests:
        return None
    return sum(size * size * count for size, count in batch_sizes.items()) / requests


def _error_summary(frame: pl.DataFrame, kind: str, of: str, side: str) -> PredictionError:
    """Return one of the eight lines about errors; `frame` has a row per line that is not empty."""
    both = [row for each in ("over", "under") for row in _rows(frame, kind, of, each)]
    row = next(iter(_rows(frame, kind, of, side)), None)
    count = row["count"] if row else 0
    return PredictionError(
        action=kind,
        of=of,
        side=side,
        count=count,
        share=count / sum(each["count"] for each in both) if both else 0.0,
        p50_ms=min(row["p50"], row["max_ns"]) / MS if row else None,
        p99_ms=min(row["p99"], row["max_ns"]) / MS if row else None,
        max_ms=row["max_ns"] / MS if row else None,
    )


def _rows(frame: pl.DataFrame, kind: str, of: str, side: str) -> list[dict[str, int]]:
    return _chosen(frame, _KINDS[kind], of, side).to_dicts()


def _chosen(frame: pl.DataFrame, number: ActionType, of: str, side: str) -> pl.DataFrame:
    if frame.is_empty():
        return frame
    return frame.filter(
        pl.col("action_type") == int(number), pl.col("of") == of, pl.col("side") == side
    )


def _gpu(row: dict[str, int], elapsed_s: float) -> GpuSummary:
    elapsed_ns = elapsed_s * SECOND
    return GpuSummary(
        worker_id=row["worker_id"],
        gpu_id=row["gpu_id"],
        infers=row["infers"],
        infer_utilization=row["infer_busy_ns"] / elapsed_ns,
        loads=row["loads"],
        load_utilization=row["load_busy_ns"] / elapsed_ns,
    )


def _successes(outcomes: list[dict[str, int]], kind: ActionType) -> int:
    return sum(
        row["count"]
        for row in outcomes
        if row["action_type"] == kind and row["status"] == ActionStatus.SUCCESS
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _name(kind: type[ActionType] | type[ActionStatus], number: int) -> str:
    return kind(number).name if number in set(kind) else str(number)
