"""The director of experiments, and what it leaves behind, with a stage that makes logs up."""

import json
import os
import signal
from pathlib import Path

import pytest
from experiment_stage import PretendStage, SilentAudience, setting, write_logs
from msgspec import Struct
from msgspec.structs import replace
from telemetry_records import request

from clockwork.errors import ClockworkError
from clockwork.live.experiments.catalogue import EXPERIMENTS
from clockwork.live.experiments.director import InterruptedBeforeAnythingError, perform
from clockwork.live.experiments.plan import Done, Evaluation, Experiment, Run, Setting
from clockwork.live.experiments.request_counts import Counts, RequestCounts
from clockwork.live.experiments.write_up import RunSummary
from clockwork.messages.status import Status
from clockwork.telemetry.plot_style import new_figure
from clockwork.units import MS, SECOND


class Seen(Struct, frozen=True):
    """What the experiment of these tests measures."""

    runs: list[str]


def evaluate(chosen: Setting, runs: list[Done]) -> Evaluation:
    """Name the runs that there are, and draw nothing."""
    names = [done.run.name for done in runs]
    return Evaluation(Seen(names), [f"{len(names)} runs."], {"empty": new_figure})


def three_runs(chosen: Setting) -> list[Run]:
    """Return three short runs of figure 5."""
    return EXPERIMENTS["fig5"].plan(chosen)[:3]


EXPERIMENT = Experiment(
    name="fig0",
    title="Nothing",
    paper="The paper shows nothing.",
    differences=("It is made up.",),
    default_scale=0.5,
    plan=three_runs,
    evaluate=evaluate,
)


def test_everything_is_left_in_one_folder(tmp_path: Path) -> None:
    """Figure, summary and text lie beside the logs; the text has all parts."""
    audience = SilentAudience()
    outcome = perform(EXPERIMENT, setting(EXPERIMENT), PretendStage(), tmp_path, audience)
    assert [path.name for path in outcome.files] == [
        "empty.pdf", "empty.png", "summary.json", "README.md",
    ]  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["figures"] == {"runs": ["slo-10ms", "slo-25ms", "slo-50ms"]}
    assert [run["requests"] for run in summary["runs"]] == [2, 2, 2]
    assert summary["problems"] == []
    text = (tmp_path / "README.md").read_text()
    for part in ("The paper shows nothing.", "- 3 runs.", "- It is made up.", "empty.png", "1/2"):
        assert part in text
    assert "What went wrong" not in text
    assert audience.begun == ["1/3 slo-10ms", "2/3 slo-25ms", "3/3 slo-50ms"]
    assert [run.good for run in audience.done] == [2, 2, 2]


def test_a_failure_keeps_what_was_measured_before(tmp_path: Path) -> None:
    """The runs before a failing one are evaluated; the failure is told, no run follows."""
    stage = PretendStage(fails_in="slo-25ms")
    outcome = perform(EXPERIMENT, setting(EXPERIMENT), stage, tmp_path, SilentAudience())
    assert stage.performed == ["slo-10ms", "slo-25ms"]
    assert outcome.summary.problems == ["Run slo-25ms failed: the worker ended with signal 9"]
    assert outcome.summary.figures == Seen(["slo-10ms"])
    assert outcome.summary.runs[1].sent is None
    assert "signal 9" in (tmp_path / "README.md").read_text()


def test_an_interruption_keeps_what_was_measured_before(tmp_path: Path) -> None:
    """The interrupted run counts with what it has, and no run follows."""
    stage = PretendStage(interrupted_in="slo-25ms")
    outcome = perform(EXPERIMENT, setting(EXPERIMENT), stage, tmp_path, SilentAudience())
    assert outcome.summary.is_interrupted
    assert outcome.summary.problems == ["Interrupted in run 2 of 3."]
    assert outcome.summary.figures == Seen(["slo-10ms", "slo-25ms"])


