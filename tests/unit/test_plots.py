"""The plots: which files come of which logs, and what stands on their axes."""

import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from telemetry_records import action, load, request, write_logs

from clockwork.cli.report import report as report_command
from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.messages.status import Status
from clockwork.telemetry import plots
from clockwork.telemetry.plot_style import COLOURS, DASHES, new_figure, style
from clockwork.telemetry.report import read_report
from clockwork.telemetry.summary import Distribution
from clockwork.units import MS, SECOND, US


def busy_run(seconds: int) -> tuple[list[RequestRecord], list[ActionRecord]]:
    """Return requests and actions of a run with some of everything."""
    rng = random.Random(2)
    requests = [
        request(
            rng.randrange(seconds * SECOND),
            latency=rng.randrange(2 * MS, 40 * MS),
            model_id=rng.randrange(9),
            is_coldstart=rng.randrange(2),
        )
        for _ in range(300)
    ]
    actions = [
        make(
            rng.randrange(seconds * SECOND),
            worker_exec_duration=3 * MS + rng.randrange(-90, 900) * US,
            worker_exec_complete=4 * MS + rng.randrange(-90, 900) * US,
        )
        for make in (action, load)
        for _ in range(200)
    ]
    return requests, actions


def labels(figure: Figure) -> list[tuple[str, str]]:
    """Return the labels of all axes of a figure."""
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def test_every_plot_is_written_as_pdf_and_png(tmp_path: Path) -> None:
    """A full log gives four plots in two formats, in a directory that is made for them."""
    analysis = read_report(write_logs(tmp_path, *busy_run(20)))
    written = plots.draw_all(analysis, tmp_path / "new" / "plots")
    assert [path.name for path in written] == [
        "overview.pdf",
        "overview.png",
        "latency_cdf.pdf",
        "latency_cdf.png",
        "batch_sizes.pdf",
        "batch_sizes.png",
        "prediction_errors.pdf",
        "prediction_errors.png",
    ]
    assert all(path.stat().st_size > 5_000 for path in written)
    assert written[0].read_bytes().startswith(b"%PDF")
    assert written[1].read_bytes().startswith(b"\x89PNG")


def test_logs_that_tell_little_give_fewer_plots(tmp_path: Path) -> None:
    """Without a success and without actions only the run over time can be drawn."""
    analysis = read_report(write_logs(tmp_path, [request(result=Status.TIMEOUT)]))
    names = {path.stem for path in plots.draw_all(analysis, tmp_path)}
    assert names == {"overview"}


def test_an_empty_log_can_be_drawn(tmp_path: Path) -> None:
    """Logs without rows give an empty overview instead of an error."""
    written = plots.draw_all(read_report(write_logs(tmp_path, [], [])), tmp_path)
    assert {path.stem for path in written} == {"overview"}


@pytest.mark.parametrize(("seconds", "unit"), [(20, "s"), (900, "min"), (4 * 3600, "h")])
def test_axes_are_labelled_with_units(tmp_path: Path, seconds: int, unit: str) -> None:
    """Every panel says what it shows and in which unit; time is in the unit that suits the run."""
    analysis = read_report(write_logs(tmp_path, *busy_run(seconds)))
    with style():
        overview = labels(plots.overview(analysis))
        latency = plots.latency_cdf(analysis)
        errors = plots.prediction_errors(analysis)
    assert [y for _, y in overview] == [
        "requests/s",
        "latency (ms)",
        "mean batch size (requests)",
        "utilization (%)",
        "models",
        "cold starts/s",
    ]
    assert [x for x, _ in overview][-2:] == [f"time ({unit})"] * 2
    assert latency is not None
    assert labels(latency) == [("latency (ms)", "requests that are faster (%)")]
    assert errors is not None
    assert labels(errors) == [("error (ms)", "actions below (%)")] * 4


def test_exact_predictions_are_said_in_words(tmp_path: Path) -> None:
    """A panel whose errors are all zero says so instead of showing an empty frame."""
    analysis = read_report(write_logs(tmp_path, None, [action(), action(worker_exec_complete=1)]))
    with style():
        figure = plots.prediction_errors(analysis)
    assert figure is not None
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["every prediction exact"], []]


def test_a_tail_ends_where_the_data_ends() -> None:
    """The axis of a tail has one nine per power of ten of values, six at most."""
    for count, bottom in ((5, 0.1), (1_000, 1e-3), (10**9, 1e-6)):
        with style():
            axes = new_figure().subplots()
            values = Distribution(values_ms=[1.0, 2.0], counts=[count - 1, 1])
            plots.draw_tail(axes, values, color=COLOURS[0])
            assert axes.get_ylim() == pytest.approx((1.0, bottom))


def test_the_wider_of_two_tails_sets_the_axis() -> None:
    """Of several lines the one with most values decides how far the axis goes."""
    for counts in ((1_000, 10), (10, 1_000)):
        with style():
            axes = new_figure().subplots()
            for count in counts:
                values = Distribution(values_ms=[1.0], counts=[count])
                plots.draw_tail(axes, values, color=COLOURS[0])
            assert axes.get_ylim()[1] == pytest.approx(1e-3)


def test_lines_differ_in_colour_and_in_dashes() -> None:
    """As many dashes as colours, none twice, so that lines differ in grey print too."""
    assert len(set(COLOURS)) == len(COLOURS) == len(DASHES) == len({str(d) for d in DASHES})


def test_the_command_draws(tmp_path: Path) -> None:
    """`--out DIR` draws into DIR and names every file."""
    write_logs(tmp_path, *busy_run(20))
    out = tmp_path / "plots"
    outcome = CliRunner().invoke(report_command, [str(tmp_path), "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    assert f"wrote {out / 'overview.pdf'}" in outcome.output.replace("\n", "")
