"""Figure 8 of the paper: clients with tight SLOs beside clients that want throughput.

Source: SPEC 6.4 of section 10: six latency-sensitive models whose SLO grows from 1 to 100 execution
times by half every 30 s; beside them M batch models with C requests in flight each and no SLO.

The rate of 200 requests/s is one per model, as the paper means it; the original's workload splits
it between the models.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.workload import Stream
from clockwork.live.experiments import slo_ladder
from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.live.experiments.request_counts import RequestCounts
from clockwork.live.experiments.slo_ladder import Met, Rung
from clockwork.telemetry.plot_style import BLUE, PAGE_INCHES, VERMILION, new_figure
from clockwork.units import MS, SECOND

GPUS: Final = 6
SENSITIVE: Final = 6
RATE_PER_S: Final = 200.0
BACKGROUNDS: Final = ((0, 0), (12, 16), (48, 4))
"""Batch models, and requests in flight of each."""
SCHEDULE_AHEAD_NS: Final = 5 * MS
BATCH_SLO_NS: Final = 86_400 * SECOND
"""The controller's default: a day, which is none."""
WINDOWS_PER_RUNG: Final = 6
"""The paper's windows of 5 s in periods of 30 s."""
BACKGROUND_DELAY: Final = 1 / 3
"""When batch models join, in periods: the paper's 10 s."""


class Mix(Struct, frozen=True):
    """One column of the figure. Lists have a value per window."""

    batch_models: int
    concurrency: int
    window_s: float
    at_s: list[float]
    satisfied: list[float]
    batch_throughput_per_s: list[float]
    rungs: list[Rung]
    # None: no SLO is met.
    tightest_met: Met | None
    # Mean of the batch models' answers, after they have all joined.
    batch_mean_per_s: float


class Figures(Struct, frozen=True):
    """Everything in Figure 8."""

    exec_ms: float
    # Execution time of the largest batch.
    largest_batch_ms: float
    period_s: float
    mixes: list[Mix]


def plan(setting: Setting) -> list[Run]:
    """Return a run per background."""
    return [_run(setting, models, concurrency) for models, concurrency in BACKGROUNDS]


def _run(setting: Setting, models: int, concurrency: int) -> Run:
    workload = setting.workload(
        "slo-exp-2",
        {
            "model": setting.models.base,
            "copies-fg": SENSITIVE,
            "dist": "poisson",
            "rate-fg": setting.rate(SENSITIVE * RATE_PER_S, GPUS),
            **slo_ladder.ladder_values(setting.scale),
            "copies-bg": models,
            "conc-bg": concurrency,
            "slo-bg": 0.0,
        },
    )
    period_ns = slo_ladder.period_ns(setting.scale)
    streams = tuple(
        _delayed(stream, round(BACKGROUND_DELAY * period_ns)) for stream in workload.streams
    )
    cluster = setting.cluster(GPUS, models_held=SENSITIVE + models)
    return Run(
        name=_name(models, concurrency),
        label=_label(models, concurrency),
        cluster=replace(cluster, schedule_ahead_ns=SCHEDULE_AHEAD_NS, default_slo_ns=BATCH_SLO_NS),
        workload=replace(workload, streams=streams),
        length_ns=len(slo_ladder.multipliers()) * period_ns,
        sends_inputs=setting.sends_inputs,
    )


def _name(models: int, concurrency: int) -> str:
    return f"batch-{models}x{concurrency}"


def _label(models: int, concurrency: int) -> str:
    return f"{models} batch models x {concurrency} in flight" if models else "no batch models"


def _delayed(stream: Stream, delay_ns: int) -> Stream:
    """Return a stream of the background with its delay in proportion to the periods."""
    return replace(stream, start_after_ns=delay_ns) if stream.start_after_ns else stream


def evaluate(setting: Setting, runs: Sequence[Done]) -> Evaluation:
    """Return what both kinds of clients got over time."""
    period_ns = slo_ladder.period_ns(setting.scale)
    done_by_name = {done.run.name: done for done in runs}
    mixes = [
        _mix(done, models, concurrency, period_ns)
        for models, concurrency in BACKGROUNDS
        if (done := done_by_name.get(_name(models, concurrency))) is not None
    ]
    exec_ns = setting.models.exec_ns
    figures = Figures(
        exec_ms=exec_ns[1] / MS,
        largest_batch_ms=exec_ns[max(exec_ns)] / MS,
        period_s=period_ns / SECOND,
        mixes=mixes,
    )
    return Evaluation(
        figures=figures,
        findings=findings(figures),
        drawings={"fig8": lambda: draw(figures)},
    )


