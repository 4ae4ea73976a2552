"""`clockwork serve` as a user runs it: processes, signals, deaths."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import clockwork
from clockwork.models.compile import compile_model
from clockwork.models.zoo.shipped import DIGITS_ONNX, digits_test_set


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Return a folder with one real model."""
    folder = tmp_path_factory.mktemp("models")
    compile_model(DIGITS_ONNX, folder / "digits", batch_sizes=(1, 2, 4))
    return folder


class Server:
    """A running `clockwork serve`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of the next line with `pattern`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line with {pattern}:\n{''.join(self.lines)}")

    def end(self) -> int:
        """Return the exit code, after reading all that is left."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        return self.process.wait()

    def children(self) -> dict[str, int]:
        """Return the process ids of worker and controller by the kernel's account."""
        pid = self.process.pid
        ids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = ("worker", "controller")
        words = {int(each): Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0") for each in ids}
        return {name: id_ for id_, line in words.items() for name in names if name.encode() in line}


@contextmanager
def serving(models: Path, tmp_path: Path, *arguments: str) -> Iterator[Server]:
    """Run `clockwork serve` on free ports; end it with the test."""
    command = ["serve", str(models), "--port=0", "--cache=64MiB", f"--log-dir={tmp_path / 'logs'}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clockwork", *command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        if process.poll() is None:
            process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


def wait_until_gone(pid: int) -> None:
    """Return when a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], 30)
        assert ready, f"process {pid} is still there"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(models, tmp_path, number):
    """The ready line names the address, answers are right, a signal ends it with 0."""
    images, labels = digits_test_set()
    with serving(models, tmp_path) as server:
        address = server.wait_for(r"Ready: 1 models at (\S+)")[1]
        children = server.children()
        assert sorted(children) == ["controller", "worker"]
        with clockwork.connect(address) as client:
            model = client.model("digits")
            futures = [model.infer_async(image, slo_ms=5000) for image in images]
            read = [int(np.argmax(future.result()["scores"])) for future in futures]
        assert np.mean(np.array(read) == labels) >= 0.97
        server.process.send_signal(number)
        assert server.end() == 0
        for pid in children.values():
            wait_until_gone(pid)
    rows = (tmp_path / "logs" / "clockwork_request_log.tsv").read_text().splitlines()
    assert len(rows) == 1 + len(images)


def test_clients_may_upload_where_it_was_told_to_keep_models(models, tmp_path):
    """A model that comes later is kept in the folder, loaded by its name, and right."""
    uploads = tmp_path / "uploads"
    images, _ = digits_test_set()
    with serving(models, tmp_path, f"--upload-dir={uploads}") as server:
        address = server.wait_for(r"Ready: 1 models at (\S+)")[1]
        with clockwork.connect(address) as client:
            assert client.upload(models / "digits", name="later").sent_count == 1
            later = client.load_model("later")
            found = later.infer(images[0], slo_ms=5000)["scores"]
            assert np.allclose(
                found, client.model("digits").infer(images[0], slo_ms=5000)["scores"]
            )
        assert (uploads / "later" / "model.json").is_file()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize("victim", ["worker", "controller"])
def test_the_death_of_a_child_is_told_and_ends_all(models, tmp_path, victim):
    """A child that dies is named, the other one is stopped, the exit code is 1."""
    with serving(models, tmp_path) as server:
        server.wait_for("Ready")
        children = server.children()
        os.kill(children[victim], signal.SIGKILL)
        assert server.end() == 1
        assert f"error: the {victim} ended with signal 9" in "".join(server.lines)
        for pid in children.values():
            wait_until_gone(pid)


def test_children_die_with_their_parent(models, tmp_path):
    """Not even a killed parent leaves processes behind."""
    with serving(models, tmp_path) as server:
        server.wait_for("Ready")
        children = server.children()
        server.process.kill()
        for pid in children.values():
            wait_until_gone(pid)


def test_an_emulated_worker_serves_too(models, tmp_path):
    """With --emulated nothing is computed, and the answer is zeros."""
    with serving(models, tmp_path, "--emulated", "--gpus=2") as server:
        address = server.wait_for(r"Ready: 1 models at (\S+)")[1]
        with clockwork.connect(address) as client:
            inference = client.model("digits").infer(np.zeros((1, 8, 8), np.float32), slo_ms=5000)
        assert not inference["scores"].any()


def test_a_folder_without_models_is_refused(tmp_path):
    """The error says how to make a model."""
    with serving(tmp_path, tmp_path) as server:
        assert server.end() == 1
        assert "there is no model in" in server.lines[-1]
        assert "clockwork compile" in server.lines[-1]


def test_a_broken_model_is_refused(tmp_path):
    """A model directory that cannot be read ends the start with the reason."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.json").write_text("{")
    with serving(tmp_path, tmp_path) as server:
        assert server.end() == 1
        assert server.lines[-1].startswith("error: ")
        assert "model.json is broken" in server.lines[-1]


def test_a_port_in_use_is_named(models, tmp_path):
    """When the port for clients is taken the start fails and says so."""
    with serving(models, tmp_path) as first:
        port = first.wait_for(r"Ready: 1 models at localhost:(\d+)")[1]
        with serving(models, tmp_path, f"--port={port}") as second:
            assert second.end() == 1
            assert f"{port}" in "".join(second.lines[-6:])
            assert "in use" in "".join(second.lines)


def test_the_readmes_python_runs(models, tmp_path, capsys):
    """What the README shows first works as it stands, but for the address."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert code is not None
    with serving(models, tmp_path) as server:
        address = server.wait_for(r"Ready: 1 models at (\S+)")[1]
        exec(code[1].replace("localhost:12346", address), {})
    assert capsys.readouterr().out.startswith("digits scores (10,) ")
