"""Every experiment at a tiny scale, live with emulated workers and simulated.

What `summary.json` says is computed anew here, row by row, from the logs.
"""

import csv
import json
import os
import re
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiment_stage import SilentAudience
from live.system import Program
from msgspec.structs import replace

from clockwork.cli.simulated_stage import SimulatedStage
from clockwork.errors import ClockworkError
from clockwork.live.experiments.catalogue import EXPERIMENTS
from clockwork.live.experiments.director import perform
from clockwork.live.experiments.live_stage import LiveStage
from clockwork.live.experiments.model_choice import emulated_models
from clockwork.live.experiments.plan import Models, Setting, Stage
from clockwork.live.experiments.trace_choice import choose_trace

# Sending takes 0.4 s (fig11) to 3 s (fig6) per run; starting takes 2 s.
TINY = {
    "fig5": 0.0003,
    "fig6": 0.0006,
    "fig7": 0.0015,
    "fig8": 0.003,
    "fig9": 0.00008,
    "fig11": 0.0008,
}
Row = dict[str, Any]
Summary = dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Return the published models."""
    return emulated_models(tmp_path_factory.mktemp("models"))


def setting_of(name: str, models: Models) -> Setting:
    """Return a tiny setting."""
    functions = EXPERIMENTS[name].trace_functions
    return Setting(
        scale=TINY[name],
        seed=7,
        models=models,
        trace=choose_trace(file=None, azure_dir=None, functions=600, seed=7) if functions else None,
    )


def rows_of(out: Path, run: Summary, log: str = "request") -> list[Row]:
    """Return the rows of one log of a run, numbers as numbers."""
    path = out / run["logs"] / f"clockwork_{log}_log.tsv"
    with path.open(newline="") as file:
        return [
            {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(file, delimiter="\t")
        ]


def is_good(row: Row) -> bool:
    """Return whether a request was answered with success and in time."""
    return row["result"] == 0 and row["deadline_met"] == 1


def share(rows: list[Row]) -> float:
    """Return the share of satisfied requests."""
    return sum(map(is_good, rows)) / len(rows)


def check_fig5(figures: Summary, logs: dict[str, list[Row]]) -> None:
    """Goodput is that of the last two thirds."""
    assert len(figures["bars"]) == 6
    length_ns = 30 * 60e9 * TINY["fig5"]
    for bar, rows in zip(figures["bars"], logs.values(), strict=True):
        begin = min(row["t"] for row in rows)
        last = max(row["t"] + row["latency"] for row in rows)
        end = min(begin + length_ns, last)
        settled = [row for row in rows if begin + length_ns / 3 <= row["t"] < end]
        good = sum(map(is_good, settled))
        # The report's run may end later than its last request: with an action's row.
        least, most = good * 1e9 / (length_ns * 2 / 3), good * 1e9 / (end - begin - length_ns / 3)
        assert 0.98 * least - 2 <= bar["goodput_per_s"] <= 1.02 * most + 2


def check_fig6(figures: Summary, logs: dict[str, list[Row]]) -> None:
    """Rates over time add up to the requests; the minor model is the last tenant."""
    [rows] = logs.values()
    minor = max(row["user_id"] for row in rows)
    good = [row for row in rows if is_good(row)]
    bucket_s = figures["bucket_s"]
    assert sum(figures["goodput_per_s"]) * bucket_s == pytest.approx(len(good), rel=0.05)
    assert sum(figures["minor_goodput_per_s"]) * bucket_s == pytest.approx(
        sum(row["user_id"] == minor for row in good), rel=0.05
    )


def check_fig7(figures: Summary, logs: dict[str, list[Row]]) -> None:
    """Every SLO of every curve has its requests and its share."""
    assert [(curve["models"], curve["paper_rate_per_s"]) for curve in figures["curves"]] == [
        (models, rate) for models in (12, 48) for rate in (600, 1200, 2400)
    ]
    for curve, rows in zip(figures["curves"], logs.values(), strict=True):
        by_factor = defaultdict(list)
        for row in rows:
            by_factor[row["slo_factor"]].append(row)
        assert len(curve["rungs"]) == len(by_factor)
        for rung in curve["rungs"]:
            of_rung = by_factor[rung["multiplier"]]
            assert rung["requests"] == len(of_rung)
            assert rung["satisfied"] == pytest.approx(share(of_rung))


def check_fig8(figures: Summary, logs: dict[str, list[Row]]) -> None:
    """Sensitive requests are those with an SLO; batch ones answer beside them."""
    assert len(figures["mixes"]) == 3
    for mix, rows in zip(figures["mixes"], logs.values(), strict=True):
        sensitive = [row for row in rows if row["user_id"] < 6]
        requests = sum(rung["requests"] for rung in mix["rungs"])
        assert requests == len(sensitive) == sum(row["slo_factor"] > 0 for row in rows)
        satisfied = sum(rung["requests"] * rung["satisfied"] for rung in mix["rungs"])
        assert satisfied == pytest.approx(sum(map(is_good, sensitive)))
        answered = sum(row["user_id"] >= 6 and row["result"] == 0 for row in rows)
        assert bool(answered) == bool(mix["batch_models"])
        in_windows = sum(mix["batch_throughput_per_s"]) * mix["window_s"]
        assert in_windows <= answered + 1e-6


def check_fig9(figures: Summary, logs: dict[str, list[Row]]) -> None:
    """Totals are those of the log but for its begin and end."""
    [rows] = logs.values()
    assert 0.8 * len(rows) <= figures["requests"] <= len(rows)
    assert figures["slo_attainment"] == pytest.approx(share(rows), abs=0.15)
    assert figures["models"] == 192
    assert len(figures["prediction_errors"]) == 8


def check_fig11(figures: Summary, logs: dict[str, list[Row]]) -> None:
    """The most goodput is that of the best step of the load."""
    period_ns = round(60e9 * TINY["fig11"])
    for gpus, rows in zip(figures["max_goodput_per_s"], logs.values(), strict=True):
        begin = min(row["t"] for row in rows)
        good: dict[int, int] = defaultdict(int)
        for row in rows:
            good[int((row["t"] - begin) // period_ns)] += is_good(row)
        best = max(count for step, count in good.items() if step < 7)
        assert figures["max_goodput_per_s"][gpus] == pytest.approx(best * 1e9 / period_ns)


CHECKS: dict[str, Callable[[Summary, dict[str, list[Row]]], None]] = {
    "fig5": check_fig5,
    "fig6": check_fig6,
    "fig7": check_fig7,
    "fig8": check_fig8,
    "fig9": check_fig9,
    "fig11": check_fig11,
}


@pytest.mark.parametrize("stage", [LiveStage(), SimulatedStage()], ids=["live", "simulated"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_summary_agrees_with_the_logs(
    name: str, stage: Stage, models: Models, tmp_path: Path
) -> None:
    """Requests, goodput and the figures of an experiment are those of its logs."""
    perform(EXPERIMENTS[name], setting_of(name, models), stage, tmp_path, SilentAudience())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["stage"] == stage.name
    assert summary["problems"] == []
    logs = {run["name"]: rows_of(tmp_path, run) for run in summary["runs"]}
    assert len(logs) == summary["runs_planned"]
    for run in summary["runs"]:
        rows = logs[run["name"]]
        assert run["sent"] == run["requests"] == len(rows) > 0
        assert run["succeeded"] == sum(row["result"] == 0 for row in rows)
        assert run["good"] == sum(map(is_good, rows))
    CHECKS[name](summary["figures"], logs)
    text = (tmp_path / "README.md").read_text()
    assert all(finding in text for finding in summary["findings"])
    for file in re.findall(r"!\[\w+\]\((\w+)\.png\)", text):
        assert (tmp_path / f"{file}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{file}.pdf").read_bytes().startswith(b"%PDF")


def test_the_simulator_gives_equal_figures_for_equal_seeds(models: Models, tmp_path: Path) -> None:
    """A simulated experiment can be repeated to the last digit."""
    for folder in ("a", "b"):
        perform(
            EXPERIMENTS["fig5"],
            setting_of("fig5", models),
            SimulatedStage(),
            tmp_path / folder,
            SilentAudience(),
        )
    first, second = (tmp_path / folder / "summary.json" for folder in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("stage", [LiveStage(), SimulatedStage()], ids=["live", "simulated"])
def test_an_interrupt_ends_with_what_was_measured(
    stage: Stage, models: Models, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of a run leaves a figure of its first part."""

    log = tmp_path / "logs" / "bursty" / "clockwork_request_log.tsv"
    has_interrupted = False

    def interrupt(_: int) -> None:
        nonlocal has_interrupted
        if not has_interrupted and log.exists() and log.stat().st_size > 10_000:
            has_interrupted = True
            os.kill(os.getpid(), signal.SIGINT)

    setting = replace(setting_of("fig6", models), scale=0.005)
    audience = SilentAudience(interrupt)
    outcome = perform(EXPERIMENTS["fig6"], setting, stage, tmp_path, audience)
    assert outcome.summary.is_interrupted
    assert outcome.summary.problems == ["Interrupted in run 1 of 1."]
    assert outcome.summary.runs[0].requests > 0
    assert (tmp_path / "fig6.png").exists()


