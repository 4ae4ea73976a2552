"""Counts of requests by anything that a request log tells, in one pass over a log of any size."""

from pathlib import Path
from typing import Final

import polars as pl
from msgspec import Struct

from clockwork.messages.status import Status
from clockwork.telemetry.log_reader import LogReader
from clockwork.telemetry.rows import REQUEST_LOG
from clockwork.telemetry.tally import GroupedSums

_COLUMNS: Final = ("t", "result", "user_id", "slo_factor", "latency", "deadline_met")
_SUCCEEDED: Final = pl.col("result") == int(Status.SUCCESS)


class Counts(Struct, frozen=True):
    """Requests, those that succeeded, and those that did so by their deadline."""

    requests: int = 0
    succeeded: int = 0
    good: int = 0

    @property
    def share(self) -> float:
        """Share of the requests that were satisfied; 0 without any."""
        return self.good / self.requests if self.requests else 0.0


class RequestCounts:
    """Counts of one request log by groups."""

    def __init__(self, logs: Path) -> None:
        """Look at the log in the folder `logs`.

        Raises:
            ConfigurationError: there is no request log.
        """
        self._path = logs / REQUEST_LOG
        span = self._reader().span()
        # When the first request arrived; 0 if there is none.
        self.begin_ns = span[0] if span else 0

    def total(self) -> Counts:
        """Return the counts of all requests."""
        return self.by(pl.lit(0)).get((0,), Counts())

    def by(self, *keys: pl.Expr) -> dict[tuple[float, ...], Counts]:
        """Return counts per tuple of values of `keys`, ordered by them."""
        names = [f"key{index}" for index in range(len(keys))]
        sums = GroupedSums(names)
        for frame in self._reader().frames():
            keyed = frame.with_columns(
                *(key.alias(name) for name, key in zip(names, keys, strict=True))
            )
            sums.add(
                keyed.group_by(names).agg(
                    pl.len().cast(pl.Int64).alias("requests"),
                    _SUCCEEDED.sum().cast(pl.Int64).alias("succeeded"),
                    (_SUCCEEDED & (pl.col("deadline_met") == 1)).sum().cast(pl.Int64).alias("good"),
                )
            )
        return {
            tuple(row[name] for name in names): Counts(
                row["requests"], row["succeeded"], row["good"]
            )
            for row in sums.frame().to_dicts()
        }

    def period(self, length_ns: int) -> pl.Expr:
        """Return the key that says in which period of `length_ns` a request arrived, from 0."""
        return (pl.col("t") - self.begin_ns) // length_ns

    def _reader(self) -> LogReader:
        return LogReader(self._path, _COLUMNS)
