"""``clockwork experiment``: the paper's figures, each with one command."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from clockwork.errors import ConfigurationError
from clockwork.live.options import client_environment
from clockwork.telemetry.extras import extra
from clockwork.units import format_duration

if TYPE_CHECKING:
    from clockwork.live.experiments.plan import (
        Experiment,
        Models,
        OnProgress,
        Run,
        Setting,
        Stage,
    )
    from clockwork.live.experiments.write_up import RunSummary

NAMES: Final = ("fig5", "fig6", "fig7", "fig8", "fig9", "fig11")
"""As in `live.experiments.catalogue`, which takes a second to import."""
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


@click.command()
@click.argument("name", metavar="FIGURE", type=click.Choice(NAMES))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Folder for the figure, the text, summary.json and the logs.")  # fmt: skip
@click.option("--scale", type=click.FloatRange(0, min_open=True),
              help="1 is the paper's size and length; default: about five minutes.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of everything random.")  # fmt: skip
@click.option("--real", is_flag=True, help="Compute real models on a core of this machine.")
@click.option("--simulated", is_flag=True, help="Run in virtual time, with the simulator.")
@click.option("--inputs", is_flag=True, help="Send inputs with requests.")
@click.option("--trace-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Trace for fig9 and fig11; default: day 1 of AZURE_TRACE_DIR, else a "
              "synthetic one.")  # fmt: skip
@click.option("--models", type=click.Path(path_type=Path, file_okay=False),
              help="Folder that keeps the models; default: OUT/models.")  # fmt: skip
def experiment(
    name: str,
    out: Path,
    scale: float | None,
    seed: int,
    real: bool,
    simulated: bool,
    inputs: bool,
    trace_file: Path | None,
    models: Path | None,
) -> int:
    """Make a figure of the paper anew, with everything on this machine.

    FIGURE is fig5 (tight SLOs), fig6 (thousands of models), fig7 (how tight an SLO can be), fig8
    (isolation), fig9 (a realistic workload, with fig10) or fig11 (many GPUs). GPUs are emulated
    unless --real is given. OUT gets the figure as PDF and PNG, README.md that says what the paper
    shows and what this run shows, summary.json, and the logs of all runs. Ctrl-C ends early with
    what was measured so far.
    """
    with extra("report", purpose="clockwork experiment"):
        from clockwork.live.experiments.catalogue import EXPERIMENTS
        from clockwork.live.experiments.director import InterruptedBeforeAnythingError, perform
        from clockwork.live.experiments.plan import Setting
    chosen = EXPERIMENTS[name]
    if real and (simulated or not chosen.can_be_real):
        other = "--simulated" if simulated else name
        raise ConfigurationError(f"{other} needs emulated GPUs: leave out --real")
    begin_s = time.monotonic()
    setting = _with_trace(
        Setting(
            scale=scale or chosen.default_scale,
            seed=seed,
            models=_models(models or out / "models", real=real),
            sends_inputs=inputs,
        ),
        chosen,
        trace_file,
    )
    try:
        with ConsoleAudience() as audience:
            outcome = perform(chosen, setting, _stage(simulated=simulated), out, audience)
    except InterruptedBeforeAnythingError as error:
        click.echo(f"{error} Nothing was measured.", err=True)
        return EXIT_INTERRUPTED
    summary = outcome.summary
    for line in (*summary.findings, *summary.problems):
        click.echo(f"- {line}")
    files = " ".join(path.name for path in outcome.files)
    click.echo(f"{out}: {files}   ({time.monotonic() - begin_s:.0f} s)")
    if summary.is_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if summary.problems else 0


class ConsoleAudience:
    """A progress bar in a terminal, and a line per run everywhere."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: TaskID | None = None
        self._count = 0
        self._number = 0
        self._begin_s = 0.0

    def __enter__(self) -> "ConsoleAudience":
        """Begin to show."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_run(self, number: int, count: int, run: "Run") -> "OnProgress":
        """Say that a run begins, and show how it gets on."""
        self._number, self._count, self._begin_s = number, count, time.monotonic()
        if self._task is not None:
            self._bar.remove_task(self._task)
        label = f"[{number}/{count}] {run.label}"
        if self._bar.disable:
            self._print(f"{label}: {format_duration(run.length_ns)}")
        self._task = task = self._bar.add_task(label, total=run.length_ns)

        def progress(done_ns: int) -> None:
            self._bar.update(task, completed=min(done_ns, run.length_ns))

        return progress

    def on_done(self, run: "RunSummary") -> None:
        """Say what came of it."""
        share = f"{run.good / run.requests:.2%} in time" if run.requests else "nothing measured"
        took_s = time.monotonic() - self._begin_s
        self._print(
            f"[{self._number}/{self._count}] {run.label}: {run.requests} requests, {share} "
            f"({took_s:.0f} s)"
        )

    def _print(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _stage(*, simulated: bool) -> "Stage":
    if simulated:
        from clockwork.cli.simulated_stage import SimulatedStage

        return SimulatedStage()
    from clockwork.live.experiments.live_stage import LiveStage

    return LiveStage()


def _models(folder: Path, *, real: bool) -> "Models":
    from clockwork.live.experiments.model_choice import emulated_models, real_models

    if real:
        return real_models(folder, click.echo)
    return emulated_models(folder)


def _with_trace(setting: "Setting", chosen: "Experiment", file: Path | None) -> "Setting":
    """Return `setting` with a trace, if the experiment replays one."""
    from msgspec.structs import replace

    from clockwork.live.experiments.trace_choice import choose_trace

    if chosen.trace_functions is None:
        if file is not None:
            raise ConfigurationError(f"{chosen.name} replays no trace: leave out --trace-file")
        return setting
    trace = choose_trace(
        file=file,
        azure_dir=client_environment(os.environ).azure_trace_dir,
        functions=chosen.trace_functions(setting.scale),
        seed=setting.seed,
    )
    click.echo(f"Replaying {trace.source}: {len(trace.functions)} functions")
    return replace(setting, trace=trace)
