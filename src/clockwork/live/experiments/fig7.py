"""Figure 7 of the paper: how tight an SLO can be kept, by load and number of models.

Source: SPEC 6.3 of section 10: six GPUs, N copies of ResNet-50, R requests/s in total, an SLO that
grows from 1 to 100 execution times by half every 30 s.
"""

from collections.abc import Sequence
from typing import Final

from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace

from clockwork.live.experiments import slo_ladder
from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.live.experiments.slo_ladder import Met, Rung
from clockwork.telemetry.plot_style import COLOURS, DASHES, PAGE_INCHES, new_figure
from clockwork.units import MS

GPUS: Final = 6
MODELS: Final = (12, 48)
RATES_PER_S: Final = (600, 1200, 2400)
SCHEDULE_AHEAD_NS: Final = 5 * MS
MARKERS: Final = ("o", "s", "^")


class Curve(Struct, frozen=True):
    """One line of the figure."""

    models: int
    # Of the paper; a real device has what is as much for it.
    paper_rate_per_s: int
    rate_per_s: float
    rungs: list[Rung]
    # None: no SLO is met.
    tightest_met: Met | None


class Figures(Struct, frozen=True):
    """Everything in Figure 7."""

    # Execution time of the model: an SLO of 1.
    exec_ms: float
    curves: list[Curve]


def plan(setting: Setting) -> list[Run]:
    """Return a run per number of models and rate."""
    return [_run(setting, models, rate) for models in MODELS for rate in RATES_PER_S]


def _run(setting: Setting, models: int, rate: int) -> Run:
    rate_per_s = setting.rate(rate, GPUS)
    workload = setting.workload(
        "slo-exp-1",
        {
            "model": setting.models.base,
            "copies": models,
            "dist": "poisson",
            "rate": rate_per_s,
            **slo_ladder.ladder_values(setting.scale),
        },
    )
    cluster = setting.cluster(GPUS, models_held=models)
    return Run(
        name=f"n{models}-r{rate}",
        label=f"{models} models, {rate_per_s:g} requests/s",
        cluster=replace(cluster, schedule_ahead_ns=SCHEDULE_AHEAD_NS),
        workload=workload,
        length_ns=len(slo_ladder.multipliers()) * slo_ladder.period_ns(setting.scale),
        sends_inputs=setting.sends_inputs,
    )


def evaluate(setting: Setting, runs: Sequence[Done]) -> Evaluation:
    """Return the share of satisfied requests per SLO, number of models and rate."""
    done_by_name = {done.run.name: done for done in runs}
    curves = []
    for models in MODELS:
        for rate in RATES_PER_S:
            if (done := done_by_name.get(f"n{models}-r{rate}")) is not None:
                rungs = slo_ladder.rungs(done)
                curves.append(
                    Curve(
                        models=models,
                        paper_rate_per_s=rate,
                        rate_per_s=setting.rate(rate, GPUS),
                        rungs=rungs,
                        tightest_met=slo_ladder.tightest_met(rungs),
                    )
                )
    figures = Figures(exec_ms=setting.models.exec_ns[1] / MS, curves=curves)
    return Evaluation(
        figures=figures,
        findings=findings(figures),
        drawings={"fig7": lambda: draw(figures)},
    )


def findings(figures: Figures) -> list[str]:
    """Return what the curves show."""
    lines = [f"An SLO of 1 is one execution, {figures.exec_ms:.2f} ms."]
    for curve in figures.curves:
        met = slo_ladder.met_sentence(curve.rungs, curve.tightest_met, exec_ms=figures.exec_ms)
        lines.append(f"{curve.models} models, {curve.rate_per_s:.4g} requests/s: {met}.")
    return lines


def draw(figures: Figures) -> Figure:
    """Return a panel per number of models."""
    figure = new_figure(width_inches=PAGE_INCHES, height_inches=2.5)
    panels = figure.subplots(1, len(MODELS), sharey=True)
    for letter, axes, models in zip("ab", panels, MODELS, strict=True):
        for index, curve in enumerate(each for each in figures.curves if each.models == models):
            axes.plot(
                [rung.multiplier for rung in curve.rungs],
                [rung.satisfied for rung in curve.rungs],
                color=COLOURS[index],
                linestyle=DASHES[index],
                marker=MARKERS[index],
                markersize=3.5,
                label=f"{curve.rate_per_s:.4g} requests/s",
            )
        slo_ladder.multiplier_axis(axes, label="SLO (execution times of the model)")
        slo_ladder.share_axis(axes)
        axes.set_title(f"({letter}) {models} models")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower right")
    panels[0].set_ylabel("satisfied requests (%)")
    return figure


FIG7: Experiment = Experiment(
    name="fig7",
    title="How tight an SLO can be kept",
    paper=(
        "Six GPUs serve N copies of ResNet-50 at R requests/s in total, and the SLO grows from 1 "
        "to 100 times the execution time (2.9 ms). Nearly all requests are satisfied from a few "
        "execution times upwards, with 12 models and with 48; the more load, the looser the SLO "
        "has to be."
    ),
    differences=("All devices belong to one worker instead of six.",),
    default_scale=1 / 10,
    plan=plan,
    evaluate=evaluate,
)
"""Figure 7."""