def _mix(done: Done, models: int, concurrency: int, period_ns: int) -> Mix:
    window_ns = period_ns // WINDOWS_PER_RUNG
    counts = RequestCounts(done.logs)
    is_batch = (pl.col("user_id") >= SENSITIVE).cast(pl.Int64)
    arrived = counts.by(counts.period(window_ns), is_batch)
    departed_at = (pl.col("t") + pl.col("latency") - counts.begin_ns) // window_ns
    departed = counts.by(departed_at, is_batch)
    # Answers that came after the end belong to no window.
    windows = sorted(
        int(window)
        for window, kind in arrived
        if not kind and window < WINDOWS_PER_RUNG * len(slo_ladder.multipliers())
    )
    rungs = slo_ladder.rungs(done)
    batch = [
        each.succeeded * SECOND / window_ns if (each := departed.get((window, 1))) else 0.0
        for window in windows
    ]
    joined = batch[WINDOWS_PER_RUNG:]
    return Mix(
        batch_models=models,
        concurrency=concurrency,
        window_s=window_ns / SECOND,
        at_s=[window * window_ns / SECOND for window in windows],
        satisfied=[arrived[window, 0].share for window in windows],
        batch_throughput_per_s=batch,
        rungs=rungs,
        tightest_met=slo_ladder.tightest_met(rungs),
        batch_mean_per_s=sum(joined) / len(joined) if joined else 0.0,
    )


def findings(figures: Figures) -> list[str]:
    """Return what the mixes show."""
    lines = []
    for mix in figures.mixes:
        label = _label(mix.batch_models, mix.concurrency)
        met = slo_ladder.met_sentence(mix.rungs, mix.tightest_met, exec_ms=figures.exec_ms)
        told = f"{label.capitalize()}: of the latency-sensitive requests {met}"
        if mix.batch_models:
            told += f"; the batch models get {mix.batch_mean_per_s:.0f} answers/s"
        lines.append(told + ".")
    if len(figures.mixes) == len(BACKGROUNDS):
        lines.append(_compare(figures))
    return lines


def _compare(figures: Figures) -> str:
    alone, *mixed = figures.mixes
    by_multiplier = {rung.multiplier: rung.satisfied for rung in alone.rungs}
    drops = [
        (by_multiplier[rung.multiplier] - rung.satisfied, rung.multiplier)
        for mix in mixed
        for rung in mix.rungs
        if rung.multiplier in by_multiplier
    ]
    drop, multiplier = max(drops, default=(0.0, 1.0))
    if drop <= 0.01:
        return "Batch clients cost the latency-sensitive ones less than a hundredth at any SLO."
    return (
        f"Batch clients cost the latency-sensitive ones most at {multiplier:.3g} execution times: "
        f"{100 * drop:.0f} points of satisfaction. The largest batch runs for "
        f"{figures.largest_batch_ms:.1f} ms ({figures.largest_batch_ms / figures.exec_ms:.1f} "
        f"execution times) and is never interrupted, which hurts SLOs that are not much longer."
    )


def draw(figures: Figures) -> Figure:
    """Return a column per mix: satisfaction above, batch throughput below."""
    figure = new_figure(width_inches=PAGE_INCHES, height_inches=3.3)
    columns = max(1, len(figures.mixes))
    grid = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for letter, column, mix in zip("abc", grid.T, figures.mixes, strict=False):
        above, below = column
        middle = [(at_s + mix.window_s / 2) / figures.period_s for at_s in mix.at_s]
        above.plot(middle, mix.satisfied, color=BLUE)
        slo_ladder.share_axis(above)
        below.plot(middle, mix.batch_throughput_per_s, color=VERMILION)
        above.set_title(f"({letter}) {_label(mix.batch_models, mix.concurrency)}")
        _rung_axis(below)
        below.set_xlabel("SLO (execution times)")
    # Only now: limits of the first column would hold for all that are drawn after it.
    grid[1][0].set_ylim(bottom=0)
    grid[0][0].set_ylabel("satisfied latency-\nsensitive requests (%)")
    grid[1][0].set_ylabel("batch throughput\n(requests/s)")
    figure.align_ylabels()
    return figure


def _rung_axis(axes: Axes) -> None:
    """Name every other period by its SLO, as time goes on."""
    multipliers = slo_ladder.multipliers()
    shown = range(0, len(multipliers), 2)
    axes.set_xlim(0, len(multipliers))
    axes.set_xticks([index + 0.5 for index in shown])
    axes.set_xticklabels([f"{multipliers[index]:.2g}" for index in shown])


FIG8: Experiment = Experiment(
    name="fig8",
    title="Isolation of latency-sensitive clients",
    paper=(
        "Six latency-sensitive models with 200 requests/s each share six GPUs with batch models "
        "that always have requests in flight and no SLO. Adding batch load barely changes the "
        "share of satisfied latency-sensitive requests, and batch clients get what is left, which "
        "is more the looser the SLOs are."
    ),
    differences=("All devices belong to one worker instead of six.",),
    default_scale=1 / 5,
    plan=plan,
    evaluate=evaluate,
)
"""Figure 8."""
