"""Uploads through real processes: to the workers that lack a model, whole or not at all."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from live.system import Program, System
from live.zoo import Zoo

import clockwork
from clockwork.models.uploads import UNFINISHED
from clockwork.units import MIB, format_bytes

SLO_MS = 30_000
IMAGE = np.zeros((1, 8, 8), np.float32)


def folders(tmp_path: Path, count: int) -> list[Path]:
    """Return places for the uploads of so many workers."""
    return [tmp_path / f"uploads{index}" for index in range(count)]


def test_an_uploaded_model_is_loaded_by_its_name(system: System, zoo: Zoo, tmp_path: Path) -> None:
    """Real and emulated workers get it; who has it already gets nothing."""
    first, second = folders(tmp_path, 2)
    shutil.copytree(zoo.directory("digits"), second / "digits")
    system.worker("--weights-cache-size=64MiB", f"--upload-dir={first}")
    system.worker("--weights-cache-size=64MiB", f"--model-dirs={second}")
    system.controller()
    client = system.connect()
    told: list[tuple[int, int]] = []
    upload = client.upload(
        zoo.directory("digits"), progress=lambda done, total: told.append((done, total))
    )
    assert (upload.name, upload.sent_count, upload.had_count) == ("digits", 1, 1)
    assert told[-1] == (upload.size_bytes, upload.size_bytes)
    names = sorted(path.name for path in (first / "digits").iterdir())
    assert names == sorted(path.name for path in zoo.directory("digits").iterdir())
    assert not (first / UNFINISHED).exists()
    model = client.load_model("digits")
    assert model.infer(IMAGE, slo_ms=SLO_MS)["scores"].shape == (10,)
    again = client.upload(zoo.directory("digits"))
    assert (again.sent_count, again.had_count) == (0, 2)


def test_a_missing_model_says_that_it_can_be_uploaded(
    system: System, zoo: Zoo, tmp_path: Path
) -> None:
    """Before the upload, LoadModel fails with the command; afterwards it succeeds everywhere."""
    real, *emulated = folders(tmp_path, 3)
    system.worker("--weights-cache-size=64MiB", f"--upload-dir={real}")
    for folder in emulated:
        system.dummy("--gpus=2", f"--upload-dir={folder}")
    system.controller()
    client = system.connect()
    with pytest.raises(clockwork.FailedError) as caught:
        client.load_model("digits")
    assert "is no model directory" in str(caught.value)
    assert "clockwork upload DIR HOST:PORT" in str(caught.value)
    assert client.upload(measured_digits(zoo, tmp_path), name="digits").sent_count == 3
    model = client.load_model("digits")
    assert len(client.models()) == 1
    for _ in range(10):
        model.infer(IMAGE, slo_ms=SLO_MS)


def measured_digits(zoo: Zoo, folder: Path) -> Path:
    """Return the digits model with measurements, as emulated workers need them."""
    directory = folder / "measured"
    shutil.copytree(zoo.directory("digits"), directory)
    path = directory / "model.json"
    model = json.loads(path.read_text())
    exec_ns = {str(size): 1_000_000 for size in model["batch_sizes"]}
    model["measurements"] = {"emulated": {"exec_ns": exec_ns, "load_ns": 1_000_000}}
    path.write_text(json.dumps(model))
    return directory


@pytest.mark.parametrize("kind", ["worker", "worker_dummy"])
def test_a_worker_without_a_place_refuses(system: System, zoo: Zoo, kind: str) -> None:
    """The message names the option; another worker's copy is removed again."""
    system.worker(command=kind)
    system.controller()
    with pytest.raises(clockwork.FailedError, match="worker 0: this worker has no place for"):
        system.connect().upload(zoo.directory("digits"))


def test_one_worker_that_refuses_leaves_nothing_anywhere(
    system: System, zoo: Zoo, tmp_path: Path
) -> None:
    """The limit is told, and no worker keeps the model."""
    first, second = folders(tmp_path, 2)
    workers = [
        system.dummy(f"--upload-dir={first}"),
        system.dummy(f"--upload-dir={second}", "--upload-max=1KiB"),
    ]
    system.controller()
    with pytest.raises(clockwork.FailedError, match=r"takes up to 1KiB: start it with a larger"):
        system.connect().upload(zoo.directory("digits"))
    # A worker that has ended has done all that it was told.
    for worker in workers:
        worker.stop()
        system.forget(worker)
    assert [list(folder.iterdir()) for folder in (first, second)] == [[], []]


