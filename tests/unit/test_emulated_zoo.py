"""Tests of clockwork.models.zoo.emulated."""

from pathlib import Path

import pytest

from clockwork.errors import ModelError
from clockwork.models.format import EMULATED, ModelFile, profile_of, read_model_file
from clockwork.models.zoo.emulated import emulated_models, write_emulated
from clockwork.units import MIB


def model_of(name: str) -> ModelFile:
    """Return one model of the table."""
    return next(model for model in emulated_models() if model.name == name)


def test_every_model_of_the_table_becomes_a_directory(tmp_path: Path) -> None:
    """64 directories are written, named after their models and readable."""
    assert write_emulated(tmp_path) == 64
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 64
    for folder in folders:
        assert read_model_file(folder).name == folder.name
        assert [file.name for file in folder.iterdir()] == ["model.json"]


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    """A second run replaces the files with equal ones."""
    write_emulated(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    write_emulated(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


@pytest.mark.parametrize("model", emulated_models(), ids=lambda model: model.name)
def test_every_model_can_be_emulated(model: ModelFile) -> None:
    """All batch sizes have durations that grow, and the load has one."""
    profile = profile_of(
        model, page_bytes=16 * MIB, device_kind=EMULATED, batch_max=16, exec_max_ns=10**9
    )
    assert model.code is None
    assert profile.batch_sizes == (1, 2, 4, 8, 16)
    assert list(profile.exec_ns) == sorted(profile.exec_ns)
    assert profile.exec_ns[0] > 0
    assert profile.load_ns > 0
    assert profile.weights_pages == -(-model.weights_bytes // (16 * MIB))


def test_durations_and_weights_are_those_of_the_table() -> None:
    """ResNet-50 v2 is as published: 102.2 MB, 8.32 ms to load, 2.73 to 17.3 ms to run."""
    model = model_of("resnet50_v2")
    measured = model.measurements[EMULATED]
    assert model.weights_bytes == 102_200_000
    assert measured.load_ns == 8_320_000
    assert list(measured.exec_ns.values()) == [2_730_000, 4_050_000, 5_870_000, 9_930_000, 17300000]


@pytest.mark.parametrize(
    ("name", "input_bytes", "output_bytes"),
    [
        ("resnet50_v2", 602_112, 4_000),
        ("inceptionv3", 1_072_812, 4_000),
        ("mobile_pose_mobilenet1.0", 589_824, 208_896),
        ("tsn_resnet50_v1b_kinetics400", 602_112, 1_600),
        ("cifar_wideresnet16_10", 12_288, 40),
    ],
)
def test_tensors_have_their_exact_sizes(name: str, input_bytes: int, output_bytes: int) -> None:
    """Sizes are those of the real tensors, not the table's rounded kilobytes."""
    model = model_of(name)
    assert [tensor.size_bytes for tensor in model.inputs] == [input_bytes]
    assert [tensor.size_bytes for tensor in model.outputs] == [output_bytes]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is a model error."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot write"):
        write_emulated(tmp_path / "file")