def test_the_death_of_a_worker_is_told(models: Models, tmp_path: Path) -> None:
    """A worker that is killed ends its run with its name and signal, and earlier runs count."""

    def kill(_: int) -> None:
        if len(audience.begun) == 2:
            for pid in children_named("worker_dummy"):
                os.kill(pid, signal.SIGKILL)

    audience = SilentAudience(kill)
    setting = setting_of("fig5", models)
    outcome = perform(EXPERIMENTS["fig5"], setting, LiveStage(), tmp_path, audience)
    [problem] = outcome.summary.problems
    assert problem.startswith("Run slo-25ms failed: the worker_dummy ended with signal 9")
    assert len(outcome.summary.runs) == 2
    assert not children_named("controller")


def children_named(name: str) -> list[int]:
    """Return the children of this process that run ``clockwork NAME``."""
    pid = os.getpid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if name.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
    ]


def test_a_model_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    """What the client was refused is told, and nothing is drawn."""
    folder = tmp_path / "models"
    models = emulated_models(folder)
    (folder / "resnet50_v2" / "model.json").unlink()
    with pytest.raises(ClockworkError, match=r"the client failed: .*resnet50_v2"):
        perform(
            EXPERIMENTS["fig5"],
            setting_of("fig5", models),
            LiveStage(),
            tmp_path / "out",
            SilentAudience(),
        )


