"""Tests of clockwork.models.zoo: architectures, their directories, and the data that ships."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from clockwork.errors import ModelError
from clockwork.models.compile import BATCH_SIZES as COMPILED_SIZES
from clockwork.models.format import read_model_file
from clockwork.models.zoo.build import BATCH_SIZES, build, describe, names, write_onnx
from clockwork.models.zoo.catalogue import ARCHITECTURES, DIGITS, Architecture, new_graph
from clockwork.models.zoo.shipped import (
    DIGITS_ONNX,
    IMAGENET_MEAN,
    IMAGENET_STD,
    digits_test_set,
    photograph_crops,
)

SMALL = 32
"""Side of images in tests."""

Feeds = dict[str, NDArray[Any]]
OnnxFile = Callable[[str], Path]


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> OnnxFile:
    """Return a function that writes a model's small ONNX file when it is first asked for."""
    folder = tmp_path_factory.mktemp("zoo")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            is_text = name in ARCHITECTURES and ARCHITECTURES[name].encoder is not None
            size = None if is_text or name == DIGITS else SMALL
            write_onnx(name, path, image_size=size)
        return path

    return path_of


def run(path: Path, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Return the outputs of an ordinary ONNX Runtime session by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, feeds), strict=True))


def feeds_of(name: str, batch_size: int, *, seq: int = 16) -> Feeds:
    """Return different inputs for each request of a batch."""
    rng = np.random.default_rng(0)
    if name == DIGITS:
        return {"image": digits_test_set()[0][:batch_size]}
    if ARCHITECTURES[name].encoder is None:
        return {"image": photograph_crops(batch_size, SMALL, seed=0)}
    shape = (batch_size, seq)
    return {
        "input_ids": rng.integers(0, 30_522, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }


@pytest.mark.parametrize("chosen", ARCHITECTURES.values(), ids=lambda chosen: chosen.name)
def test_every_architecture_has_as_many_parameters_as_published(chosen: Architecture) -> None:
    """The sizes of all weights add up to the published count."""
    graph = new_graph(chosen, seed=0, image_size=224)
    statistics = graph.statistic_count if chosen.counts_statistics else 0
    assert graph.parameter_count + statistics == chosen.parameter_count


@pytest.mark.parametrize("name", names())
def test_answers_are_finite_and_depend_on_the_input(name: str, onnx_file: OnnxFile) -> None:
    """A batch of two different inputs gives two different, finite answers per output."""
    for output in run(onnx_file(name), feeds_of(name, 2)).values():
        assert output.shape[0] == 2
        assert np.isfinite(output).all()
        assert np.abs(output[0] - output[1]).max() > 1e-3
        assert output[0].std() > 1e-3


@pytest.mark.parametrize("name", names())
def test_a_request_is_answered_alike_alone_and_in_a_batch(name: str, onnx_file: OnnxFile) -> None:
    """The batch dimension is free, and requests do not influence each other."""
    feeds = feeds_of(name, 2)
    alone = run(onnx_file(name), {key: value[:1] for key, value in feeds.items()})
    for key, together in run(onnx_file(name), feeds).items():
        np.testing.assert_allclose(alone[key], together[:1], rtol=1e-4, atol=1e-4)


def test_an_encoder_takes_any_length_and_ignores_masked_tokens(onnx_file: OnnxFile) -> None:
    """Tokens whose mask is 0 do not change the answer for the others."""
    feeds = feeds_of("encoder_small", 1, seq=24)
    feeds["attention_mask"][:, 20:] = 0
    masked = run(onnx_file("encoder_small"), feeds)["pooler_output"]
    short = run(onnx_file("encoder_small"), {key: value[:, :20] for key, value in feeds.items()})
    np.testing.assert_allclose(masked, short["pooler_output"], rtol=1e-4, atol=1e-4)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    """Equal seeds give equal files, other seeds other ones."""
    files = [tmp_path / f"{index}.onnx" for index in range(3)]
    for path, seed in zip(files, (1, 1, 2), strict=True):
        write_onnx("squeezenet", path, seed=seed, image_size=SMALL)
    first, second, third = (path.read_bytes() for path in files)
    assert first == second
    assert first != third


@pytest.mark.parametrize(
    ("name", "sizes", "inputs"),
    [
        ("squeezenet", {"image_size": 64}, {"image": (3, 64, 64)}),
        ("digits", {}, {"image": (1, 8, 8)}),
        (
            "encoder_small",
            {"seq": 8},
            {"input_ids": (8,), "attention_mask": (8,), "token_type_ids": (8,)},
        ),
    ],
)
def test_a_model_directory_says_what_it_takes(
    tmp_path: Path, name: str, sizes: dict[str, int], inputs: dict[str, tuple[int, ...]]
) -> None:
    """Sizes are fixed as asked for, and the origin says whether weights are random."""
    said: list[str] = []
    where = build(name, tmp_path, measure=False, batch_sizes=(1, 2), progress=said.append, **sizes)
    model = read_model_file(where)
    assert where == tmp_path / name
    assert {tensor.name: tensor.shape for tensor in model.inputs} == inputs
    assert model.batch_sizes == (1, 2)
    assert model.origin is not None
    assert ("random weights" in model.origin.note) == (not describe(name).is_trained)
    assert said[0] == f"building {name}"


def test_image_models_know_how_images_are_prepared(tmp_path: Path) -> None:
    """Size, normalization and labels are in model.json, for those who send images."""
    build("squeezenet", tmp_path, image_size=48, measure=False, batch_sizes=(1,))
    build("digits", tmp_path, measure=False, batch_sizes=(1,))
    image = read_model_file(tmp_path / "squeezenet").image
    digit = read_model_file(tmp_path / "digits").image
    assert image is not None
    assert (image.size, image.mean, image.std) == ((48, 48), IMAGENET_MEAN, IMAGENET_STD)
    assert image.labels == ()
    assert digit is not None
    assert digit.labels == tuple("0123456789")


def test_the_original_file_can_be_kept(tmp_path: Path) -> None:
    """The ordinary ONNX file is written where it is asked for, beside the model directory."""
    kept = tmp_path / "kept.onnx"
    build("digits", tmp_path, measure=False, batch_sizes=(1,), keep_onnx=kept)
    assert kept.read_bytes() == DIGITS_ONNX.read_bytes()
    for name in ("digits", "squeezenet"):
        with pytest.raises(ModelError, match=r"cannot write .*nowhere"):
            write_onnx(name, tmp_path / "nowhere" / "kept.onnx", image_size=None)


@pytest.mark.parametrize(
    ("name", "sizes", "complaint"),
    [
        ("resnet51_v1", {}, "no zoo model is called 'resnet51_v1'; there are resnet18_v1, "),
        ("resnet18_v1", {"image_size": 31}, "takes images of 32 pixels or more, not 31"),
        ("resnet18_v1", {"seq": 8}, r"takes no sequence length \(8 given\): it takes images"),
        ("bert_base", {"seq": 513}, "takes 1 to 512 tokens, not 513"),
        ("bert_base", {"seq": 0}, "takes 1 to 512 tokens, not 0"),
        ("bert_base", {"image_size": 64}, r"takes no image size \(64 given\): it takes tokens"),
        ("digits", {"image_size": 64}, r"takes no image size \(64 given\): its images are 8x8"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    tmp_path: Path, name: str, sizes: dict[str, int], complaint: str
) -> None:
    """Unknown names and impossible sizes are errors that say what is possible."""
    with pytest.raises(ModelError, match=complaint):
        build(name, tmp_path, **sizes)
    assert list(tmp_path.iterdir()) == []


def test_every_model_is_described() -> None:
    """Names, counts and sources are there for a list of the zoo."""
    assert [describe(name).name for name in names()] == names()
    assert [name for name in names() if describe(name).is_trained] == [DIGITS]
    assert all(describe(name).source for name in names())


def test_default_batch_sizes_are_those_of_compile() -> None:
    """The zoo repeats the list, because it must not need the onnx package to be imported."""
    assert BATCH_SIZES == COMPILED_SIZES


def test_digits_reads_handwriting_that_it_never_saw() -> None:
    """At least 97 % of the held-out images are recognized by plain ONNX Runtime."""
    images, labels = digits_test_set()
    scores = run(DIGITS_ONNX, {"image": images})["scores"]
    assert (scores.argmax(axis=1) == labels).mean() >= 0.97


def test_the_parameters_of_digits_are_counted_right() -> None:
    """The description's count is that of the file."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(DIGITS_ONNX))
    count = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert count == describe(DIGITS).parameter_count


def test_held_out_digits_are_the_last_ones_of_the_data_set() -> None:
    """Images and labels are those that the training script leaves out."""
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    images, labels = digits_test_set()
    assert images.shape == (500, 1, 8, 8)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[:, 0] * 16, data.images[1297:])
    np.testing.assert_array_equal(labels, data.target[1297:])


def test_crops_of_the_photograph_are_normalized_and_repeatable() -> None:
    """Crops differ from each other, look like normalized pixels, and depend on the seed alone."""
    crops = photograph_crops(4, 40, seed=3)
    assert crops.shape == (4, 3, 40, 40)
    assert crops.dtype == np.float32
    assert crops.flags.c_contiguous
    assert -3 < crops.min() < crops.max() < 3
    assert not np.array_equal(crops[0], crops[1])
    np.testing.assert_array_equal(crops, photograph_crops(4, 40, seed=3))
    assert not np.array_equal(crops, photograph_crops(4, 40, seed=4))
