"""Adds up a request log, block by block, into its part of a report.

Source: SPEC 6.1 (columns), section 10 (what the paper plots).
"""

from typing import Final

import polars as pl

from clockwork.messages.status import Status
from clockwork.telemetry.buckets import Buckets
from clockwork.telemetry.summary import (
    Distribution,
    GroupSummary,
    LatencySummary,
    RequestSummary,
)
from clockwork.telemetry.tally import (
    COARSE_DIGITS,
    COUNT,
    FINE_DIGITS,
    VALUE,
    GroupedSums,
    Tally,
)
from clockwork.units import MS

REQUEST_COLUMNS: Final = (
    "t",
    "result",
    "user_id",
    "model_id",
    "latency",
    "deadline_met",
    "is_coldstart",
)
"""Columns of the request log that a report needs."""

_SUCCEEDED: Final = pl.col("result") == int(Status.SUCCESS)
_SUMS: Final = (
    pl.len().cast(pl.Int64).alias("requests"),
    pl.col("is_good").sum().cast(pl.Int64).alias("good"),
    pl.col("is_coldstart").sum().alias("cold"),
    pl.col("latency").filter(_SUCCEEDED).sum().alias("latency_sum"),
    pl.col("latency").filter(_SUCCEEDED).max().alias("latency_max"),
    pl.col("latency").filter(_SUCCEEDED).min().neg().alias("latency_neg_min"),
)
_MAXIMA: Final = ("latency_max", "latency_neg_min")


