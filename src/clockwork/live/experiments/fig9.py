"""Figures 9 and 10 of the paper: a realistic workload, and how good predictions were in it.

Source: SPEC 6.5 of section 10: a trace of Azure Functions on thousands of models of 61 kinds and
six GPUs, for eight hours.

Scale compresses time: a minute of the trace lasts less, at unchanged rates, so that there are fewer
requests. Rates are chosen for six GPUs and do not depend on the length of the run.
"""

from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.telemetry import plots
from clockwork.telemetry.report import read_report
from clockwork.telemetry.summary import Analysis, LatencySummary, PredictionError, Series
from clockwork.units import MINUTE, MS, SECOND

GPUS: Final = 6
LENGTH_NS: Final = 480 * MINUTE
RATE_PER_S: Final = 1500.0
"""Mean of the run; chosen: half of what six emulated GPUs do with this mix of models."""
IGNORED_SHARE: Final = 1 / 48
"""Of the run, at its begin: the paper's ten minutes of eight hours."""
WHOLE_ZOO_FROM_NS: Final = MINUTE
"""Shorter runs use 3 copies of each model instead of 66; chosen: they are for a first look."""
FUNCTIONS_PER_MODEL: Final = 3
"""At least, by resampling. The data set has 46,000 functions, 11 for each of the paper's models."""
POINTS: Final = 240
TABLE_MODELS: Final = 64


class Figures(Struct, frozen=True):
    """Everything in figures 9 and 10."""

    trace: str
    models: int
    requests: int
    offered_per_s: float
    goodput_per_s: float
    slo_attainment: float
    # Requests that succeeded after their deadline.
    late: int
    cold_starts: int
    cold_start_share: float
    latency: LatencySummary | None
    mean_batch_size: float | None
    prediction_errors: list[PredictionError]
    series: Series


def memory_factor(scale: float) -> int:
    """Return the workload's parameter for the number of models: 1 (few) or 4 (all)."""
    return 4 if LENGTH_NS * scale >= WHOLE_ZOO_FROM_NS else 1


def trace_functions(scale: float) -> int:
    """Return how many functions the trace should have."""
    copies = 66 if memory_factor(scale) == 4 else 3
    return FUNCTIONS_PER_MODEL * TABLE_MODELS * copies


def plan(setting: Setting) -> list[Run]:
    """Return the one run."""
    trace = setting.trace
    assert trace is not None, "the experiment asks for a trace"
    length_ns = round(LENGTH_NS * setting.scale)
    trace_per_s = trace.total * SECOND / trace.period_ns
    workload = setting.workload(
        "azure",
        {
            # A load of 8 x 0.125 is the trace as it is.
            "num-workers": 8,
            "memory-load-factor": memory_factor(setting.scale),
            "scale": setting.rate(RATE_PER_S, GPUS) / trace_per_s * setting.scale,
            "stretch": setting.scale,
        },
        of_base=False,
    )
    return [
        Run(
            name="azure",
            label=f"{workload.model_count} models, {trace.source}",
            cluster=setting.cluster(GPUS),
            workload=replace(workload, duration_ns=length_ns),
            length_ns=length_ns,
            sends_inputs=setting.sends_inputs,
        )
    ]


def evaluate(setting: Setting, runs: Sequence[Done]) -> Evaluation:
    """Return the run over time and its prediction errors."""
    done = runs[0]
    analysis = _read(done)
    figures = _measure(analysis, done, setting)
    drawings = {"fig9": lambda: plots.overview(analysis)}
    if any(errors.counts for errors in analysis.errors.values()):
        drawings["fig10"] = lambda: _draw_errors(analysis)
    return Evaluation(
        figures=figures,
        findings=findings(figures, slo_ms=done.run.cluster.default_slo_ns / MS),
        drawings=drawings,
    )


