"""Figure 5 of the paper: goodput and the tail of latency under ever tighter SLOs.

Source: SPEC 6.1 of section 10: 15 copies of ResNet-50, 16 requests in flight each, one GPU.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.telemetry.plot_style import (
    BLUE,
    COLOURS,
    DASHES,
    ORANGE,
    PAGE_INCHES,
    label_axes,
    legend_above,
    new_figure,
)
from clockwork.telemetry.plots import draw_tail
from clockwork.telemetry.report import read_report
from clockwork.telemetry.summary import Analysis
from clockwork.units import MINUTE, MS, SECOND

SLOS_MS: Final = (10, 25, 50, 100, 250, 500)
PAPER_GOODPUT: Final = {10: 400, 25: 500, 50: 575, 100: 675, 250: 725, 500: 800}
"""Requests per second as read off the paper's bars; not stated in its text."""
COPIES: Final = 15
CONCURRENCY: Final = 16
LENGTH_NS: Final = 30 * MINUTE
SETTLED_SHARE: Final = 1 / 3
"""Of a run that is left out at its begin. The paper leaves out two thirds of its half hours."""


class Bar(Struct, frozen=True):
    """What one SLO came to, in the settled part of its run."""

    slo_ms: int
    # As read off the paper.
    paper_goodput_per_s: int
    goodput_per_s: float
    offered_per_s: float
    slo_attainment: float
    # Successful requests that were too late, by successful requests.
    late_share: float
    mean_batch_size: float | None
    p50_ms: float | None
    p99_ms: float | None
    p99_9_ms: float | None
    max_ms: float | None


class Figures(Struct, frozen=True):
    """Everything in Figure 5."""

    bars: list[Bar]


def plan(setting: Setting) -> list[Run]:
    """Return a run per SLO."""
    length_ns = round(LENGTH_NS * setting.scale)
    workload = setting.workload("comparison_experiment2", {"n": COPIES, "conc": CONCURRENCY})
    return [
        Run(
            name=f"slo-{slo_ms}ms",
            label=f"SLO {slo_ms} ms",
            cluster=replace(setting.cluster(1, models_held=COPIES), default_slo_ns=slo_ms * MS),
            workload=replace(workload, duration_ns=length_ns),
            length_ns=length_ns,
            sends_inputs=setting.sends_inputs,
        )
        for slo_ms in SLOS_MS
    ]


def evaluate(setting: Setting, runs: Sequence[Done]) -> Evaluation:
    """Return goodput and latency per SLO."""
    analyses = {_slo_ms(done): _read(done) for done in runs}
    bars = [_bar(slo_ms, analysis) for slo_ms, analysis in analyses.items()]
    return Evaluation(
        figures=Figures(bars),
        findings=findings(bars),
        drawings={"fig5": lambda: draw(bars, analyses, has_paper=not setting.models.is_real)},
    )


def findings(bars: Sequence[Bar]) -> list[str]:
    """Return what the bars show."""
    goodput = ", ".join(f"{bar.goodput_per_s:.0f}" for bar in bars)
    paper = ", ".join(str(bar.paper_goodput_per_s) for bar in bars)
    slos = ", ".join(str(bar.slo_ms) for bar in bars)
    falls = [
        f"{tight.slo_ms} to {loose.slo_ms} ms"
        for tight, loose in pairwise(bars)
        if loose.goodput_per_s < 0.98 * tight.goodput_per_s
    ]
    worst = max(bars, key=lambda bar: bar.late_share)
    late = (
        "No request that was answered with success came late, at any SLO."
        if not worst.late_share
        else f"Of the requests answered with success at most {worst.late_share:.2%} came late "
        f"(SLO {worst.slo_ms} ms)."
    )
    lines = [f"Goodput is {goodput} requests/s for SLOs of {slos} ms; the paper's: about {paper}."]
    if falls:
        lines.append(f"Unlike the paper, goodput falls from {'; '.join(falls)}.")
    elif len(bars) > 1:
        lines.append("Goodput grows with the SLO, as in the paper: larger batches fit.")
    return [*lines, late]


