"""A run cut into equal buckets of time, for the figures that are shown over time."""

from typing import Final

import polars as pl

from clockwork.units import SECOND

POINTS_MAX: Final = 300
"""Buckets of a run; chosen: what the width of a page can show."""

_WIDTHS_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_POINTS_MIN: Final = 20


class Buckets:
    """Buckets of equal width from the begin of a run to its end."""

    def __init__(self, *, begin_ns: int, end_ns: int, width_ns: int | None = None) -> None:
        """Cut the time from `begin_ns` to `end_ns`.

        Args:
            begin_ns: first instant of the run.
            end_ns: last instant of the run; later than `begin_ns`.
            width_ns: default: a round number that gives at most `POINTS_MAX` buckets, and where
                a second or less is enough for it, at least 20.
        """
        self.begin_ns = begin_ns
        self.end_ns = end_ns
        self.width_ns = width_ns or _good_width_ns(end_ns - begin_ns)
        # A last bucket that is not half full would show nothing but noise.
        self.count = max(1, round((end_ns - begin_ns) / self.width_ns))

    def of(self, at_ns: pl.Expr) -> pl.Expr:
        """Return the column ``bucket`` for instants; the first also has what came before it."""
        return ((at_ns - self.begin_ns) // self.width_ns).clip(lower_bound=0).alias("bucket")

    def frame(self) -> pl.DataFrame:
        """Return a row per bucket: its number, when it begins, and how long it is, in s."""
        number = pl.int_range(self.count, eager=True, dtype=pl.Int64).alias("bucket")
        begin_ns = number * self.width_ns
        length_ns = (self.end_ns - self.begin_ns - begin_ns).clip(1, self.width_ns)
        return pl.DataFrame(
            {"bucket": number, "at_s": begin_ns / SECOND, "length_s": length_ns / SECOND}
        )


def _good_width_ns(elapsed_ns: int) -> int:
    at_least = max(elapsed_ns / POINTS_MAX, min(SECOND, elapsed_ns / _POINTS_MIN))
    for width_s in _WIDTHS_S:
        if width_s * SECOND >= at_least:
            return int(width_s * SECOND)
    hours = -(-at_least // (3600 * SECOND))
    return int(hours) * 3600 * SECOND
