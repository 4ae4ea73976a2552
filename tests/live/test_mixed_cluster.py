"""Emulated and real workers under one controller, and workers that do not have the same models."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from live.system import Program, System
from live.zoo import Zoo
from msgspec.structs import replace

import clockwork
from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus
from clockwork.models.format import EMULATED, Measurement, read_model_file, write_model_file
from clockwork.units import MS

SLO_MS = 60_000
IMAGE = np.full((1, 8, 8), 0.5, np.float32)
ROUNDS_MAX = 50


def measured_digits(zoo: Zoo, folder: Path) -> Path:
    """Copy the digits model into `folder`, with durations for emulated GPUs; return where it is."""
    directory = folder / "digits"
    shutil.copytree(zoo.directory("digits"), directory)
    file = read_model_file(directory)
    measured = Measurement(exec_ns=dict.fromkeys(file.batch_sizes, 5 * MS), load_ns=MS)
    write_model_file(directory, replace(file, measurements={EMULATED: measured}))
    return directory


def gpus_that_ran(log_dir: Path) -> set[tuple[int, int]]:
    """Return worker and GPU of the Infers that the action log shows as successes."""
    path = log_dir / "clockwork_action_log.tsv"
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (int(row["worker_id"]), int(row["gpu_id"]))
            for row in csv.DictReader(file, delimiter="\t")
            if row["action_type"] == str(int(ActionType.INFER))
            and row["status"] == str(int(ActionStatus.SUCCESS))
        }


def test_emulated_and_real_workers_work_together(system: System, tmp_path: Path, zoo: Zoo) -> None:
    """All five GPUs of three workers run, and each answer is that of the worker that gave it."""
    path = measured_digits(zoo, tmp_path)
    system.dummy("-n", "2")
    system.dummy("-n", "2")
    system.worker()
    controller = system.controller()
    client = system.connect()
    model = client.load_model(str(path))
    client.models()
    controller.wait_for("Created 5 GPUs on 3 Workers")
    kinds: set[bool] = set()
    for _ in range(ROUNDS_MAX):
        futures = [model.infer_async(IMAGE, slo_ms=SLO_MS) for _ in range(200)]
        kinds |= {bool(future.result()["scores"].any()) for future in futures}
        if len(gpus_that_ran(system.log_dir)) == 5:
            break
    assert gpus_that_ran(system.log_dir) == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)}
    assert kinds == {False, True}, "zeros come from emulated GPUs, scores from the real one"


@pytest.fixture
def folders(tmp_path: Path, zoo: Zoo) -> tuple[Path, Path]:
    """Two folders of models; the second one lacks `rare`."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        measured_digits(zoo, folder)
    shutil.copytree(first / "digits", first / "rare")
    return first, second


def test_a_model_that_one_worker_lacks_is_not_loaded(
    system: System, folders: tuple[Path, Path]
) -> None:
    """The client learns which path is missing; no id, no model and no memory is left behind."""
    first, second = folders
    workers = [system.dummy(f"--model-dirs={first}"), system.worker(f"--model-dirs={second}")]
    controller = system.controller()
    client = system.connect()
    common = client.load_model("digits")
    with pytest.raises(clockwork.FailedError, match=f"{second}/rare is no model directory"):
        client.load_model("rare", copies=3)
    assert [model.model_id for model in client.models()] == [common.model_id]
    workers[0].wait_for("Sending R.*UnloadModel", count=3)
    again = client.load_model("digits")
    assert again.model_id == common.model_id + 1
    assert again.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1
    assert held_by_workers(system, controller) == [
        "Worker 0 1 GPUs 2 models",
        "Worker 1 1 GPUs 2 models",
    ]


def test_a_model_that_is_copied_to_the_worker_can_be_loaded(
    system: System, folders: tuple[Path, Path]
) -> None:
    """After the folder has been mended the same LoadModel succeeds."""
    first, second = folders
    system.worker(f"--model-dirs={first}")
    system.worker(f"--model-dirs={second}")
    system.controller()
    client = system.connect()
    with pytest.raises(clockwork.FailedError, match="is no model directory"):
        client.load_model("rare")
    shutil.copytree(first / "rare", second / "rare")
    model = client.load_model("rare")
    assert model.infer(IMAGE, slo_ms=SLO_MS)["scores"].any()


def test_workers_with_different_models_at_one_path_are_told_apart(
    system: System, folders: tuple[Path, Path], zoo: Zoo
) -> None:
    """A path that means two models is refused, and both workers forget theirs."""
    first, second = folders
    shutil.copytree(zoo.directory("squeezenet"), second / "rare")
    workers = [system.worker(f"--model-dirs={each}") for each in (first, second)]
    system.controller()
    client = system.connect()
    common = client.load_model("digits")
    with pytest.raises(clockwork.FailedError, match="workers hold different models at rare"):
        client.load_model("rare")
    for worker in workers:
        worker.wait_for("Sending R.*UnloadModel")
    assert [model.name for model in client.models()] == ["digits"]
    assert common.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1


def held_by_workers(system: System, controller: Program) -> list[str]:
    """Return what the next controller finds on the workers."""
    controller.stop()
    system.forget(controller)
    following = system.controller()
    following.wait_for("Awaiting LoadModel requests")
    return [line for line in following.lines if re.match(r"Worker \d+ \d+ GPUs", line)]
