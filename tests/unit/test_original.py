"""Tests of clockwork.models.original."""

from pathlib import Path

import pytest
from original_files import PAGE_BYTES, code_file, write_original

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.format import EMULATED, Measurement, profile_of, write_model_file
from clockwork.models.original import (
    parse_code,
    parse_measurements,
    read_emulated_model,
    read_original,
)
from clockwork.models.zoo.emulated import emulated_models


def complaint_of(path: Path) -> str:
    """Return why the model at `path` is refused."""
    with pytest.raises(ModelError) as caught:
        read_original(path)
    return str(caught.value)


def test_a_folder_of_the_original_becomes_a_model(tmp_path: Path) -> None:
    """Tensors without the batch, batch sizes, pages and durations are taken over."""
    base = write_original(tmp_path / "resnet")
    model = read_original(base)
    assert model.name == "resnet"
    assert model.inputs == (TensorSpec("input_0", "float32", (3, 4, 4), 4),)
    assert model.outputs == (TensorSpec("output_0", "float32", (10,), 4),)
    assert model.batch_sizes == (1, 2, 4)
    assert model.weights_bytes == 2 * PAGE_BYTES
    assert model.code is None
    measured = Measurement(exec_ns={1: 1_000_000, 2: 2_000_000, 4: 4_000_000}, load_ns=10_000_000)
    assert model.measurements == {EMULATED: measured}


def test_a_folder_and_its_base_path_name_the_same_model(tmp_path: Path) -> None:
    """`NAME` and `NAME/model` are both accepted, as the original's clients send the latter."""
    base = write_original(tmp_path / "resnet")
    assert read_original(tmp_path / "resnet") == read_original(base)


def test_a_worker_counts_the_pages_of_the_original(tmp_path: Path) -> None:
    """With the original's page size, the profile has the original's number of pages."""
    profile = profile_of(
        read_original(write_original(tmp_path / "m")),
        page_bytes=PAGE_BYTES,
        device_kind=EMULATED,
        batch_max=2,
        exec_max_ns=10**9,
    )
    assert profile.weights_pages == 2
    assert profile.batch_sizes == (1, 2)
    assert profile.exec_ns == (1_000_000, 2_000_000)


def test_batch_sizes_end_before_the_first_incomplete_pair(tmp_path: Path) -> None:
    """A missing .so file hides its batch size and all larger ones."""
    base = write_original(tmp_path / "m", batch_sizes=(1, 2, 4, 8))
    (tmp_path / "m" / "model.4.so").unlink()
    assert read_original(base).batch_sizes == (1, 2)


def test_a_model_without_measurements_has_none(tmp_path: Path) -> None:
    """The file is optional; an emulated worker then says that it cannot run the model."""
    assert read_original(write_original(tmp_path / "m", measurements=None)).measurements == {}


def test_batch_sizes_that_were_not_measured_have_no_duration(tmp_path: Path) -> None:
    """Missing keys are left out; a missing load time is 0."""
    model = read_original(write_original(tmp_path / "m", measurements="b2 = 7"))
    assert model.measurements[EMULATED] == Measurement(exec_ns={2: 7}, load_ns=0)


def test_both_kinds_of_model_are_read_by_one_function(tmp_path: Path) -> None:
    """A model directory of ours wins where both are there."""
    base = write_original(tmp_path / "m")
    assert read_emulated_model(base) == read_original(base)
    ours = emulated_models()[0]
    write_model_file(tmp_path / "m", ours)
    assert read_emulated_model(tmp_path / "m") == ours


def test_a_folder_without_any_model_is_named(tmp_path: Path) -> None:
    """The message of the native format is used, because that is what most users have."""
    with pytest.raises(ModelError, match=r"is no model directory: it has no model\.json"):
        read_emulated_model(tmp_path)
    assert "there is no" in complaint_of(tmp_path / "nothing")


def test_the_first_batch_size_is_required(tmp_path: Path) -> None:
    """Without the pair of files for batch size 1 there is no model."""
    base = write_original(tmp_path / "m", batch_sizes=(2, 4))
    assert "model.1.so" in complaint_of(base)


@pytest.mark.parametrize(
    ("size", "code", "complaint"),
    [
        (1, code_file(version=2), "has version 2, 1 is supported"),
        (1, code_file(type_code=(2, 24, 1)), "unknown type 2/24/1"),
        (1, code_file(type_code=(2, 32, 4)), "unknown type 2/32/4"),
        (1, code_file(type_code=(2, 64, 1)), "bytes, but shape"),
        (1, code_file(inputs=[()]), "bytes, but shape"),
        (1, code_file()[:-1], "is damaged: it should go on to byte"),
        (1, code_file() + b"x", "is damaged: 1 bytes follow its end"),
        (1, b"", "is damaged"),
        (2, code_file(), "of the code for batch size 2 has 1 requests"),
        (2, code_file(inputs=[(2, 5)], outputs=[(2, 10)]), "tensors at batch size 2 are unlike"),
    ],
)
def test_broken_code_is_refused_with_a_reason(
    tmp_path: Path, size: int, code: bytes, complaint: str
) -> None:
    """Each kind of damage has a message that names it."""
    assert complaint in complaint_of(write_original(tmp_path / "m", codes={size: code}))


def test_other_types_are_understood() -> None:
    """A tensor of 32-bit integers keeps its type."""
    assert parse_code(code_file(type_code=(0, 32, 1)), "m").inputs[0].dtype == "int32"


@pytest.mark.parametrize(
    ("text", "durations"),
    [
        ("", {}),
        ("weights = 10000000L; b1 = 5;", {"weights": 10_000_000, "b1": 5}),
        ("b1: 5LL, b2 = 6", {"b1": 5, "b2": 6}),
        ("/* b1 = 4; */ b1 = 5L; // b1 = 6;\n# b1 = 7;", {"b1": 5}),
        ("b1 = 5; /* open", {"b1": 5}),
    ],
)
def test_measurements_are_libconfig(text: str, durations: dict[str, int]) -> None:
    """Settings and comments are understood in every form that libconfig allows for them."""
    assert parse_measurements(text, "m") == durations


@pytest.mark.parametrize("text", ["b1", "b1 = ;", "b1 = -5;", "b1 = 1.5;", "= 5", 'b1 = "5";'])
def test_other_measurements_are_refused(text: str) -> None:
    """Anything but durations in whole nanoseconds is an error that shows how to write it."""
    with pytest.raises(ModelError, match=r"m: cannot read .*; write it like b1 = 1000000L;"):
        parse_measurements(text, "m")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A directory in the place of a file is a model error, not an OSError."""
    base = write_original(tmp_path / "m", measurements=None)
    (tmp_path / "m" / "model.measurements").mkdir()
    assert "cannot read" in complaint_of(base)
