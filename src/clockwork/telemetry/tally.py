"""Counts and percentiles of more values than fit into memory.

Why: exact percentiles need every value at once. Values rounded to a few significant digits have
few distinct values (900 or 9,000 per power of ten), so a count per value holds any number of rows
and merges block by block; a percentile is then right to three or four digits.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

FINE_DIGITS: Final = 4
"""Significant digits of figures about a whole log."""
COARSE_DIGITS: Final = 3
"""Significant digits of figures per model, tenant or instant, of which there are many."""

_MERGE_ROWS_MIN: Final = 500_000
"""Unmerged rows from which merging pays; below, it costs more than it frees."""
_MERGE_ROWS_MAX: Final = 500_000
"""Rows merged at once; measured: grouping takes 150 bytes per row on top of the rows."""

COUNT: Final = "count"
"""Name of the column that says how often a value was seen."""
VALUE: Final = "value"
"""Name of the column with the rounded values of a `Tally`."""


class GroupedSums:
    """Sums and maxima per group, added up from frames that hold those of a part each."""

    def __init__(self, keys: Sequence[str], *, maxima: Sequence[str] = ()) -> None:
        """Group by the columns `keys`; of `maxima` the largest is kept, the others are summed."""
        self._keys = list(keys)
        self._folds = [pl.exclude(*keys, *maxima).sum(), *(pl.col(name).max() for name in maxima)]
        self._merged: pl.DataFrame | None = None
        self._parts: list[pl.DataFrame] = []
        self._part_rows = 0

    def add(self, part: pl.DataFrame) -> None:
        """Add sums of one part: columns as in every other call."""
        self._parts.append(part)
        self._part_rows += part.height
        # Merging when the parts outgrow what is merged keeps the total work linear.
        merged_rows = 0 if self._merged is None else self._merged.height
        if self._part_rows > max(_MERGE_ROWS_MIN, merged_rows):
            self._merge()

    def frame(self) -> pl.DataFrame:
        """Return one row per group, ordered by the keys; empty and without columns if unfed."""
        self._merge()
        return pl.DataFrame() if self._merged is None else self._merged.sort(self._keys)

    def _merge(self) -> None:
        if not self._parts:
            return
        frames = self._parts if self._merged is None else [self._merged, *self._parts]
        rows = sum(frame.height for frame in frames)
        shares = 1 + rows // _MERGE_ROWS_MAX
        self._merged = pl.concat(self._folded(frames, share, shares) for share in range(shares))
        self._parts = []
        self._part_rows = 0

    def _folded(self, frames: Sequence[pl.DataFrame], share: int, shares: int) -> pl.DataFrame:
        """Return the groups of one of so many shares, which have no group in common."""
        if shares > 1:
            chosen = pl.struct(self._keys).hash() % shares == share
            frames = [frame.filter(chosen) for frame in frames]
        return pl.concat(frames).group_by(self._keys).agg(self._folds)


class Tally:
    """How often each value was seen, per group: a histogram that gives percentiles."""

    def __init__(self, keys: Sequence[str] = (), *, digits: int) -> None:
        """Keep values to `digits` significant digits, apart for each value of `keys`."""
        self._keys = list(keys)
        self._digits = digits
        self._sums = GroupedSums([*keys, VALUE])

    def add(self, frame: pl.DataFrame, value: pl.Expr) -> None:
        """Count `value` of each row of `frame`, which has the key columns."""
        rounded = value.cast(pl.Float64).round_sig_figs(self._digits).round().cast(pl.Int64)
        counted = frame.select(*self._keys, rounded.alias(VALUE)).group_by([*self._keys, VALUE])
        self._sums.add(counted.agg(pl.len().cast(pl.Int64).alias(COUNT)))

    def frame(self) -> pl.DataFrame:
        """Return keys, value and count, ordered; without rows or columns if nothing was added."""
        return self._sums.frame()

    def percentiles(self, percents: Sequence[float]) -> pl.DataFrame:
        """Return one row per group: its keys, and a column ``p<percent>`` per percentile.

        A percentile is the smallest value that at least so many percent do not exceed. The groups
        are ordered by their keys; nothing comes of an empty tally.
        """
        frame = self.frame()
        if frame.is_empty():
            return pl.DataFrame()
        keys = self._keys or ["all"]
        if not self._keys:
            frame = frame.with_columns(pl.lit(0).alias("all"))
        reached = pl.col(COUNT).cum_sum().over(keys) / pl.col(COUNT).sum().over(keys)
        frame = frame.with_columns(reached.alias("reached"))
        # Without the tolerance 99.9 % of 1,000 values would be the last one, by rounding.
        columns = [
            pl.col(VALUE)
            .filter(pl.col("reached") >= percent / 100 - 1e-12)
            .first()
            .alias(f"p{percent:g}")
            for percent in percents
        ]
        return frame.group_by(keys, maintain_order=True).agg(columns).drop("all", strict=False)