def draw(bars: Sequence[Bar], analyses: Mapping[int, Analysis], *, has_paper: bool) -> Figure:
    """Return bars of goodput beside the tails of latency.

    Args:
        has_paper: marks the paper's goodput, where models are as fast as the paper's.
    """
    figure = new_figure(width_inches=PAGE_INCHES, height_inches=2.5)
    left, right = figure.subplots(1, 2)
    names = [str(bar.slo_ms) for bar in bars]
    drawn = left.bar(names, [bar.goodput_per_s for bar in bars], color=BLUE, width=0.6)
    left.bar_label(drawn, fmt="%.0f", fontsize=7, label_type="center", color="white")
    paper = [bar.paper_goodput_per_s for bar in bars]
    if has_paper:
        left.plot(names, paper, "_", color=ORANGE, markersize=17, mew=1.5, label="paper")
        legend_above(left)
    left.grid(visible=False, axis="x")
    label_axes(left, x="SLO (ms)", y="goodput (requests/s)", title="(a)")
    for index, (slo_ms, analysis) in enumerate(analyses.items()):
        colour = COLOURS[index]
        if not analysis.latency.counts:
            continue
        dashes = DASHES[index]
        draw_tail(right, analysis.latency, color=colour, linestyle=dashes, label=f"{slo_ms} ms")
        right.axvline(slo_ms, color=colour, linewidth=0.5, alpha=0.6)
    right.set_xscale("log")
    ticks = (1, *SLOS_MS)
    right.set_xticks(ticks, [str(tick) for tick in ticks])
    right.minorticks_off()
    # From so little on that there is room for the legend: nothing is that fast.
    right.set_xlim(0.4, 1.3 * SLOS_MS[-1])
    right.legend(title="SLO", title_fontsize=7, loc="upper left", handlelength=2.6)
    label_axes(right, x="latency (ms)", y="requests that are faster (%)", title="(b)")
    return figure


def _slo_ms(done: Done) -> int:
    return done.run.cluster.default_slo_ns // MS


def _read(done: Done) -> Analysis:
    """Return the report of the settled part; of all, where a run was cut before it settled."""
    whole = read_report(done.logs)
    from_ns = round(done.run.length_ns * SETTLED_SHARE)
    if whole.report.elapsed_s * SECOND < 1.1 * from_ns:
        return whole
    # What is still in flight at the end is answered without the usual competition.
    to_ns = max(from_ns + 1, min(done.run.length_ns, round(whole.report.elapsed_s * SECOND)))
    return read_report(done.logs, from_ns=from_ns, to_ns=to_ns)


def _bar(slo_ms: int, analysis: Analysis) -> Bar:
    report = analysis.report
    requests = report.requests
    assert requests is not None, "runs have a request log"
    latency = requests.latency
    return Bar(
        slo_ms=slo_ms,
        paper_goodput_per_s=PAPER_GOODPUT[slo_ms],
        goodput_per_s=requests.goodput_per_s,
        offered_per_s=requests.offered_per_s,
        slo_attainment=requests.slo_attainment,
        late_share=requests.late / latency.count if latency else 0.0,
        mean_batch_size=report.actions.mean_batch_size if report.actions else None,
        p50_ms=latency.p50_ms if latency else None,
        p99_ms=latency.p99_ms if latency else None,
        p99_9_ms=latency.p99_9_ms if latency else None,
        max_ms=latency.max_ms if latency else None,
    )


FIG5: Experiment = Experiment(
    name="fig5",
    title="Goodput and latency under tight SLOs",
    paper=(
        "Fifteen copies of ResNet-50 share one GPU, each with 16 requests in flight. Clockwork's "
        "goodput grows from about 400 to 800 requests/s as the SLO is loosened from 10 to 500 ms, "
        "and latency stays below the SLO up to the highest percentiles; Clipper and INFaaS, which "
        "the paper compares with, miss SLOs below 100 ms."
    ),
    differences=("Clipper and INFaaS are not part of this run.",),
    default_scale=1 / 60,
    plan=plan,
    evaluate=evaluate,
)
"""Figure 5."""
