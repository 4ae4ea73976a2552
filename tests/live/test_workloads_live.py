"""Every named workload, and replays of traces, against real controllers and emulated workers."""

import asyncio
import io
import json
import shutil
import signal
from collections import Counter
from pathlib import Path

import polars
import pytest
from live.system import LOCALHOST, Program, System

from clockwork.cli.main import main
from clockwork.client.catalogue import WORKLOADS
from clockwork.client.named import RESNET50, Setting, Value
from clockwork.client.trace_generator import generate
from clockwork.client.workload import Workload
from clockwork.live.addresses import Address
from clockwork.live.load_generator import RunOptions, play
from clockwork.live.model_zoo import list_zoo
from clockwork.live.trace_files import read_trace, write_trace
from clockwork.messages.client_io import ClientSummary
from clockwork.models.zoo.emulated import write_emulated
from clockwork.telemetry.report import read_report
from clockwork.units import MS

SAMPLE = Path(__file__).parents[3] / "shared/data/traces/azure2019_500fn_min480-959_invocations.csv"
MODELS = ("densenet121", "googlenet", "resnet18_v1", RESNET50)
SMALL: dict[str, dict[str, Value]] = {
    "simple-parametric": {"model-count": 5, "clients": 2, "concurrency": 3, "requests": 50},
    "poisson-open-loop": {"n": 5, "rate": 200.0},
    "scalability-exp-1": {
        "n": 2, "min": 50.0, "max": 250.0, "factor": 2.0, "op": "mul", "period": 0.1,
    },
    "gamma": {"n": 5, "rate": 200.0},
    "zipf": {"n": 10, "rate": 200.0, "cold": 4},
    "slo-exp-1": {
        "model": RESNET50, "copies": 2, "dist": "poisson", "rate": 100.0, "slo-start": 10,
        "slo-end": 25.0, "slo-factor": 2.0, "slo-op": "mul", "period": 0.2,
    },
    "slo-exp-2": {
        "model": RESNET50, "copies-fg": 2, "dist": "fixed-rate", "rate-fg": 100.0,
        "slo-start": 10, "slo-end": 1000.0, "slo-factor": 1.0, "slo-op": "add", "period": 0.1,
        "copies-bg": 1, "conc-bg": 1, "slo-bg": 0.0,
    },
    "bursty_experiment": {"n": 20},
    "azure": {"memory-load-factor": 1, "stretch": 0.001, "scale": 0.1},
    "azure_scalability_exp": {
        "workers": 1, "min": 0.1, "max": 0.3, "inc": 1.5, "period": 0.1, "memfactor": 1,
        "stretch": 0.001, "scale": 0.5,
    },
    "azure_half": {"stretch": 0.001, "scale": 0.05},
    "azure_small": {"stretch": 0.001, "scale": 0.05},
}  # fmt: skip
"""Values with which each workload takes half a second and does not flood the machine."""
FLOODS = {"spam", "single-spam", "fill_memory"}
"""Too much for a machine that runs everything at once: only their first answers are awaited."""


@pytest.fixture(scope="module")
def zoo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model zoo of four emulated models."""
    everything = tmp_path_factory.mktemp("everything")
    write_emulated(everything)
    zoo = tmp_path_factory.mktemp("zoo")
    for name in MODELS:
        shutil.copytree(everything / name, zoo / name)
    return zoo


@pytest.fixture(scope="module")
def shared_system(tmp_path_factory: pytest.TempPathFactory):
    """Run a controller and four emulated GPUs for all tests that only need some system."""
    with System(tmp_path_factory.mktemp("logs")) as system:
        system.dummy("-n", "4")
        system.controller()
        yield system


def options(port: int, **changes: object) -> RunOptions:
    """Return options for a controller at a port of this machine."""
    return RunOptions(address=Address(LOCALHOST, port), **changes)  # type: ignore[arg-type]


def summary_of(workload: Workload, run_options: RunOptions) -> ClientSummary:
    """Run a workload to its end and return what it says."""
    out = io.StringIO()
    finished = asyncio.run(play(workload, run_options, out=out, stop=asyncio.Event()))
    assert finished.error is None, out.getvalue()
    assert finished.summary is not None
    return finished.summary


def outcome(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr of a command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_named_workload_runs_against_emulated_workers(
    shared_system: System, zoo_dir: Path, name: str
) -> None:
    """Models are loaded, requests are answered, and the run ends with its summary."""
    setting = Setting(
        zoo=list_zoo(str(zoo_dir)), trace=generate(functions=60, minutes=60, seed=1), seed=1
    )
    workload = WORKLOADS[name].make(SMALL.get(name, {}), setting)
    duration_ns = 200 * MS if name in FLOODS else 500 * MS
    changed = Workload(
        workload.name, workload.models, workload.streams, workload.ladders, workload.notes,
        duration_ns,
    )  # fmt: skip
    summary = summary_of(changed, options(shared_system.controller_port, sends_inputs=False))
    if name in FLOODS or name == "azure_single":
        assert summary.sent
        return
    assert summary.succeeded > 0
    assert summary.unanswered == 0
    assert summary.sent == sum(summary.statuses.values())


def test_a_finite_workload_ends_with_its_summary(
    shared_system: System, zoo_dir: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The command prints the original's lines, writes the summary down, and exits with 0."""
    monkeypatch.setenv("CLOCKWORK_MODEL_DIR", str(zoo_dir))
    monkeypatch.setenv("CLOCKWORK_DISABLE_INPUTS", "1")
    file = tmp_path / "summary.json"
    code, out, _ = outcome(
        capsys, "client", shared_system.address, "simple-parametric", "4", "2", "--concurrency",
        "3", "--requests", "100", "--json", file,
    )  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"Running workload `simple-parametric` on {shared_system.address}"
    assert lines[1].startswith("Client inputs are DISABLED.")
    assert lines[2] == f"Connecting to clockwork @ {shared_system.address}"
    assert lines[3] == "Connection established"
    assert lines[4] == "Client->Controller: 0.0MB/s (0 msgs) snd, 0.0MB/s (0 msgs) rcv, "
    assert lines[5] == f"Found 4 models in {zoo_dir}"
    assert "200 sent, 200 succeeded" in out
    assert json.loads(file.read_text(encoding="utf-8"))["statuses"] == {"0": 200}


