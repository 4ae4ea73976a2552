"""``clockwork simulate``."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clockwork.cli.report import report
from clockwork.cli.simulate import simulate
from clockwork.errors import ConfigurationError
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG

SHORT = ("--duration", "2s", "--rate", "100")


def invoke(*arguments: str) -> Result:
    """Return the outcome of ``clockwork simulate``."""
    return CliRunner().invoke(simulate, arguments, standalone_mode=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("steady", *SHORT),
        ("azure-like", "--models", "64", *SHORT),
        ("faults", "--rate", "100", "--duration", "12s", "--workers", "2"),
        ("simple", *SHORT),
        ("zipf", "n=20", "rate=100", *SHORT),
        ("azure_small", "trace=2", "--gpus", "4", *SHORT),
    ],
)
def test_named_scenarios_run(arguments: tuple[str, ...]) -> None:
    """Scenarios of the simulator and workloads of the client go to their end."""
    result = invoke(*arguments)
    assert result.exception is None, result.output
    assert result.return_value == 0, result.output
    assert "Summary of" in result.stdout
    digest = result.stdout.splitlines()[-1]
    assert digest.startswith("digest ")
    assert len(digest) == len("digest ") + 32


def test_the_same_arguments_give_the_same_output_except_for_wall_time() -> None:
    """Digest and telemetry agree; another seed gives other ones."""
    first, again = invoke(*SHORT), invoke(*SHORT)
    other = invoke(*SHORT, "--seed", "2")
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
    assert first.stdout.splitlines()[-1] != other.stdout.splitlines()[-1]


def test_telemetry_is_what_the_report_reads(tmp_path: Path) -> None:
    """The two files have the usual names, and `clockwork report` counts every request."""
    out = tmp_path / "run"
    result = invoke(*SHORT, "--inputs", "--out", str(out))
    assert result.return_value == 0, result.output
    assert {path.name for path in out.iterdir()} == {REQUEST_LOG, ACTION_LOG}
    figures = CliRunner().invoke(report, [str(out), "--json", "-"], standalone_mode=False)
    assert figures.exception is None, figures.output
    rows = (out / REQUEST_LOG).read_text().count("\n") - 1
    assert rows > 100
    assert str(rows) in json.dumps(json.loads(figures.stdout))


def test_a_workload_file_is_played(tmp_path: Path) -> None:
    """The file of `clockwork client --workload` serves here as well."""
    file = tmp_path / "workload.toml"
    file.write_text(
        """
[[models]]
name = "resnet50_v2"
copies = 3

[[streams]]
arrivals = { kind = "poisson", rate = 50 }
"""
    )
    result = invoke("--workload", str(file), "--duration", "2s")
    assert result.exception is None, result.exception
    assert "Summary of" in result.stdout


def test_unknown_names_are_told_with_what_there_is() -> None:
    """A scenario, a parameter and its value are checked before anything runs."""
    for arguments, message in (
        (("nothing",), "no scenario 'nothing'; there are: steady"),
        (("zipf", "nothing=1"), "cannot read 'nothing=1'; zipf takes"),
        (("zipf", "n=many"), "n is 'many', expected: int"),
        (("steady", "models=3"), "steady takes no parameters"),
    ):
        result = invoke(*arguments, *SHORT)
        assert isinstance(result.exception, ConfigurationError), arguments
        assert message in str(result.exception), str(result.exception)


def test_a_policy_can_be_chosen() -> None:
    """ECHO answers everything at once, without any device."""
    result = invoke(*SHORT, "--policy", "ECHO")
    assert result.return_value == 0, result.output
    assert "(100.0000% of those sent)" in result.stdout


def test_a_swarm_passes_and_says_so() -> None:
    """Seeds are counted; processes can share the work."""
    result = invoke("--swarm", "2", "--from", "8", "--jobs", "2")
    assert result.return_value == 0, result.output
    assert "2 of 2 seeds pass" in result.stdout


def test_noise_and_network_are_options() -> None:
    """Durations and messages that vary make another run, in which nothing fails."""
    calm, noisy = invoke(*SHORT), invoke(*SHORT, "--noise", "0.2", "--jitter", "2ms")
    assert noisy.return_value == 0, noisy.output
    assert "0 accepted ones were late" in calm.stdout
    assert noisy.stdout.splitlines()[-1] != calm.stdout.splitlines()[-1]


def test_an_interrupted_run_tells_what_there_was(tmp_path: Path) -> None:
    """Ctrl-C closes the telemetry and prints the totals so far."""
    out = tmp_path / "run"
    arguments = ["simulate", "--duration", "1000000s", "--out", str(out), "--interval", "1s"]
    with subprocess.Popen(
        [sys.executable, "-m", "clockwork", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "Admitting" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        told, complaint = process.communicate()
    assert process.returncode == 130, complaint
    assert "interrupted" in complaint
    assert told.splitlines()[-1].startswith("digest ")
    assert (out / REQUEST_LOG).read_text().startswith("t\t")