class RequestTotals:
    """What is known of a request log so far."""

    def __init__(self, buckets: Buckets) -> None:
        """Start from nothing.

        Args:
            buckets: of the run over time.
        """
        self._buckets = buckets
        self._by_status = GroupedSums(["result"], maxima=_MAXIMA)
        self._latency = Tally(digits=FINE_DIGITS)
        self._groups = {
            key: (GroupedSums([key], maxima=_MAXIMA), Tally([key], digits=COARSE_DIGITS))
            for key in ("model_id", "user_id")
        }
        self._arrivals = GroupedSums(["bucket"])
        self._arrivals_of_models = GroupedSums(["bucket", "model_id"])
        self._departures = GroupedSums(["bucket"], maxima=_MAXIMA)
        self._bucket_latency = Tally(["bucket"], digits=COARSE_DIGITS)

    def add(self, frame: pl.DataFrame) -> None:
        """Add rows that have `REQUEST_COLUMNS`."""
        is_good = _SUCCEEDED & (pl.col("deadline_met") == 1)
        frame = frame.with_columns(is_good.alias("is_good"))
        succeeded = frame.filter(_SUCCEEDED)
        latency = pl.col("latency")
        self._by_status.add(frame.group_by("result").agg(_SUMS))
        self._latency.add(succeeded, latency)
        for key, (sums, tally) in self._groups.items():
            sums.add(frame.group_by(key).agg(_SUMS))
            tally.add(succeeded, latency)
        arrived = frame.with_columns(self._buckets.of(pl.col("t")))
        self._arrivals.add(arrived.group_by("bucket").agg(_SUMS[0], _SUMS[2]))
        self._arrivals_of_models.add(arrived.group_by("bucket", "model_id").agg(_SUMS[2]))
        departed = frame.with_columns(self._buckets.of(pl.col("t") + latency))
        self._departures.add(departed.group_by("bucket").agg(_SUMS))
        self._bucket_latency.add(departed.filter(_SUCCEEDED), latency)

    def summary(self, elapsed_s: float) -> RequestSummary:
        """Return all figures of a run of `elapsed_s` seconds; more than 0."""
        statuses = self._by_status.frame().to_dicts()
        requests = sum(row["requests"] for row in statuses)
        good = sum(row["good"] for row in statuses)
        cold = sum(row["cold"] for row in statuses)
        succeeded = sum(row["requests"] for row in statuses if row["result"] == Status.SUCCESS)
        return RequestSummary(
            requests=requests,
            offered_per_s=requests / elapsed_s,
            goodput_per_s=good / elapsed_s,
            slo_attainment=good / requests if requests else 0.0,
            by_status={_status_name(row["result"]): row["requests"] for row in statuses},
            late=succeeded - good,
            cold_starts=cold,
            cold_start_share=cold / requests if requests else 0.0,
            latency=self._latency_summary(),
            models=self._group_summaries("model_id", elapsed_s),
            tenants=self._group_summaries("user_id", elapsed_s),
        )

    def distribution(self) -> Distribution:
        """Return the latencies of the requests that succeeded."""
        return distribution(self._latency.frame())

    def series(self) -> pl.DataFrame:
        """Return one row per bucket of the run with everything that requests tell."""
        departures = self._departures.frame()
        latencies = self._bucket_latency.percentiles((50, 99))
        models = self._arrivals_of_models.frame()
        arrivals = self._arrivals.frame()
        if departures.is_empty():
            return self._buckets.frame()
        active = models.group_by("bucket").agg(
            pl.len().alias("active_models"), (pl.col("cold") > 0).sum().alias("cold_models")
        )
        joined = (
            self._buckets.frame()
            .join(arrivals.rename({"requests": "offered"}), on="bucket", how="left")
            .join(departures.drop("cold"), on="bucket", how="left")
            .join(active, on="bucket", how="left")
        )
        return joined.join(latencies, on="bucket", how="left") if len(latencies) else joined

    def _latency_summary(self) -> LatencySummary | None:
        percentiles = self._latency.percentiles((50, 90, 99, 99.9, 99.99))
        if percentiles.is_empty():
            return None
        succeeded = self._by_status.frame().filter(_SUCCEEDED).to_dicts()[0]
        low, high = -succeeded["latency_neg_min"], succeeded["latency_max"]
        at = {name: _between(value, low, high) for name, value in percentiles.to_dicts()[0].items()}
        return LatencySummary(
            count=succeeded["requests"],
            min_ms=low / MS,
            mean_ms=succeeded["latency_sum"] / succeeded["requests"] / MS,
            p50_ms=at["p50"] / MS,
            p90_ms=at["p90"] / MS,
            p99_ms=at["p99"] / MS,
            p99_9_ms=at["p99.9"] / MS,
            p99_99_ms=at["p99.99"] / MS,
            max_ms=high / MS,
        )

    def _group_summaries(self, key: str, elapsed_s: float) -> list[GroupSummary]:
        sums, tally = self._groups[key]
        frame, percentiles = sums.frame(), tally.percentiles((50, 99))
        if len(percentiles):
            frame = frame.join(percentiles, on=key, how="left")
        if frame.is_empty():
            return []
        rows = frame.sort(["requests", key], descending=[True, False]).to_dicts()
        return [_group_summary(row, key, elapsed_s) for row in rows]


def distribution(frame: pl.DataFrame) -> Distribution:
    """Return a tally's rows as a distribution; empty if the tally is."""
    if frame.is_empty():
        return Distribution(values_ms=[], counts=[])
    return Distribution(values_ms=(frame[VALUE] / MS).to_list(), counts=frame[COUNT].to_list())


def _group_summary(row: dict[str, int], key: str, elapsed_s: float) -> GroupSummary:
    high = row["latency_max"]
    percentiles = [row.get("p50"), row.get("p99")]
    p50_ms, p99_ms = (None if ns is None else min(ns, high) / MS for ns in percentiles)
    return GroupSummary(
        id=row[key],
        requests=row["requests"],
        offered_per_s=row["requests"] / elapsed_s,
        goodput_per_s=row["good"] / elapsed_s,
        slo_attainment=row["good"] / row["requests"],
        cold_start_share=row["cold"] / row["requests"],
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        max_ms=None if high is None else high / MS,
    )


def _between(value: int, low: int, high: int) -> int:
    """Return `value` without what rounding to digits put beyond the exact extremes."""
    return max(low, min(value, high))


def _status_name(number: int) -> str:
    return Status(number).name if number in set(Status) else str(number)