def test_ctrl_c_ends_a_run_with_a_summary(shared_system: System, zoo_dir: Path) -> None:
    """An endless workload stops when it is told to, with exit code 0."""
    program = Program(
        "client", shared_system.address, "--workload", str(endless_workload(zoo_dir)),
        "--interval", "100ms",
    )  # fmt: skip
    program.wait_for(r"total=\d+ throughput=\d+\.\d\d min=\d+\.\d\d max=\d+\.\d\d mean=\d+\.\d\d")
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == 0, program.output
    assert program.wait_for(r"Summary of `endless`")
    assert "Traceback" not in program.output


def test_ctrl_c_before_the_first_request_says_so(system: System, zoo_dir: Path) -> None:
    """Models cannot be loaded without a worker; there is nothing to sum up yet."""
    system.controller()
    program = Program("client", system.address, "--workload", str(endless_workload(zoo_dir)))
    program.wait_for("Client->Controller")
    program.stop()
    assert program.lines[-1] == "Stopped before the first request"


def endless_workload(zoo_dir: Path) -> Path:
    """Return a workload file without an end."""
    path = zoo_dir.parent / "endless.toml"
    path.write_text(
        f"name = 'endless'\n[[models]]\nname = '{RESNET50}'\npath = '{zoo_dir / RESNET50}'\n"
        "[[streams]]\narrivals = { kind = 'poisson', rate = 100 }\n",
        encoding="utf-8",
    )
    return path


def test_the_logs_of_a_replay_have_the_totals_of_the_trace(
    system: System, zoo_dir: Path, tmp_path: Path
) -> None:
    """An exact replay, compressed in time, is in the request log call by call."""
    made = generate(functions=80, minutes=30, seed=5)
    rare = [each for each in made.functions if each.total < 1000]
    path = tmp_path / "trace.csv"
    write_trace(type(made)("rare", made.period_ns, tuple(rare)), path)
    check_replay(system, zoo_dir, path, stretch=0.001)


@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs the sample of a real trace")
def test_a_replay_of_the_real_sample_ends_with_its_totals(
    system: System, zoo_dir: Path, tmp_path: Path
) -> None:
    """Eight hours of the functions that are called at most 5,000 times take six seconds."""
    header, *rows = SAMPLE.read_text(encoding="utf-8").splitlines()
    rare = [row for row in rows if sum(map(int, row.split(",")[4:])) <= 5000]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join([header, *rare]) + "\n", encoding="utf-8")
    assert len(rare) > 450
    check_replay(system, zoo_dir, path, stretch=0.0002)


def check_replay(system: System, zoo_dir: Path, path: Path, *, stretch: float) -> None:
    """Replay a trace exactly, and compare logs and report with its counts."""
    system.dummy("-n", "4")
    system.controller()
    trace = read_trace(path)
    values = {
        "num-workers": 8, "memory-load-factor": 1, "once": True, "exact": True, "stretch": stretch,
    }  # fmt: skip
    workload = WORKLOADS["azure"].make(values, Setting(zoo=list_zoo(str(zoo_dir)), trace=trace))
    summary = summary_of(workload, options(system.controller_port, sends_inputs=False))
    assert summary.sent == trace.total
    assert summary.unanswered == 0
    for program in reversed(system._programs):
        program.stop()
        system.forget(program)
    rows = polars.read_csv(system.log_dir / "clockwork_request_log.tsv", separator="\t")
    totals = Counter(rows["user_id"].to_list())
    assert [totals[index] for index in range(len(trace.functions))] == [
        function.total for function in trace.functions
    ]
    assert _requests_in_report(system.log_dir) == trace.total


def _requests_in_report(log_dir: Path) -> int:
    requests = read_report(log_dir).report.requests
    assert requests is not None
    return requests.requests
