"""Tests of clockwork.models.format."""

from pathlib import Path

import msgspec
import pytest

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.format import (
    FORMAT_VERSION,
    Code,
    Measurement,
    ModelFile,
    WeightSpec,
    profile_of,
    read_model_file,
    sha256_of,
    write_model_file,
)
from clockwork.units import MIB, MS

PAGE = 16 * MIB


def make_model(**changes: object) -> ModelFile:
    """Return an emulated model that runs b1 in 1 ms, b2 in 2 ms, b4 in 4 ms."""
    model = ModelFile(
        format=FORMAT_VERSION,
        name="m",
        inputs=(TensorSpec("x", "float32", (3, 4), 4),),
        outputs=(TensorSpec("y", "int64", (), 8),),
        batch_sizes=(1, 2, 4),
        weights_bytes=40 * MIB,
        measurements={"emulated": Measurement({1: MS, 2: 2 * MS, 4: 4 * MS}, load_ns=5 * MS)},
    )
    return msgspec.structs.replace(model, **changes)


def make_code(*weights: WeightSpec, **changes: object) -> Code:
    """Return code with one weight of 16 bytes, or with `weights`."""
    table = weights or (WeightSpec("w", "float32", (2, 2), offset=0),)
    code = Code("code.onnx", "weights.bin", weights_bytes=16, weights=table)
    return msgspec.structs.replace(code, **changes)


CHECKSUMS = {"code.onnx": "00", "weights.bin": "00"}


def message_of(directory: Path) -> str:
    """Return what reading `directory` complains about."""
    with pytest.raises(ModelError) as caught:
        read_model_file(directory)
    return str(caught.value)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """A model file survives a round trip and leaves no other file behind."""
    model = make_model(code=make_code(), weights_bytes=16, checksums=CHECKSUMS)
    write_model_file(tmp_path, model)
    assert read_model_file(tmp_path) == model
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_a_directory_without_model_json_is_named(tmp_path: Path) -> None:
    """The message says which directory is none of ours."""
    assert f"{tmp_path} is no model directory" in message_of(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b'{"format": 1}', b"[]", b"\xff\xfe", b'{"format":'])
def test_broken_json_is_a_model_error(tmp_path: Path, text: bytes) -> None:
    """Bad JSON and missing fields are reported as such, with the path."""
    (tmp_path / "model.json").write_bytes(text)
    assert "model.json is broken" in message_of(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A file of another format says which one this version reads."""
    write_model_file(tmp_path, make_model(format=FORMAT_VERSION + 1))
    assert "has format 2, this version reads 1" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch_sizes": ()}, "batch_sizes"),
        ({"batch_sizes": (2, 1)}, "batch_sizes"),
        ({"batch_sizes": (0, 1)}, "batch_sizes"),
        ({"weights_bytes": -1}, "weights_bytes"),
        ({"inputs": (TensorSpec("x", "float32", (-1,), 4),)}, "'x'"),
        ({"measurements": {"cpu": Measurement({1: -1}, load_ns=0)}}, "'cpu'"),
        ({"code": make_code(weights_bytes=15)}, "end at 16"),
        ({"code": make_code(WeightSpec("w", "int8", (4,), 3))}, "'w' has no possible place"),
        ({"code": make_code(WeightSpec("w", "int8", (-4,), 0))}, "'w' has no possible place"),
        ({"code": make_code(WeightSpec("w", "string", (4,), 0))}, "unknown type 'string'"),
        ({"code": make_code(file="../code.onnx")}, "'../code.onnx' is not the name of a file"),
        ({"code": make_code(), "checksums": {}}, "code.onnx has no checksum"),
        ({"tuned": {"x": make_code(weights_bytes=15)}}, "end at 16"),
    ],
)
def test_contradictions_are_named(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    """Values that cannot be are refused, naming the field or the tensor."""
    write_model_file(tmp_path, make_model(**{"checksums": CHECKSUMS, **changes}))
    assert complaint in message_of(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """There is no checksum of a file that is not there."""
    with pytest.raises(ModelError, match=r"code\.onnx is missing"):
        sha256_of(tmp_path / "code.onnx")


@pytest.mark.parametrize(
    ("batch_max", "exec_max_ns", "kept"),
    [(16, 10 * MS, (1, 2, 4)), (2, 10 * MS, (1, 2)), (16, 3 * MS, (1, 2)), (0, 0, (1,))],
)
def test_profile_keeps_what_the_limits_allow(
    batch_max: int, exec_max_ns: int, kept: tuple[int, ...]
) -> None:
    """Batch sizes over a limit are left out, the smallest never."""
    profile = profile_of(
        make_model(),
        page_bytes=PAGE,
        device_kind="emulated",
        batch_max=batch_max,
        exec_max_ns=exec_max_ns,
    )
    assert profile.batch_sizes == kept
    assert profile.exec_ns == tuple(size * MS for size in kept)
    assert profile.weights_pages == 3
    assert (profile.input_bytes, profile.output_bytes) == (48, 8)


def test_profile_falls_back_to_another_device() -> None:
    """An unknown device gets another one's figures; without any, zeros."""
    limits = {"page_bytes": PAGE, "batch_max": 16, "exec_max_ns": 10 * MS}
    assert profile_of(make_model(), device_kind="cpu-2core", **limits).exec_ns[0] == MS
    bare = make_model(measurements={})
    assert profile_of(bare, device_kind="cpu-2core", **limits).exec_ns == (0, 0, 0)


def test_pages_follow_what_the_worker_runs() -> None:
    """Tuned code may have weights of another size; a model without weights takes a page."""
    limits = {"page_bytes": PAGE, "batch_max": 1, "exec_max_ns": 0, "device_kind": "emulated"}
    tuned = make_code(weights_bytes=PAGE + 1)
    assert profile_of(make_model(), code=tuned, **limits).weights_pages == 2
    assert profile_of(make_model(weights_bytes=0), **limits).weights_pages == 1