def test_the_command_makes_a_figure(tmp_path: Path) -> None:
    """The command names runs and files, and ends with 0."""
    out = tmp_path / "out"
    program = Program("experiment", "fig6", f"--out={out}", "--scale=0.0005", "--simulated")
    assert program.wait() == 0, program.output
    assert "[1/1]" in program.output
    assert "fig6.pdf fig6.png summary.json README.md" in program.lines[-1]


def test_an_interrupted_command_says_so(tmp_path: Path) -> None:
    """Ctrl-C once the second run has begun keeps the first; the exit code is that of SIGINT."""
    out = tmp_path / "out"
    program = Program("experiment", "fig5", f"--out={out}", "--scale=0.0005")
    program.wait_for(r"\[2/6\]")
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == 130, program.output
    # A later run if this machine was busy.
    assert re.search(r"Interrupted (in|before) run [2-6] of 6\.", program.output), program.output
    assert json.loads((out / "summary.json").read_text())["is_interrupted"]
    assert (out / "fig5.png").exists()
    assert "Traceback" not in program.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig11", "--real"], "fig11 needs emulated GPUs: leave out --real"),
        (["fig5", "--real", "--simulated"], "--simulated needs emulated GPUs"),
        (["fig5", f"--trace-file={__file__}"], "fig5 replays no trace: leave out --trace-file"),
        (["fig9", f"--trace-file={__file__}"], "no trace of Azure Functions"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], message: str, tmp_path: Path) -> None:
    """What does not fit together ends with 1 and says what to leave out."""
    program = Program("experiment", *arguments, f"--out={tmp_path / 'out'}", "--scale=0.0001")
    assert program.wait() == 1
    assert message in program.output
