"""Performs all runs of an experiment, and leaves figures, a summary and a text in one folder.

What was measured is never thrown away: after Ctrl-C, or when a run fails, the runs so far are
evaluated, and summary and text say what is missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from clockwork.errors import ClockworkError
from clockwork.live.experiments.interruption import Interruption
from clockwork.live.experiments.plan import (
    Done,
    Evaluation,
    Experiment,
    OnProgress,
    Performed,
    Run,
    Setting,
    Stage,
)
from clockwork.live.experiments.request_counts import Counts, RequestCounts
from clockwork.live.experiments.write_up import RunSummary, Summary, write_text
from clockwork.telemetry.plot_style import save, style
from clockwork.telemetry.rows import REQUEST_LOG

SUMMARY: Final = "summary.json"


class Audience(Protocol):
    """Who is told how an experiment gets on."""

    def on_run(self, number: int, count: int, run: Run) -> OnProgress:
        """Hear that a run begins, number 1 first; return who is told of its progress."""
        ...

    def on_done(self, run: RunSummary) -> None:
        """Hear what came of a run."""
        ...


class InterruptedBeforeAnythingError(ClockworkError):
    """Ctrl-C came before there was a request to evaluate."""


class Outcome(Struct, frozen=True):
    """What an experiment has left behind."""

    summary: Summary
    # All files in the folder, without logs.
    files: Sequence[Path]


def perform(
    experiment: Experiment, setting: Setting, stage: Stage, out: Path, audience: Audience
) -> Outcome:
    """Perform `experiment` and write everything into the folder `out`.

    Ctrl-C ends the runs. While figures are drawn it changes nothing, since nothing would be saved.

    Raises:
        InterruptedBeforeAnythingError: the first run was interrupted before its first request.
        ClockworkError: not even the first run came to anything.
    """
    with Interruption() as interruption:
        series = _Series(experiment.plan(setting), stage, out, audience, interruption)
        series.perform()
        return _conclude(experiment, setting, series, out)


def _conclude(experiment: Experiment, setting: Setting, series: "_Series", out: Path) -> Outcome:
    """Evaluate the runs that there are and write everything down."""
    if not series.done:
        raise series.failure()
    evaluation = experiment.evaluate(setting, series.done)
    summary = Summary(
        experiment=experiment.name,
        title=experiment.title,
        stage=series.stage.name,
        is_real=setting.models.is_real,
        scale=setting.scale,
        seed=setting.seed,
        sends_inputs=setting.sends_inputs,
        model=setting.models.base,
        trace=None if setting.trace is None else setting.trace.source,
        runs_planned=len(series.runs),
        runs=series.summaries,
        is_interrupted=series.is_interrupted,
        problems=series.problems,
        findings=list(evaluation.findings),
        figures=evaluation.figures,
    )
    return Outcome(summary, _write(experiment, summary, evaluation, out))


class _Series:
    """The runs of an experiment, one after the other, and what came of them."""

    def __init__(
        self,
        runs: Sequence[Run],
        stage: Stage,
        out: Path,
        audience: Audience,
        interruption: Interruption,
    ) -> None:
        self.runs = runs
        self.stage = stage
        self._out = out
        self._audience = audience
        self._interruption = interruption
        # Runs with requests, and all that began; the latter in their order.
        self.done: list[Done] = []
        self.summaries: list[RunSummary] = []
        self.problems: list[str] = []
        self.is_interrupted = False

    def perform(self) -> None:
        """Perform the runs until one fails or is interrupted."""
        count = len(self.runs)
        for number, run in enumerate(self.runs, 1):
            if self._interruption.is_wanted:
                self._note_interruption(f"before run {number} of {count}")
                return
            progress = self._audience.on_run(number, count, run)
            performed = self._perform_one(run, progress)
            if performed.is_interrupted:
                self._note_interruption(f"in run {number} of {count}")
            if self.problems:
                return

    def failure(self) -> ClockworkError:
        """Return why nothing was measured."""
        message = (self.problems or ["no run had a request"])[0]
        if self.is_interrupted:
            return InterruptedBeforeAnythingError(message)
        return ClockworkError(message)

    def _note_interruption(self, where: str) -> None:
        self.is_interrupted = True
        self.problems.append(f"Interrupted {where}.")

    def _perform_one(self, run: Run, progress: OnProgress) -> Performed:
        logs = self._out / "logs" / run.name
        logs.mkdir(parents=True, exist_ok=True)
        # Of an earlier attempt: they must not count if this one does not get that far.
        (logs / REQUEST_LOG).unlink(missing_ok=True)
        try:
            performed = self.stage.perform(run, logs, progress, self._interruption)
        except ClockworkError as error:
            self.problems.append(f"Run {run.name} failed: {error}")
            performed = Performed(sent=None)
        counts = _counts(logs)
        if counts.requests:
            self.done.append(Done(run=run, logs=logs))
        summary = _summary(run, logs.relative_to(self._out), performed, counts)
        self.summaries.append(summary)
        self._audience.on_done(summary)
        return performed


def _counts(logs: Path) -> Counts:
    return RequestCounts(logs).total() if (logs / REQUEST_LOG).exists() else Counts()


def _summary(run: Run, logs: Path, performed: Performed, counts: Counts) -> RunSummary:
    return RunSummary(
        name=run.name,
        label=run.label,
        logs=str(logs),
        planned_s=run.length_ns / 1e9,
        sent=performed.sent,
        requests=counts.requests,
        succeeded=counts.succeeded,
        good=counts.good,
    )


def _write(
    experiment: Experiment, summary: Summary, evaluation: Evaluation, out: Path
) -> list[Path]:
    files = []
    with style():
        for name, draw in evaluation.drawings.items():
            files += save(draw(), out / name)
    encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    path = out / SUMMARY
    path.write_bytes(encoded + b"\n")
    return [*files, path, write_text(experiment, summary, files, out)]
