"""Shares of satisfied requests as an SLO climbs a ladder: what figures 7 and 8 have in common."""

from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from msgspec import Struct

from clockwork.live.experiments.plan import Done
from clockwork.live.experiments.request_counts import RequestCounts
from clockwork.units import SECOND

START: Final = 1
END: Final = 100
FACTOR: Final = 1.5
PERIOD_S: Final = 30.0
SATISFIED: Final = 0.99
"""Share from which the findings speak of an SLO that is met."""

_TICKS: Final = (1, 2, 5, 10, 20, 50, 100)


class Rung(Struct, frozen=True):
    """One SLO of the ladder."""

    # SLO in execution times of the model.
    multiplier: float
    requests: int
    # Share of the requests that were answered by their deadline.
    satisfied: float


def multipliers() -> list[float]:
    """Return all multipliers of the ladder."""
    values, value = [], float(START)
    while value <= END:
        values.append(value)
        value *= FACTOR
    return values


def ladder_values(scale: float) -> dict[str, int | float | str]:
    """Return the ladder's part of a workload's parameters; `scale` shortens the periods."""
    return {
        "slo-start": START,
        "slo-end": float(END),
        "slo-factor": FACTOR,
        "slo-op": "mul",
        "period": PERIOD_S * scale,
    }


def period_ns(scale: float) -> int:
    """Return how long an SLO lasts."""
    return round(PERIOD_S * scale * SECOND)


def rungs(done: Done) -> list[Rung]:
    """Return what each SLO came to; requests without a multiplier are left out."""
    by_factor = RequestCounts(done.logs).by(pl.col("slo_factor"))
    return [
        Rung(multiplier=factor, requests=counts.requests, satisfied=counts.share)
        for (factor,), counts in by_factor.items()
        if factor > 0
    ]


def met_from(found: list[Rung]) -> float | None:
    """Return the multiplier from which on all are `SATISFIED`; None: not even the last one."""
    met = None
    for rung in reversed(found):
        if rung.satisfied < SATISFIED:
            break
        met = rung.multiplier
    return met


def multiplier_axis(axes: Axes, *, label: str = "") -> None:
    """Make the x axis one of multipliers."""
    axes.set_xscale("log")
    axes.set_xlim(0.95, 105)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def share_axis(axes: Axes, *, label: str = "") -> None:
    """Make the y axis one of shares in percent."""
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    axes.set_ylabel(label)
