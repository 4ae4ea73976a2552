"""What experiments read from made-up logs, say, and draw."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from experiment_stage import PretendStage, SilentAudience, setting
from telemetry_records import request

from clockwork.live.experiments import fig5, fig6, fig7, fig8, fig9, fig11, slo_ladder
from clockwork.live.experiments.catalogue import EXPERIMENTS
from clockwork.live.experiments.director import Outcome, perform
from clockwork.live.experiments.plan import Run
from clockwork.live.experiments.slo_ladder import Met, Rung
from clockwork.messages.records import RequestRecord
from clockwork.messages.status import Status
from clockwork.telemetry.summary import Series
from clockwork.units import MS, SECOND

SCALE = 0.01


def outcome(name: str, tmp_path: Path, stage: PretendStage, scale: float = SCALE) -> Outcome:
    """Return what comes of an experiment on made-up logs."""
    experiment = EXPERIMENTS[name]
    return perform(experiment, setting(experiment, scale=scale), stage, tmp_path, SilentAudience())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_requests_are_enough_for_a_figure(name: str, tmp_path: Path) -> None:
    """However early a run was cut, it is drawn, and something is said of it."""
    stage = PretendStage(interrupted_in=None)
    found = outcome(name, tmp_path, stage, scale=0.001)
    assert found.summary.findings
    assert {path.suffix for path in found.files} == {".pdf", ".png", ".json", ".md"}
    for path in found.files:
        assert path.stat().st_size > 500


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_first_run_alone_is_drawn_too(name: str, tmp_path: Path) -> None:
    """An experiment that is interrupted in its first run still has a figure."""
    experiment = EXPERIMENTS[name]
    first = experiment.plan(setting(experiment, scale=0.001))[0].name
    found = outcome(name, tmp_path, PretendStage(interrupted_in=first), scale=0.001)
    assert len(found.summary.runs) == 1
    assert found.summary.is_interrupted


def test_figure_5_leaves_out_the_begin(tmp_path: Path) -> None:
    """Goodput counts from a third of the run on."""

    def requests(run: Run) -> Iterator[RequestRecord]:
        third_ns = run.length_ns // 3
        yield request(0, deadline_met=0)
        for index in range(1000):
            yield request(third_ns + index * (2 * third_ns // 1000))

    found = outcome("fig5", tmp_path, PretendStage(requests), scale=1 / 60)
    assert isinstance(found.summary.figures, fig5.Figures)
    for bar in found.summary.figures.bars:
        assert bar.goodput_per_s == pytest.approx(1000 / 20, rel=0.01)
        assert bar.late_share == 0


def bar(slo_ms: int, goodput: float, late: float = 0.0) -> fig5.Bar:
    """Return a bar of figure 5."""
    return fig5.Bar(
        slo_ms=slo_ms,
        paper_goodput_per_s=500,
        goodput_per_s=goodput,
        offered_per_s=1000.0,
        slo_attainment=goodput / 1000,
        late_share=late,
        mean_batch_size=2.0,
        p50_ms=5.0,
        p99_ms=9.0,
        p99_9_ms=9.5,
        max_ms=9.9,
    )


def test_figure_5_says_when_it_is_as_in_the_paper() -> None:
    """Growing goodput without late answers is what the paper shows."""
    told = " ".join(fig5.findings([bar(10, 300), bar(25, 400)]))
    assert "as in the paper" in told
    assert "No request that was answered with success came late" in told


def test_figure_5_says_when_it_is_not_as_in_the_paper() -> None:
    """Falling goodput and late answers are told with their SLO."""
    told = " ".join(fig5.findings([bar(10, 300, late=0.01), bar(25, 200)]))
    assert "Unlike the paper, goodput falls from 10 to 25 ms" in told
    assert "1.00% came late (SLO 10 ms)" in told


def test_figure_5_compares_nothing_with_one_bar() -> None:
    """Whether goodput grows cannot be seen in a first run alone."""
    told = " ".join(fig5.findings([bar(10, 300)]))
    assert "grows" not in told
    assert "falls" not in told


def test_figure_6_tells_the_minor_model_apart(tmp_path: Path) -> None:
    """The tenant after the majors is the minor model."""
    ramp = fig6.ramp(setting(EXPERIMENTS["fig6"], scale=SCALE))

    def requests(run: Run) -> Iterator[RequestRecord]:
        for index in range(300):
            at_ns = index * run.length_ns // 300
            is_minor = index % 3 == 0
            user_id = ramp.models if is_minor else 0
            yield request(at_ns, user_id=user_id, deadline_met=int(is_minor), is_coldstart=1)

    found = outcome("fig6", tmp_path, PretendStage(requests))
    figures = found.summary.figures
    assert isinstance(figures, fig6.Figures)
    assert sum(figures.minor_goodput_per_s) * figures.bucket_s == pytest.approx(100, abs=1)
    assert sum(figures.goodput_per_s) * figures.bucket_s == pytest.approx(100, abs=1)
    assert figures.active_models[-1] == pytest.approx(ramp.models, rel=0.02)
    assert "100.0% of the minor model's requests were satisfied" in found.summary.findings[-1]
    assert all(share in (0, 1) for share in figures.cold_start_share)


def ladder_requests(run: Run) -> Iterator[RequestRecord]:
    """Yield ten requests per SLO, of which those below 5 execution times fail; and batch ones."""
    period_ns = slo_ladder.period_ns(SCALE)
    for index, multiplier in enumerate(slo_ladder.multipliers()):
        is_met = multiplier > 5
        for part in range(10):
            yield request(
                index * period_ns + part * period_ns // 10,
                slo_factor=multiplier,
                result=Status.SUCCESS if is_met else Status.TIMEOUT,
                deadline_met=int(is_met),
            )
            if "batch" in run.name:
                yield request(index * period_ns + part * period_ns // 10, user_id=6, latency=0)


def test_figure_7_groups_by_the_slo(tmp_path: Path) -> None:
    """Each curve has the share of every SLO, and the tightest one that is met."""
    found = outcome("fig7", tmp_path, PretendStage(ladder_requests))
    assert isinstance(found.summary.figures, fig7.Figures)
    for curve in found.summary.figures.curves:
        assert [rung.multiplier for rung in curve.rungs] == slo_ladder.multipliers()
        assert [rung.requests for rung in curve.rungs] == 12 * [10]
        assert curve.tightest_met == Met(multiplier=1.5**4, least=1.0)
    assert "99% are satisfied from 5.06 execution times (13.8 ms) on" in found.summary.findings[1]


def test_figure_8_keeps_both_kinds_of_clients_apart(tmp_path: Path) -> None:
    """Windows have the satisfaction of the sensitive ones and the answers to the others."""
    found = outcome("fig8", tmp_path, PretendStage(ladder_requests))
    assert isinstance(found.summary.figures, fig8.Figures)
    for mix in found.summary.figures.mixes:
        assert len(mix.at_s) == 12 * fig8.WINDOWS_PER_RUNG
        assert set(mix.satisfied) == {0.0, 1.0}
        assert mix.batch_mean_per_s == pytest.approx(10 / (slo_ladder.period_ns(SCALE) / SECOND))
    assert "less than a hundredth" in found.summary.findings[-1]


def test_an_slo_that_fails_later_is_told() -> None:
    """The tightest SLO that is met stays, and the worst looser one is told."""
    rungs = [Rung(1, 10, 0.2), Rung(1.5, 10, 1.0), Rung(2.25, 10, 0.9), Rung(3.4, 10, 1.0)]
    met = slo_ladder.tightest_met(rungs)
    assert met == Met(multiplier=1.5, least=0.9)
    told = slo_ladder.met_sentence(rungs, met, exec_ms=2.0)
    assert told == "99% are satisfied from 1.5 execution times (3.0 ms) on, but once only 90.0%"


def test_an_slo_that_is_never_met_is_told() -> None:
    """Without any rung of 99 % the best one is told."""
    rungs = [Rung(1, 10, 0.2), Rung(1.5, 10, 0.5)]
    assert slo_ladder.tightest_met(rungs) is None
    told = slo_ladder.met_sentence(rungs, None, exec_ms=2.0)
    assert told == "no SLO is met by 99%, the best one by 50.0%"


def figures_11(most: dict[int, float]) -> fig11.Figures:
    """Return figures of figure 11 without anything over time."""
    return fig11.Figures("made up", 10, [], most, None)


def test_figure_11_says_how_far_growth_is_linear() -> None:
    """Goodput per GPU may fall by a seventh; beyond, the machine is the limit."""
    told = " ".join(fig11.findings(figures_11({1: 100, 2: 220, 4: 420, 8: 500})))
    assert "linear up to 4 GPUs" in told
    assert "With 8 GPUs goodput is 57%" in told


def test_figure_11_says_when_no_limit_was_reached() -> None:
    """If the largest cluster is as good per GPU as the others, growth is linear throughout."""
    told = " ".join(fig11.findings(figures_11({1: 100, 2: 220, 4: 420})))
    assert "Growth is linear up to 4 GPUs, the most that were tried." in told


def test_figure_11_calls_one_point_no_line() -> None:
    """The first cluster alone says nothing about growth."""
    assert "linear" not in " ".join(fig11.findings(figures_11({1: 100})))


def test_figure_11_takes_the_best_load_of_each_run(tmp_path: Path) -> None:
    """The most goodput is that of the best period, not the mean of the run."""
    period_ns = round(60 * SECOND * SCALE)

    def requests(run: Run) -> Iterator[RequestRecord]:
        for step in range(7):
            for index in range(10 * (step + 1)):
                is_good = step < 4
                yield request(step * period_ns + index * MS, deadline_met=int(is_good))

    found = outcome("fig11", tmp_path, PretendStage(requests))
    figures = found.summary.figures
    assert isinstance(figures, fig11.Figures)
    expected = 40 * SECOND / period_ns
    assert figures.max_goodput_per_s == {gpus: pytest.approx(expected) for gpus in fig11.GPUS}
    assert figures.course is not None
    assert figures.course.gpus == fig11.SHOWN


@pytest.mark.parametrize(
    ("met", "message"),
    [
        (1.0, "all 400 requests were satisfied."),
        (
            0.99,
            "of 400 requests 4 were not satisfied (0.01 of all), of which 1 were answered late.",
        ),
    ],
)
def test_figure_9_counts_what_was_not_satisfied(met: float, message: str) -> None:
    """A perfect run is told in one word, any other one by its misses."""
    figures = fig9.Figures(
        trace="made up",
        models=1,
        requests=400,
        offered_per_s=4,
        goodput_per_s=4 * met,
        slo_attainment=met,
        late=1,
        cold_starts=0,
        cold_start_share=0,
        latency=None,
        mean_batch_size=1,
        prediction_errors=[],
        series=Series(1.0, *([] for _ in range(len(Series.__struct_fields__) - 1))),
    )
    assert message in fig9.findings(figures, slo_ms=100)[0]


def test_a_replayed_trace_is_named_in_the_text(tmp_path: Path) -> None:
    """A synthetic trace is not what the paper replayed, and the text says what it was."""
    outcome("fig9", tmp_path, PretendStage())
    text = (tmp_path / "README.md").read_text()
    assert "What is replayed: synthetic, 300 functions, 480 minutes, seed 3" in text