def test_a_damaged_directory_is_not_even_sent(system: System, zoo: Zoo, tmp_path: Path) -> None:
    """The client checks what it sends; names must be names."""
    system.dummy(f"--upload-dir={tmp_path / 'uploads'}")
    system.controller()
    client = system.connect()
    shutil.copytree(zoo.directory("digits"), tmp_path / "broken")
    with (tmp_path / "broken" / "weights.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(clockwork.ModelError, match=r"weights\.bin is damaged"):
        client.upload(tmp_path / "broken")
    with pytest.raises(clockwork.ModelError, match="is no model directory"):
        client.upload(tmp_path)
    with pytest.raises(clockwork.InvalidRequestError, match="is no name for a model"):
        client.upload(zoo.directory("digits"), name="../digits")


def test_another_model_of_that_name_is_not_replaced(
    system: System, zoo: Zoo, tmp_path: Path
) -> None:
    """Whatever serves under a name goes on serving."""
    system.dummy(f"--upload-dir={tmp_path / 'uploads'}")
    system.controller()
    client = system.connect()
    client.upload(zoo.directory("digits"))
    with pytest.raises(clockwork.FailedError, match="exists and is another model: choose another"):
        client.upload(measured_digits(zoo, tmp_path), name="digits")


def test_an_upload_that_its_client_gives_up_leaves_nothing(
    system: System, zoo: Zoo, tmp_path: Path
) -> None:
    """The same client may then upload the same model, which arrives as a whole."""
    uploads = tmp_path / "uploads"
    system.dummy(f"--upload-dir={uploads}")
    system.controller()
    client, big = system.connect(), large_model(zoo, tmp_path)

    def give_up(done: int, total: int) -> None:
        if done > total / 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.upload(big, progress=give_up)
    assert client.upload(big).sent_count == 1
    assert [path.name for path in uploads.iterdir()] == ["large"]


def test_the_command_uploads_and_loads(system: System, zoo: Zoo, tmp_path: Path) -> None:
    """It says how far it is, what it did, and which ids the model has."""
    system.dummy(f"--upload-dir={tmp_path / 'uploads'}")
    system.controller()
    model = str(measured_digits(zoo, tmp_path))
    upload = Program("upload", model, system.address, "--name=tiny", "--load", "--copies=2")
    assert upload.wait() == 0
    size = format_bytes(sum(file.stat().st_size for file in Path(model).iterdir()))
    assert upload.lines[-3:] == [
        f"{size} of {size} sent",
        f"tiny ({size}): sent to 1 worker",
        "loaded 0 tiny",
    ]
    again = Program("upload", model, system.address, "--name=tiny")
    assert again.wait() == 0
    assert again.lines == [f"tiny ({size}): sent to 0 workers, 1 worker had it"]


def test_a_worker_that_is_killed_cleans_up_when_it_is_back(
    system: System, zoo: Zoo, tmp_path: Path
) -> None:
    """The client is told; what had arrived is removed at the next start."""
    uploads = tmp_path / "uploads"
    worker = system.dummy(f"--upload-dir={uploads}")
    system.controller()
    system.forget(worker)

    def kill(done: int, total: int) -> None:
        if done > total / 3:
            worker.kill()

    with pytest.raises(clockwork.FailedError, match="the workers left while the model was being"):
        system.connect().upload(large_model(zoo, tmp_path), progress=kill)
    assert len(list((uploads / UNFINISHED).iterdir())) == 1
    system.dummy(f"--upload-dir={uploads}")
    assert list(uploads.iterdir()) == []


def test_a_controller_that_is_killed_leaves_nothing(
    system: System, zoo: Zoo, tmp_path: Path
) -> None:
    """The worker removes what had arrived; the next controller passes the whole model on."""
    uploads = tmp_path / "uploads"
    system.dummy(f"--upload-dir={uploads}")
    controller = system.controller()
    system.forget(controller)

    def kill(done: int, total: int) -> None:
        if done > total / 3:
            controller.kill()

    big = large_model(zoo, tmp_path)
    with pytest.raises(clockwork.ConnectionLostError):
        system.connect().upload(big, progress=kill)
    system.controller()
    assert system.connect().upload(big).sent_count == 1
    assert [path.name for path in uploads.iterdir()] == ["large"]


def large_model(zoo: Zoo, folder: Path) -> Path:
    """Return a model directory of 64 MiB that is no model at all but for its checksums."""
    directory = folder / "large"
    shutil.copytree(zoo.directory("digits"), directory)
    path = directory / "model.json"
    model = json.loads(path.read_text())
    data = np.random.default_rng(0).bytes(64 * MIB)
    (directory / "notes.bin").write_bytes(data)
    model["checksums"]["notes.bin"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(model))
    return directory
