"""Shares of satisfied requests as an SLO climbs a ladder: what figures 7 and 8 have in common."""

from collections.abc import Sequence
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


class Met(Struct, frozen=True):
    """The tightest SLO that is met."""

    multiplier: float
    # Least share of satisfied requests with that or a looser SLO.
    least: float


def tightest_met(found: Sequence[Rung]) -> Met | None:
    """Return the first rung with at least `SATISFIED`; None: there is none."""
    for index, rung in enumerate(found):
        if rung.satisfied >= SATISFIED:
            return Met(rung.multiplier, min(each.satisfied for each in found[index:]))
    return None


def met_sentence(found: Sequence[Rung], met: Met | None, *, exec_ms: float) -> str:
    """Return in words which SLO is met."""
    if met is None:
        best = max((rung.satisfied for rung in found), default=0.0)
        return f"no SLO is met by {SATISFIED:.0%}, the best one by {best:.1%}"
    told = (
        f"{SATISFIED:.0%} are satisfied from {met.multiplier:.3g} execution times "
        f"({met.multiplier * exec_ms:.1f} ms) on"
    )
    return told if met.least >= SATISFIED else f"{told}, but once only {met.least:.1%}"


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
