"""The report in a terminal, and its command."""

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from telemetry_records import action, load, random_requests, request, shown, write_logs

from clockwork.cli.report import report as report_command
from clockwork.errors import ConfigurationError
from clockwork.messages.status import ActionStatus
from clockwork.telemetry.extras import extra
from clockwork.telemetry.report import read_report
from clockwork.telemetry.report_text import GPU_ROWS_MAX
from clockwork.telemetry.rows import ACTION_LOG


def test_a_missing_action_log_is_said(tmp_path: Path) -> None:
    """With one log only, its figures are there and the other's absence is said."""
    report = read_report(write_logs(tmp_path, [request()])).report
    assert report.actions is None
    assert any(ACTION_LOG in text for text in report.warnings)
    assert "nothing is known about actions" in shown(report)


def test_the_terminal_shows_every_section(tmp_path: Path) -> None:
    """A full log gives tables about requests, latency, models, tenants, batches, GPUs, errors."""
    made = random_requests(random.Random(5), 400)
    actions = [action(n, gpu_id=n % 40, status=ActionStatus.SUCCESS) for n in range(80)]
    actions += [load(90), action(91, status=ActionStatus.EXEC_TOO_LATE)]
    text = shown(read_report(write_logs(tmp_path, made, actions)).report)
    for title in (
        "Requests",
        "Latency of",
        "Models (10 of 20",
        "Tenants (3 of 3",
        "Batches (mean size 1.00",
        "GPUs (busy",
        "Prediction errors",
        "Failed actions",
    ):
        assert title in text
    assert f"all 40 ({40 - GPU_ROWS_MAX} hidden)" in text
    assert "INFER EXEC_TOO_LATE" in text


def test_attainment_is_rounded_down(tmp_path: Path) -> None:
    """One late request among a million is not shown as 100 %."""
    made = [request(n, deadline_met=int(n > 0)) for n in range(30_000)]
    text = shown(read_report(write_logs(tmp_path, made)).report)
    assert "99.9966 %" in text
    assert text.split("Models")[1].splitlines()[2].split()[3] == "99.99"


def test_the_command_prints_tables(tmp_path: Path) -> None:
    """`clockwork report LOGDIR` prints the tables and exits with 0."""
    write_logs(tmp_path, [request()], [action()])
    outcome = CliRunner().invoke(report_command, [str(tmp_path), "--per-model", "0"])
    assert outcome.exit_code == 0, outcome.output
    assert "SLO attainment" in outcome.output
    assert "Models" not in outcome.output


def test_the_command_writes_json(tmp_path: Path) -> None:
    """`--json -` prints JSON and nothing else; `--json FILE` writes it beside the tables."""
    write_logs(tmp_path, [request()], [action()])
    printed = CliRunner().invoke(report_command, [str(tmp_path), "--json", "-"])
    assert json.loads(printed.stdout)["requests"]["requests"] == 1
    file = tmp_path / "report.json"
    CliRunner().invoke(report_command, [str(tmp_path), "--json", str(file)])
    assert json.loads(file.read_text()) == json.loads(printed.stdout)


def test_the_command_refuses_times_without_sense(tmp_path: Path) -> None:
    """A time that cannot be read is a usage error that shows how to write one."""
    write_logs(tmp_path, [request()])
    outcome = CliRunner().invoke(report_command, [str(tmp_path), "--from", "soon"])
    assert outcome.exit_code == 2
    assert "100ms, 2.5s" in outcome.output


def test_a_missing_library_names_its_extra() -> None:
    """The error says which library is missing and what to install."""
    with (
        pytest.raises(ConfigurationError, match=r"needs no_such_library.*serving\[report\]"),
        extra("report", purpose="clockwork report"),
    ):
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401
