"""What an experiment leaves: a short text for people, the record of all figures for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from clockwork.live.experiments.plan import Experiment
from clockwork.units import SECOND, format_duration

TEXT: Final = "README.md"


class RunSummary(Struct, frozen=True):
    """One run, by its request log."""

    name: str
    label: str
    # Folder of the logs, below that of the experiment.
    logs: str
    planned_s: float
    # Requests that the client sent. None: the run failed, or was stopped before it began.
    sent: int | None
    # Requests that the controller answered, those that succeeded, and those of them in time.
    requests: int
    succeeded: int
    good: int


class Summary(Struct, frozen=True):
    """Everything in ``summary.json``."""

    experiment: str
    title: str
    # "live" or "simulated".
    stage: str
    is_real: bool
    scale: float
    seed: int
    sends_inputs: bool
    # The model that stands where the paper has ResNet-50.
    model: str
    # What was replayed. None: the experiment has no trace.
    trace: str | None
    runs_planned: int
    runs: list[RunSummary]
    is_interrupted: bool
    # What went wrong, in sentences.
    problems: list[str]
    findings: list[str]
    # A record of its own for each experiment.
    figures: Struct


def write_text(
    experiment: Experiment, summary: Summary, drawings: Sequence[Path], out: Path
) -> Path:
    """Write the text about a performed experiment into `out`; return its path."""
    path = out / TEXT
    path.write_text(text(experiment, summary, drawings), encoding="utf-8")
    return path


def text(experiment: Experiment, summary: Summary, drawings: Sequence[Path]) -> str:
    """Return what the paper shows, what this run shows, and how they differ, in Markdown."""
    pictures = [path.name for path in drawings if path.suffix == ".png"]
    sections = [
        f"# {experiment.name}: {experiment.title}",
        *(f"![{Path(name).stem}]({name})" for name in pictures),
        f"## What the paper shows\n\n{experiment.paper}",
        "## What this run shows\n\n" + _points(summary.findings),
    ]
    if summary.problems:
        sections.append("## What went wrong\n\n" + _points(summary.problems))
    sections += [
        "## What is not as in the paper\n\n" + _points(_differences(experiment, summary)),
        "## Runs\n\n" + _table(summary.runs),
        "`summary.json` has all figures; `clockwork report LOGS` tells more about a run.",
    ]
    return "\n\n".join(sections) + "\n"


def _differences(experiment: Experiment, summary: Summary) -> list[str]:
    lines = []
    if summary.stage != "live":
        lines.append("Time and network are simulated, controller, worker and client are not.")
    if summary.is_real:
        lines.append(
            f"One core of this machine's processor runs {summary.model} on small images where the "
            f"paper has ResNet-50 on V100 GPUs. Rates are those of the paper in proportion to what "
            f"the core can do; numbers of models are as in the paper unless told otherwise. Loads "
            f"are copies within main memory where the paper's go over PCIe."
        )
    else:
        lines.append(
            "GPUs are emulated: executions and loads take what the published table says of a V100, "
            "nothing is computed."
        )
    if summary.trace is not None:
        lines.append(f"What is replayed: {summary.trace}. Its rates are scaled to the GPUs.")
    if not summary.sends_inputs:
        lines.append("Requests carry no inputs.")
    if summary.scale != 1:
        share = f"1/{1 / summary.scale:.4g}" if summary.scale < 1 else f"{summary.scale:.4g} times"
        lines.append(f"The scale is {share} of the paper's.")
    return lines + list(experiment.differences)


def _points(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(runs: Sequence[RunSummary]) -> str:
    rows = [
        "| run | planned | requests | in time | logs |",
        "|---|---|---|---|---|",
    ]
    for run in runs:
        share = f"{run.good / run.requests:.2%}" if run.requests else "-"
        planned = format_duration(round(run.planned_s * SECOND))
        rows.append(f"| {run.label} | {planned} | {run.requests} | {share} | {run.logs} |")
    return "\n".join(rows)
