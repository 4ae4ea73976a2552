"""The paper's panels, drawn from a report.

Source: SPEC section 10, figures 6, 9 and 10 of the paper.
"""

from collections.abc import Callable, Sequence
from math import floor, log10
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from clockwork.telemetry.plot_style import (
    BLUE,
    COLUMN_INCHES,
    GREEN,
    PAGE_INCHES,
    SKY,
    VERMILION,
    label_axes,
    legend_above,
    log_scale,
    new_figure,
    save,
    style,
    tail_scale,
)
from clockwork.telemetry.summary import Analysis, Distribution, Series

NINES_MAX: Final = 6
"""A tail goes to 99.9999 % at most."""

# Name, seconds, and the shortest run that is shown in it.
_TIME_UNITS: Final = (("h", 3600.0, 3 * 3600.0), ("min", 60.0, 5 * 60.0), ("s", 1.0, 0.0))
_TIME_STEPS: Final = {"h": [1, 2, 5, 10], "min": [1, 1.5, 3, 6, 10], "s": [1, 2, 3, 5, 10]}


def draw_all(analysis: Analysis, directory: Path) -> list[Path]:
    """Write every plot that the logs allow into `directory`; return the files written."""
    figures: dict[str, Callable[[Analysis], Figure | None]] = {
        "overview": overview,
        "latency_cdf": latency_cdf,
        "batch_sizes": batch_sizes,
        "prediction_errors": prediction_errors,
    }
    written = []
    with style():
        for name, draw in figures.items():
            figure = draw(analysis)
            if figure is not None:
                written += save(figure, directory / name)
    return written


def overview(analysis: Analysis) -> Figure:
    """Return the run over time: a panel per figure, all with the same time axis."""
    figure = new_figure(width_inches=PAGE_INCHES, height_inches=6.6)
    panels = (rates, latencies, batch_means, utilizations, models, cold_starts)
    grid = figure.subplots(3, 2, sharex=True, squeeze=False)
    for letter, axes, panel in zip("abcdef", grid.flat, panels, strict=True):
        panel(axes, analysis.report.series)
        axes.set_title(f"({letter})")
    _, unit = _time_axis(analysis.report.series)
    for axes in grid[-1]:
        axes.set_xlabel(f"time ({unit})")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=_TIME_STEPS[unit]))
    figure.align_ylabels()
    return figure


def rates(axes: Axes, series: Series) -> None:
    """Draw offered load, throughput and goodput over time."""
    at, _ = _time_axis(series)
    # In a good run all three are one line: widths keep each visible below the next.
    axes.plot(at, series.offered_per_s, color=SKY, linewidth=3.5, alpha=0.6, label="offered")
    axes.plot(at, series.throughput_per_s, color=BLUE, linewidth=1.6, label="throughput")
    axes.plot(
        at, series.goodput_per_s, color=VERMILION, linewidth=0.9, linestyle="--", label="goodput"
    )
    axes.set_ylim(bottom=0)
    label_axes(axes, y="requests/s")
    legend_above(axes)


def latencies(axes: Axes, series: Series) -> None:
    """Draw median, p99 and maximum of latency over time."""
    at, _ = _time_axis(series)
    axes.plot(at, _gaps(series.max_ms), color=VERMILION, label="max")
    axes.plot(at, _gaps(series.p99_ms), color=BLUE, linestyle="--", label="p99")
    axes.plot(at, _gaps(series.p50_ms), color=GREEN, linestyle=":", label="median")
    if any(value for value in series.max_ms):
        log_scale(axes)
    label_axes(axes, y="latency (ms)")
    legend_above(axes)


def batch_means(axes: Axes, series: Series) -> None:
    """Draw the mean batch size over time."""
    at, _ = _time_axis(series)
    axes.plot(at, _gaps(series.mean_batch_size), color=BLUE)
    axes.set_ylim(bottom=0)
    label_axes(axes, y="mean batch size (requests)")


def utilizations(axes: Axes, series: Series) -> None:
    """Draw the share of time in which GPUs execute and load, over time."""
    at, _ = _time_axis(series)
    axes.plot(at, series.infer_utilization, color=BLUE, label="infer")
    axes.plot(at, series.load_utilization, color=VERMILION, linestyle="--", label="load")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    label_axes(axes, y="utilization (%)")
    legend_above(axes)


def models(axes: Axes, series: Series) -> None:
    """Draw how many models had requests, and how many of those a cold start, over time."""
    at, _ = _time_axis(series)
    axes.plot(at, series.active_models, color=SKY, linestyle="--", label="with requests")
    axes.plot(at, series.cold_models, color=BLUE, label="with a cold start")
    axes.set_ylim(bottom=0)
    label_axes(axes, y="models")
    legend_above(axes)


