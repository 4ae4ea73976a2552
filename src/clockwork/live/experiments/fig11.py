"""Figure 11 of the paper: the most goodput of ever more emulated GPUs under one controller.

Source: SPEC 6.6 of section 10: the trace of figure 9 on N GPUs, at a load that grows by half every
minute.

Scale shortens the minutes. Below 1 there are fewer GPUs, the load grows no further than to twice
what GPUs can do, and each number of GPUs is tried once instead of three times.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.workload import Knob
from clockwork.live.experiments import fig9
from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.live.experiments.request_counts import RequestCounts
from clockwork.telemetry.plot_style import (
    BLUE,
    PAGE_INCHES,
    SKY,
    VERMILION,
    label_axes,
    new_figure,
)
from clockwork.telemetry.report import read_report
from clockwork.units import MINUTE, MS, SECOND

GPUS: Final = (1, 2, 4, 8, 16, 32, 64)
GPUS_OF_PAPER: Final = tuple(range(10, 151, 10))
TRIALS_OF_PAPER: Final = 3
SHOWN: Final = 8
SHOWN_OF_PAPER: Final = 40
"""The number of GPUs whose run is shown over time."""
RATE_PER_GPU_S: Final = 1291.0
"""At load 1: an eighth of the data set's 10,331 calls per second."""
LOAD_MIN: Final = 0.1
LOAD_MAX: Final = 1.2
LOAD_MAX_OF_PAPER: Final = 4.0
LOAD_FACTOR: Final = 1.5
SCHEDULE_AHEAD_NS: Final = 5 * MS
POINTS: Final = 120
LINEAR: Final = 0.85
"""Share of the goodput per GPU up to which the findings speak of linear growth."""


class Step(Struct, frozen=True):
    """One load of one run."""

    offered_per_s: float
    goodput_per_s: float


class Trial(Struct, frozen=True):
    """One run."""

    gpus: int
    steps: list[Step]
    max_goodput_per_s: float


class Course(Struct, frozen=True):
    """One run over time."""

    gpus: int
    at_s: list[float]
    offered_per_s: list[float]
    goodput_per_s: list[float]


class Figures(Struct, frozen=True):
    """Everything in Figure 11."""

    trace: str
    models: int
    trials: list[Trial]
    # Median over the trials, by number of GPUs.
    max_goodput_per_s: dict[int, float]
    # None if that number of GPUs was not reached.
    course: Course | None


def loads(scale: float) -> list[float]:
    """Return the loads of a run, in the order in which they come."""
    values, value = [], LOAD_MIN
    while value <= (LOAD_MAX_OF_PAPER if scale >= 1 else LOAD_MAX):
        values.append(value)
        value *= LOAD_FACTOR
    return values


def plan(setting: Setting) -> list[Run]:
    """Return the runs, the smallest clusters first."""
    is_whole = setting.scale >= 1
    return [
        _run(setting, gpus, trial)
        for trial in range(TRIALS_OF_PAPER if is_whole else 1)
        for gpus in (GPUS_OF_PAPER if is_whole else GPUS)
    ]


def _run(setting: Setting, gpus: int, trial: int) -> Run:
    trace = setting.trace
    assert trace is not None, "the experiment asks for a trace"
    steps = loads(setting.scale)
    period_ns = round(MINUTE * setting.scale)
    per_gpu_s = trace.total * SECOND / trace.period_ns / 8
    workload = setting.workload(
        "azure_scalability_exp",
        {
            "workers": gpus,
            "min": steps[0],
            "max": steps[-1] * 1.01,
            "inc": LOAD_FACTOR,
            "period": period_ns / SECOND,
            "memfactor": fig9.memory_factor(setting.scale),
            "scale": RATE_PER_GPU_S / per_gpu_s * setting.scale,
            "stretch": setting.scale,
        },
        of_base=False,
    )
    assert workload.ladders[0].knob is Knob.SCALE, "the load is a scale"
    length_ns = len(steps) * period_ns
    cluster = setting.cluster(gpus)
    return Run(
        name=f"gpus-{gpus}" if not trial else f"gpus-{gpus}-trial-{trial + 1}",
        label=f"{gpus} GPU" if gpus == 1 else f"{gpus} GPUs",
        cluster=replace(cluster, schedule_ahead_ns=SCHEDULE_AHEAD_NS),
        workload=replace(workload, seed=setting.seed + trial, duration_ns=length_ns),
        length_ns=length_ns,
    )