def _read(done: Done) -> Analysis:
    """Return the report without the begin of the run, if the run got that far."""
    bucket_ns = max(50 * MS, done.run.length_ns // POINTS)
    from_ns = round(done.run.length_ns * IGNORED_SHARE)
    whole = read_report(done.logs, bucket_ns=bucket_ns)
    elapsed_ns = round(whole.report.elapsed_s * SECOND)
    if elapsed_ns < 2 * from_ns:
        return whole
    to_ns = min(done.run.length_ns, elapsed_ns)
    return read_report(done.logs, from_ns=from_ns, to_ns=to_ns, bucket_ns=bucket_ns)


def _measure(analysis: Analysis, done: Done, setting: Setting) -> Figures:
    requests, actions = analysis.report.requests, analysis.report.actions
    assert requests is not None, "runs have a request log"
    return Figures(
        trace=setting.trace.source if setting.trace else "",
        models=done.run.workload.model_count,
        requests=requests.requests,
        offered_per_s=requests.offered_per_s,
        goodput_per_s=requests.goodput_per_s,
        slo_attainment=requests.slo_attainment,
        late=requests.late,
        cold_starts=requests.cold_starts,
        cold_start_share=requests.cold_start_share,
        latency=requests.latency,
        mean_batch_size=actions.mean_batch_size if actions else None,
        prediction_errors=actions.errors if actions else [],
        series=analysis.report.series,
    )


def _draw_errors(analysis: Analysis) -> Figure:
    figure = plots.prediction_errors(analysis)
    assert figure is not None, "called where there are errors"
    return figure


def findings(figures: Figures, *, slo_ms: float) -> list[str]:
    """Return what the run shows."""
    missed = figures.requests - round(figures.slo_attainment * figures.requests)
    told = f"Goodput is {figures.goodput_per_s:.0f} of {figures.offered_per_s:.0f} requests/s: "
    if missed:
        told += (
            f"of {figures.requests} requests {missed} were not satisfied "
            f"({missed / figures.requests:.2g} of all), of which {figures.late} were answered late."
        )
    else:
        told += f"all {figures.requests} requests were satisfied."
    lines = [told]
    if (latency := figures.latency) is not None:
        within = "below" if latency.max_ms <= slo_ms else "above"
        lines.append(
            f"Latency is {latency.p50_ms:.1f} ms (median), {latency.p99_ms:.1f} ms (p99) and "
            f"{latency.max_ms:.1f} ms at most, {within} the SLO of {slo_ms:g} ms."
        )
    cold = max(figures.series.cold_models, default=0)
    batch = figures.mean_batch_size or 0.0
    lines.append(
        f"{figures.cold_start_share:.2%} of the requests are cold starts, for up to {cold} models "
        f"in any {figures.series.bucket_s:g} s; the mean request runs in a batch of {batch:.1f}."
    )
    lines += [
        f"Predictions of {error.action} {error.of} that were too short (by {error.share:.1%} of "
        f"the actions) were so by {error.p50_ms:.3f} ms (median) and {error.p99_ms:.3f} ms (p99)."
        for error in figures.prediction_errors
        if error.side == "under" and error.p50_ms is not None and error.p99_ms is not None
    ]
    return lines


FIG9: Experiment = Experiment(
    name="fig9",
    title="A realistic workload, and its prediction errors (figures 9 and 10)",
    paper=(
        "A day of Azure Functions drives 4,026 models of 61 kinds on six GPUs for eight hours. "
        "Goodput equals throughput, latency never exceeds the SLO of 100 ms, hundreds of models "
        "are cold in any minute and yet answered in time. Nearly all prediction errors (figure "
        "10) are well below a millisecond."
    ),
    differences=(
        "All devices belong to one worker instead of six.",
        "The published table has 64 kinds of models; the paper uses 61 of them.",
    ),
    default_scale=1 / 120,
    trace_functions=trace_functions,
    plan=plan,
    evaluate=evaluate,
)
"""Figures 9 and 10."""
