"""Figure 6 of the paper: ever more models share a GPU, until its memory is full and beyond.

Source: SPEC 6.2 of section 10, and 7.5 for the workload: 1,000 requests/s over a growing number of
models, 200 requests/s for one more.

Scale compresses time: all models join within a shorter ramp, each with the same share of the rate.
Below `RAMP_MIN_NS` there are fewer models and a smaller cache, in proportion.
"""

from array import array
from collections.abc import Sequence
from statistics import mean
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.workload import Stream, TraceReplay
from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.live.experiments.request_counts import RequestCounts
from clockwork.telemetry.plot_style import (
    BLUE,
    COLUMN_INCHES,
    GREEN,
    VERMILION,
    label_axes,
    log_scale,
    new_figure,
)
from clockwork.telemetry.report import read_report
from clockwork.telemetry.summary import Series
from clockwork.units import MINUTE, MS, SECOND

MODELS: Final = 3600
RAMP_NS: Final = 60 * MINUTE
RAMP_MIN_NS: Final = 100 * SECOND
"""Chosen: with more than 36 new models per second, their first loads are all that is seen."""
LEAD_IN_SHARE: Final = 1 / 20
"""Of the ramp, with the minor model alone. The paper has a quarter, in which nothing happens."""
LEAD_IN: Final = 300
"""Intervals of silence that `bursty_experiment` begins with; replaced by our own."""
MAJOR_PER_S: Final = 1000.0
MINOR_PER_S: Final = 200.0
POINTS: Final = 200
"""Buckets of the plot; the paper has 450."""
HELD_BY_REAL: Final = 24
"""Models that fit the cache of a real device: enough to see it overflow, at 1 GiB."""


class Figures(Struct, frozen=True):
    """Everything in Figure 6. Lists have a value per bucket; None: nothing to tell."""

    bucket_s: float
    # Models that fit into the weights cache, and when so many were active, counted from the begin.
    models_held: int
    full_at_s: float
    at_s: list[float]
    active_models: list[float]
    goodput_per_s: list[float]
    offered_per_s: list[float]
    minor_goodput_per_s: list[float]
    minor_offered_per_s: list[float]
    p50_ms: list[float | None]
    max_ms: list[float | None]
    cold_start_share: list[float]
    load_utilization: list[float]
    infer_utilization: list[float]


class Ramp(Struct, frozen=True):
    """How fast models join."""

    models: int
    # Models that fit the cache.
    held: int
    lead_in_ns: int
    interval_ns: int

    @property
    def length_ns(self) -> int:
        """Of the whole run."""
        return self.lead_in_ns + self.models * self.interval_ns

    def active(self, at_s: float) -> float:
        """Return how many major models are active at an instant of the run."""
        since_ns = at_s * SECOND - self.lead_in_ns
        return min(self.models, max(0.0, since_ns / self.interval_ns))


def ramp(setting: Setting) -> Ramp:
    """Return the ramp for a scale."""
    length_ns = max(RAMP_NS * setting.scale, SECOND)
    share = min(1.0, length_ns / RAMP_MIN_NS)
    models = max(10, round(MODELS * share))
    pages = setting.models.pages
    held = setting.cluster(1, models_held=HELD_BY_REAL).cache_pages // pages
    if setting.models.is_real:
        models = models * HELD_BY_REAL // 200
    return Ramp(
        models=models,
        held=max(2, round(held * share)),
        lead_in_ns=round(length_ns * LEAD_IN_SHARE),
        interval_ns=round(length_ns / models),
    )


def plan(setting: Setting) -> list[Run]:
    """Return the one run."""
    chosen = ramp(setting)
    workload = setting.workload("bursty_experiment", {"n": chosen.models})
    streams = tuple(_compressed(stream, chosen, setting) for stream in workload.streams)
    cluster = setting.cluster(1, models_held=HELD_BY_REAL)
    cache_bytes = chosen.held * setting.models.pages * cluster.page_bytes
    return [
        Run(
            name="bursty",
            label=f"{chosen.models} models one after the other",
            cluster=replace(cluster, cache_bytes=cache_bytes),
            workload=replace(workload, streams=streams, notes=(), duration_ns=chosen.length_ns),
            length_ns=chosen.length_ns,
            sends_inputs=setting.sends_inputs,
        )
    ]