def cold_starts(axes: Axes, series: Series) -> None:
    """Draw cold starts per second over time."""
    at, _ = _time_axis(series)
    axes.plot(at, series.cold_starts_per_s, color=BLUE)
    axes.set_ylim(bottom=0)
    label_axes(axes, y="cold starts/s")


def latency_cdf(analysis: Analysis) -> Figure | None:
    """Return the distribution of latency with its tail; None if nothing succeeded."""
    if not analysis.latency.counts:
        return None
    figure = new_figure(width_inches=COLUMN_INCHES)
    axes = figure.subplots()
    draw_tail(axes, analysis.latency, color=BLUE)
    axes.set_xlim(left=0)
    label_axes(axes, x="latency (ms)", y="requests that are faster (%)")
    return figure


def batch_sizes(analysis: Analysis) -> Figure | None:
    """Return the share of requests per batch size; None without a batch."""
    actions = analysis.report.actions
    if actions is None or not actions.batch_sizes:
        return None
    sizes = actions.batch_sizes
    requests = sum(size * count for size, count in sizes.items())
    figure = new_figure(width_inches=COLUMN_INCHES)
    axes = figure.subplots()
    shares = [size * count / requests for size, count in sizes.items()]
    axes.bar([str(size) for size in sizes], shares, color=BLUE, width=0.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    axes.grid(visible=False, axis="x")
    label_axes(axes, x="batch size (requests)", y="share of requests (%)")
    return figure


def prediction_errors(analysis: Analysis) -> Figure | None:
    """Return distributions of errors, a panel per action and kind; None without any."""
    keys = [(action, of) for action in ("infer", "load") for of in ("duration", "completion")]
    kept = [key for key in keys if any(_of(analysis, *key, side).counts for side in _SIDES)]
    if not kept:
        return None
    rows = -(-len(kept) // 2)
    figure = new_figure(width_inches=PAGE_INCHES, height_inches=2.3 * rows)
    grid = figure.subplots(rows, 2, squeeze=False)
    for axes in grid.flat[len(kept) :]:
        axes.remove()
    for axes, (action, of) in zip(grid.flat, kept, strict=False):
        sides = {side: _of(analysis, action, of, side) for side in _SIDES}
        label_axes(axes, x="error (ms)", y="actions below (%)", title=f"{action} {of}")
        _draw_errors(axes, {side: errors for side, errors in sides.items() if errors.counts})
    return figure


def draw_tail(
    axes: Axes,
    distribution: Distribution,
    *,
    color: str,
    linestyle: str | tuple[int, tuple[int, ...]] = "-",
    label: str = "",
) -> None:
    """Draw the share of values below each value, with 90, 99, 99.9 % at equal distances.

    The axis ends where a single value is left of those counted, at `NINES_MAX` at most.
    """
    counts = np.asarray(distribution.counts)
    not_below = np.cumsum(counts[::-1])[::-1] / counts.sum()
    # A step starts at the first value and falls to the bottom behind the last one.
    values = np.append(distribution.values_ms, distribution.values_ms[-1])
    axes.plot(
        values,
        np.append(not_below, 1e-12),
        color=color,
        linestyle=linestyle,
        label=label,
        drawstyle="steps-pre",
    )
    nines = max(1, min(NINES_MAX, floor(log10(counts.sum()))))
    shown = -log10(axes.get_ylim()[1]) if axes.get_yscale() == "log" else 0
    tail_scale(axes, nines=max(nines, round(shown)))


def _draw_errors(axes: Axes, sides: dict[str, Distribution]) -> None:
    """Draw the tail of each side; in place of lines without any length, say that there is none."""
    for side, errors in sides.items():
        colour, dashes = _SIDES[side]
        draw_tail(axes, errors, color=colour, linestyle=dashes, label=side)
    largest_ms = max(errors.values_ms[-1] for errors in sides.values())
    # Nanoseconds to a microsecond matter to nobody: the axis is linear up to there.
    axes.set_xscale("symlog", linthresh=0.001, linscale=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(left=0, right=None if largest_ms else 1)
    legend_above(axes)
    if not largest_ms:
        note = axes.text(0.5, 0.5, "every prediction exact", transform=axes.transAxes)
        note.set(ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "none"})


_SIDES: Final = {"over": (BLUE, "--"), "under": (VERMILION, "-")}


def _of(analysis: Analysis, action: str, of: str, side: str) -> Distribution:
    return analysis.errors[action, of, side]


def _gaps(values: Sequence[float | None]) -> list[float]:
    """Return values with a gap in the line where there is none."""
    return [float("nan") if value is None else value for value in values]


def _time_axis(series: Series) -> tuple[list[float], str]:
    """Return the middle of each bucket and the unit that suits the length of the run."""
    length_s = series.at_s[-1] + series.bucket_s
    unit, seconds = next((unit, size) for unit, size, least in _TIME_UNITS if length_s >= least)
    return [(at_s + series.bucket_s / 2) / seconds for at_s in series.at_s], unit
