"""The programs in ``examples/``, run as their first lines say, against real processes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.system import PATIENCE_S, Program, System
from live.zoo import Zoo

from clockwork.models.zoo.emulated import write_emulated

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> Iterator[System]:
    """Run a worker that computes and takes uploads, and a controller; ``digits`` is loaded."""
    folder = tmp_path_factory.mktemp("system")
    directory = zoo.directory("digits")
    with System(folder / "logs") as system:
        system.worker(
            f"--model-dirs={directory.parent}",
            f"--upload-dir={folder / 'uploads'}",
            "--weights-cache-size=64MiB",
        )
        system.controller()
        system.connect().load_model("digits")
        yield system


def run(name: str, *arguments: str) -> str:
    """Return what an example prints; it must end with 0."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ask(serving: System) -> None:
    """A possible promise is kept, an impossible one refused with a reason."""
    kept, refused = run("ask.py", serving.address).splitlines()
    assert re.fullmatch(r"digits: scores \(10,\) after [\d.]+ ms", kept)
    assert refused.startswith("digits: ")
    assert "SLO 0.1 ms" in refused


def test_ask_many(serving: System) -> None:
    """Every request is answered or refused."""
    out = run("ask_many.py", serving.address, "--rate=200", "--seconds=1", "--slo-ms=1000")
    assert re.match(r"digits: \d+ requests, \{'in time': \d+", out)
    assert "latency p50" in out


def test_own_model(serving: System, tmp_path: Path) -> None:
    """A model of one's own gives the answers of its file."""
    out = run("own_model.py", serving.address, str(tmp_path))
    found = re.search(r"answered after [\d.]+ ms, off by (\S+) from numpy", out)
    assert found is not None
    assert float(found[1]) < 1e-4
    assert (tmp_path / "mine" / "model.json").is_file()


def test_two_tenants(system: System, tmp_path: Path) -> None:
    """The workload file runs to the end of its ladder, and both tenants are in the log."""
    write_emulated(tmp_path / "zoo")
    system.dummy()
    system.controller()
    program = Program(
        "client",
        system.address,
        "--workload",
        str(EXAMPLES / "two_tenants.toml"),
        environ={"CLOCKWORK_MODEL_DIR": str(tmp_path / "zoo"), "CLOCKWORK_DISABLE_INPUTS": "1"},
    )
    assert program.wait() == 0, program.output
    program.wait_for("Updating slo_factor to 32")
    program.wait_for("Summary of `two tenants`")
    header, *rows = (
        line.split("\t")
        for line in (system.log_dir / "clockwork_request_log.tsv").read_text().splitlines()
    )
    tenant, factor = header.index("user_id"), header.index("slo_factor")
    factors = {(row[tenant], float(row[factor])) for row in rows}
    assert factors == {("1", 0), *(("2", each) for each in (2, 4, 8, 16, 32))}