def _compressed(stream: Stream, chosen: Ramp, setting: Setting) -> Stream:
    """Return a stream of the workload as it is played on a shorter ramp and this machine."""
    arrivals = stream.arrivals
    if not isinstance(arrivals, TraceReplay):
        return replace(stream, arrivals=replace(arrivals, rate_per_s=_rate(setting, MINOR_PER_S)))
    return replace(
        stream,
        arrivals=replace(
            arrivals,
            counts=array("I", arrivals.counts[LEAD_IN:]),
            interval_ns=chosen.interval_ns,
            scale=_rate(setting, 1.0),
        ),
        start_after_ns=chosen.lead_in_ns,
    )


def _rate(setting: Setting, per_s: float) -> float:
    return setting.rate(per_s, 1)


def evaluate(setting: Setting, runs: Sequence[Done]) -> Evaluation:
    """Return the run over time."""
    done = runs[0]
    figures = measure(done, ramp(setting))
    slo_ms = done.run.cluster.default_slo_ns / MS
    return Evaluation(
        figures=figures,
        findings=findings(figures, slo_ms),
        drawings={"fig6": lambda: draw(figures, slo_ms)},
    )


def measure(done: Done, chosen: Ramp) -> Figures:
    """Return what the logs tell, in `POINTS` buckets for a whole run."""
    bucket_ns = max(50 * MS, chosen.length_ns // POINTS)
    series = read_report(done.logs, bucket_ns=bucket_ns).report.series
    counts = RequestCounts(done.logs)
    by_bucket = counts.by(counts.period(bucket_ns), _is_minor(chosen.models))
    minor = [by_bucket.get((index, 1)) for index in range(len(series.at_s))]
    bucket_s = series.bucket_s
    return Figures(
        bucket_s=bucket_s,
        models_held=chosen.held,
        full_at_s=(chosen.lead_in_ns + chosen.held * chosen.interval_ns) / SECOND,
        at_s=series.at_s,
        active_models=[chosen.active(at_s + bucket_s / 2) for at_s in series.at_s],
        goodput_per_s=series.goodput_per_s,
        offered_per_s=series.offered_per_s,
        minor_goodput_per_s=[each.good / bucket_s if each else 0.0 for each in minor],
        minor_offered_per_s=[each.requests / bucket_s if each else 0.0 for each in minor],
        p50_ms=series.p50_ms,
        max_ms=series.max_ms,
        cold_start_share=_cold_shares(series),
        load_utilization=series.load_utilization,
        infer_utilization=series.infer_utilization,
    )


def _is_minor(models: int) -> pl.Expr:
    return (pl.col("user_id") == models).cast(pl.Int64)


def _cold_shares(series: Series) -> list[float]:
    return [
        cold / offered if offered else 0.0
        for cold, offered in zip(series.cold_starts_per_s, series.offered_per_s, strict=True)
    ]


def findings(figures: Figures, slo_ms: float) -> list[str]:
    """Return what the run over time shows."""
    before = [
        index
        for index, at_s in enumerate(figures.at_s)
        if figures.active_models[index] >= 1 and at_s < figures.full_at_s
    ]
    after = [index for index, at_s in enumerate(figures.at_s) if at_s >= figures.full_at_s]
    minor_offered = sum(figures.minor_offered_per_s)
    minor_share = sum(figures.minor_goodput_per_s) / minor_offered if minor_offered else 0.0
    slowest = max((value for value in figures.max_ms if value is not None), default=0.0)
    held, full_at_s = figures.models_held, figures.full_at_s
    lines = [f"{held} models fit into the weights cache; so many are active at {full_at_s:.0f} s."]
    if before:
        lines.append(f"Until then {_means(figures, before)}.")
    if len(after) >= 5:
        last = after[-max(1, len(after) // 5) :]
        lines.append(
            f"In the last fifth of the time after it, with {figures.active_models[last[0]]:.0f} "
            f"and more active models, {_means(figures, last)}."
        )
    lines.append(
        f"{minor_share:.1%} of the minor model's requests were satisfied throughout. The slowest "
        f"success took {slowest:.1f} ms (SLO {slo_ms:g} ms)."
    )
    return lines


def _means(figures: Figures, buckets: Sequence[int]) -> str:
    def over(values: Sequence[float]) -> float:
        return mean(values[index] for index in buckets)

    return (
        f"goodput is {over(figures.goodput_per_s):.0f} of {over(figures.offered_per_s):.0f} "
        f"requests/s, {over(figures.cold_start_share):.1%} are cold starts, PCIe is busy for "
        f"{over(figures.load_utilization):.0%} and the GPU for "
        f"{over(figures.infer_utilization):.0%} of the time"
    )


def draw(figures: Figures, slo_ms: float) -> Figure:
    """Return five panels over the same time."""
    figure = new_figure(width_inches=COLUMN_INCHES, height_inches=6.4)
    grid = figure.subplots(5, 1, sharex=True)
    middle = [at_s + figures.bucket_s / 2 for at_s in figures.at_s]
    rates, latency, cold, busy, active = grid
    rates.plot(middle, figures.goodput_per_s, color=BLUE, label="all")
    rates.plot(
        middle, figures.minor_goodput_per_s, color=VERMILION, linestyle="--", label="minor model"
    )
    label_axes(rates, y="goodput\n(requests/s)", title="(a)")
    latency.plot(middle, _gaps(figures.max_ms), color=VERMILION, linestyle="--", label="max")
    latency.plot(middle, _gaps(figures.p50_ms), color=BLUE, label="median")
    latency.axhline(slo_ms, color="black", linewidth=0.6, linestyle=":", label="SLO")
    log_scale(latency)
    label_axes(latency, y="latency\n(ms)", title="(b)")
    cold.plot(middle, figures.cold_start_share, color=BLUE)
    label_axes(cold, y="cold starts\n(% of requests)", title="(c)")
    busy.plot(middle, figures.infer_utilization, color=BLUE, label="GPU")
    busy.plot(middle, figures.load_utilization, color=VERMILION, linestyle="--", label="PCIe")
    label_axes(busy, y="busy\n(% of time)", title="(d)")
    for axes in (cold, busy):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
    active.plot(middle, figures.active_models, color=BLUE)
    label_axes(active, x="time (s)", y="active\nmodels", title="(e)")
    for axes in grid:
        _finish(axes, figures)
    figure.align_ylabels(grid)
    return figure


def _finish(axes: Axes, figures: Figures) -> None:
    """Mark when the memory was full, and name the lines where there are several."""
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.axvline(figures.full_at_s, color=GREEN, linewidth=0.8, linestyle="-.")
    axes.margins(x=0.01)
    if len(axes.get_legend_handles_labels()[1]):
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1)


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


FIG6: Experiment = Experiment(
    name="fig6",
    title="Thousands of models on one GPU",
    paper=(
        "1,000 requests/s are spread over one more copy of ResNet-50 every second, up to 3,600 on "
        "one GPU, beside a minor model with 200 requests/s. The GPU's memory is full at about 201 "
        "models. From there on cold starts become frequent and PCIe, not the GPU, limits goodput; "
        "answers still come within 100 ms, and the minor model is not affected."
    ),
    differences=(
        "The ramp is shorter at a scale below 1: models join faster than one per second.",
        "The green line marks when as many models are active as fit into the weights cache.",
    ),
    default_scale=1 / 16,
    plan=plan,
    evaluate=evaluate,
)
"""Figure 6."""