def evaluate(setting: Setting, runs: Sequence[Done]) -> Evaluation:
    """Return the most goodput per number of GPUs, and one run over time."""
    period_ns = round(MINUTE * setting.scale)
    trials = [_trial(done, period_ns, len(loads(setting.scale))) for done in runs]
    most = {
        gpus: median(trial.max_goodput_per_s for trial in trials if trial.gpus == gpus)
        for gpus in sorted({trial.gpus for trial in trials})
    }
    shown = SHOWN_OF_PAPER if setting.scale >= 1 else SHOWN
    course = next((_course(done) for done in runs if done.run.cluster.gpus == shown), None)
    figures = Figures(
        trace=setting.trace.source if setting.trace else "",
        models=runs[0].run.workload.model_count,
        trials=trials,
        max_goodput_per_s=most,
        course=course,
    )
    return Evaluation(
        figures=figures,
        findings=findings(figures),
        drawings={"fig11": lambda: draw(figures)},
    )


def _trial(done: Done, period_ns: int, step_count: int) -> Trial:
    counts = RequestCounts(done.logs)
    by_step = counts.by(counts.period(period_ns))
    steps = [
        Step(
            offered_per_s=each.requests * SECOND / period_ns,
            goodput_per_s=each.good * SECOND / period_ns,
        )
        for (step,), each in by_step.items()
        if step < step_count
    ]
    most = max((step.goodput_per_s for step in steps), default=0.0)
    return Trial(gpus=done.run.cluster.gpus, steps=steps, max_goodput_per_s=most)


def _course(done: Done) -> Course:
    bucket_ns = max(50 * MS, done.run.length_ns // POINTS)
    series = read_report(done.logs, to_ns=done.run.length_ns, bucket_ns=bucket_ns).report.series
    return Course(
        gpus=done.run.cluster.gpus,
        at_s=[at_s + series.bucket_s / 2 for at_s in series.at_s],
        offered_per_s=series.offered_per_s,
        goodput_per_s=series.goodput_per_s,
    )


def findings(figures: Figures) -> list[str]:
    """Return what the runs show."""
    most = figures.max_goodput_per_s
    told = ", ".join(f"{goodput:.0f} ({gpus})" for gpus, goodput in most.items())
    lines = [f"The most goodput in requests/s (number of GPUs) is {told}."]
    per_gpu = best_per_gpu(most)
    linear = [gpus for gpus, goodput in most.items() if goodput >= LINEAR * per_gpu * gpus]
    largest, reached = max(most), max(linear)
    if len(most) == 1:
        # One point is a line to the origin whatever it is.
        return lines
    if reached == largest:
        lines.append(f"Growth is linear up to {largest} GPUs, the most that were tried.")
    else:
        lines.append(
            f"Growth is linear up to {reached} GPUs. With {largest} GPUs goodput is "
            f"{most[largest] / (per_gpu * largest):.0%} of what they would do at the best rate per "
            f"GPU. Where a simulated run goes on, the cores of this machine are the limit."
        )
    return lines


def best_per_gpu(most: Mapping[int, float]) -> float:
    """Return the highest goodput per GPU; a single GPU has fewer requests to make batches of."""
    return max(goodput / gpus for gpus, goodput in most.items())


def draw(figures: Figures) -> Figure:
    """Return one run over time beside the most goodput by number of GPUs."""
    figure = new_figure(width_inches=PAGE_INCHES, height_inches=2.5)
    left, right = figure.subplots(1, 2)
    course = figures.course
    if course is not None:
        left.plot(course.at_s, course.offered_per_s, color=SKY, linewidth=2.4, label="offered")
        left.plot(course.at_s, course.goodput_per_s, color=VERMILION, label="goodput")
        left.legend(loc="upper left")
    title = f"(a) {course.gpus} GPUs" if course else "(a)"
    left.set_ylim(bottom=0)
    label_axes(left, x="time (s)", y="requests/s", title=title)
    gpus = list(figures.max_goodput_per_s)
    most = list(figures.max_goodput_per_s.values())
    ideal = best_per_gpu(figures.max_goodput_per_s) * gpus[-1]
    right.plot([0, gpus[-1]], [0, ideal], color=SKY, linestyle="--", label="linear")
    right.plot(gpus, most, color=BLUE, marker="o", markersize=3.5, label="measured")
    right.set_xlim(left=0)
    right.set_ylim(bottom=0)
    right.legend(loc="upper left")
    label_axes(right, x="GPUs", y="max goodput (requests/s)", title="(b)")
    return figure


FIG11: Experiment = Experiment(
    name="fig11",
    title="The most goodput of many emulated GPUs",
    paper=(
        "Emulated workers make up 10 to 150 GPUs under one controller, and the load of the trace "
        "grows by half every minute. The most goodput grows linearly with the GPUs, to more than "
        "100,000 requests/s at about 110 GPUs, where the controller, with 18 and more cores, is "
        "saturated."
    ),
    differences=("All emulated GPUs belong to one worker, on the controller's machine.",),
    default_scale=1 / 15,
    can_be_real=False,
    trace_functions=fig9.trace_functions,
    plan=plan,
    evaluate=evaluate,
)
"""Figure 11."""