def press_ctrl_c() -> None:
    """Do to this process what Ctrl-C in a terminal does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_between_two_runs_begins_no_other(tmp_path: Path) -> None:
    """The runs before are whole, and evaluated."""

    class Impatient(SilentAudience):
        def on_done(self, run: RunSummary) -> None:
            super().on_done(run)
            if len(self.done) == 2:
                press_ctrl_c()

    stage = PretendStage()
    outcome = perform(EXPERIMENT, setting(EXPERIMENT), stage, tmp_path, Impatient())
    assert stage.performed == ["slo-10ms", "slo-25ms"]
    assert outcome.summary.problems == ["Interrupted before run 3 of 3."]
    assert outcome.summary.is_interrupted
    assert outcome.summary.figures == Seen(["slo-10ms", "slo-25ms"])


def test_ctrl_c_while_drawing_changes_nothing(tmp_path: Path) -> None:
    """All runs are done: the figures are drawn to the end."""

    def evaluate_slowly(chosen: Setting, runs: list[Done]) -> Evaluation:
        press_ctrl_c()
        return evaluate(chosen, runs)

    slow = replace(EXPERIMENT, evaluate=evaluate_slowly)
    outcome = perform(slow, setting(slow), PretendStage(), tmp_path, SilentAudience())
    assert not outcome.summary.is_interrupted
    assert outcome.summary.problems == []
    assert (tmp_path / "empty.png").exists()


def test_a_second_ctrl_c_while_nobody_listens_ends_at_once(tmp_path: Path) -> None:
    """Who asks twice does not want the figures either."""

    def evaluate_for_ever(chosen: Setting, runs: list[Done]) -> Evaluation:
        press_ctrl_c()
        press_ctrl_c()
        raise AssertionError("still here")

    slow = replace(EXPERIMENT, evaluate=evaluate_for_ever)
    with pytest.raises(KeyboardInterrupt):
        perform(slow, setting(slow), PretendStage(), tmp_path, SilentAudience())


def test_signals_are_given_back(tmp_path: Path) -> None:
    """After an experiment Ctrl-C means again what it meant before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    perform(EXPERIMENT, setting(EXPERIMENT), PretendStage(), tmp_path, SilentAudience())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_interruption_before_the_first_request_is_no_failure(tmp_path: Path) -> None:
    """There is nothing to draw, and nothing went wrong."""
    stage = PretendStage(lambda _: [], interrupted_in="slo-10ms")
    with pytest.raises(InterruptedBeforeAnythingError, match=r"Interrupted in run 1 of 3\."):
        perform(EXPERIMENT, setting(EXPERIMENT), stage, tmp_path, SilentAudience())


def test_nothing_measured_is_an_error(tmp_path: Path) -> None:
    """A first run that fails leaves nothing to draw: the failure itself is raised."""
    stage = PretendStage(fails_in="slo-10ms")
    with pytest.raises(ClockworkError, match="signal 9"):
        perform(EXPERIMENT, setting(EXPERIMENT), stage, tmp_path, SilentAudience())


def test_logs_of_an_earlier_attempt_do_not_count(tmp_path: Path) -> None:
    """A run that fails at once is not taken for an earlier one in the same folder."""
    perform(EXPERIMENT, setting(EXPERIMENT), PretendStage(), tmp_path, SilentAudience())
    stage = PretendStage(fails_in="slo-25ms")
    outcome = perform(EXPERIMENT, setting(EXPERIMENT), stage, tmp_path, SilentAudience())
    assert outcome.summary.figures == Seen(["slo-10ms"])


def test_requests_are_counted_by_any_key(tmp_path: Path) -> None:
    """Succeeded requests, and those in time, are counted per group."""
    write_logs(
        tmp_path,
        [
            request(0, user_id=1),
            request(SECOND, user_id=1, deadline_met=0),
            request(SECOND + MS, user_id=2, result=Status.TIMEOUT, deadline_met=0),
        ],
    )
    counts = RequestCounts(tmp_path)
    assert counts.total() == Counts(requests=3, succeeded=2, good=1)
    assert counts.by(counts.period(SECOND)) == {(0,): Counts(1, 1, 1), (1,): Counts(2, 1, 0)}
    assert counts.total().share == pytest.approx(1 / 3)


def test_a_log_without_rows_counts_nothing(tmp_path: Path) -> None:
    """All counts are zero, and a share of nothing is none."""
    write_logs(tmp_path, [])
    assert RequestCounts(tmp_path).total() == Counts()
    assert Counts().share == 0.0
