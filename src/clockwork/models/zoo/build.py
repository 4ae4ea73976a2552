"""Makes model directories, and ordinary ONNX files, of the zoo's models."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from clockwork.errors import ConfigurationError, ModelError
from clockwork.models.format import ImageInfo
from clockwork.models.zoo.catalogue import (
    ARCHITECTURES,
    DIGITS,
    IMAGE_SIZE,
    IMAGE_SIZE_MIN,
    SEQUENCE_LENGTH,
    SEQUENCE_LENGTH_MAX,
    architecture,
    new_graph,
)
from clockwork.models.zoo.shipped import DIGITS_IMAGE, DIGITS_ONNX, imagenet_image

RANDOM_WEIGHTS: Final = (
    "random weights: its answers mean nothing, its speed is that of the real model"
)
"""What the origin of every model says whose weights are random."""
TRAINED_WEIGHTS: Final = "trained on UCI's handwritten digits (Alpaydin and Kaynak, CC BY 4.0)"
"""What the origin of ``digits`` says."""
BATCH_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16)
"""Batch sizes of zoo models unless others are asked for."""


class Description(Struct, frozen=True):
    """What a user wants to know of a zoo model before building it."""

    name: str
    summary: str
    parameter_count: int
    # Where the count is published, or where the weights come from.
    source: str
    # False if the weights are random.
    is_trained: bool


def names() -> list[str]:
    """Return the names of all models that `build` can build."""
    return [*ARCHITECTURES, DIGITS]


def describe(name: str) -> Description:
    """Return what there is to know about the zoo model `name`.

    Raises:
        ModelError: there is no such model.
    """
    if name == DIGITS:
        return Description(
            name=DIGITS,
            summary="small network that reads 8x8 images of handwritten digits",
            parameter_count=33_546,
            source=TRAINED_WEIGHTS,
            is_trained=True,
        )
    chosen = architecture(name)
    return Description(
        name=name,
        summary=chosen.summary,
        parameter_count=chosen.parameter_count,
        source=chosen.source,
        is_trained=False,
    )


def build(
    name: str,
    out_dir: Path,
    *,
    seed: int = 0,
    image_size: int | None = None,
    seq: int | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    measure: bool = True,
    keep_onnx: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write the model directory ``out_dir/name`` and return its path.

    The weights are random numbers from `seed`, except those of ``digits``. The duration of an
    execution does not depend on the values of weights.

    Args:
        image_size: side of the images of an image model, in pixels; 224 if absent.
        seq: length of the token sequences of a text encoder; 128 if absent.
        measure: store execution and load times of this machine.
        keep_onnx: file to which the ordinary ONNX model is written too.
        progress: is told what happens, a line at a time.

    Raises:
        ModelError: there is no such model, or it does not take these sizes.
        ConfigurationError: the ``onnx`` package is not installed.
    """
    dims, image = _sizes(name, image_size=image_size, seq=seq)
    try:
        from clockwork.models.compile import compile_model
    except ImportError as error:
        raise ConfigurationError(
            f"building {name} needs the onnx package: pip install 'clockwork-serving[compile]'"
        ) from error
    if progress is not None:
        progress(f"building {name}")
    with tempfile.TemporaryDirectory(prefix="clockwork-zoo-") as folder:
        onnx_path = keep_onnx or Path(folder) / f"{name}.onnx"
        write_onnx(name, onnx_path, seed=seed, image_size=image_size)
        compile_model(
            onnx_path,
            out_dir / name,
            name=name,
            dims=dims,
            batch_sizes=batch_sizes,
            measure=measure,
            image=image,
            note=describe(name).source if name == DIGITS else RANDOM_WEIGHTS,
            progress=progress,
        )
    return out_dir / name


def write_onnx(name: str, path: Path, *, seed: int = 0, image_size: int | None = None) -> None:
    """Write a zoo model as an ordinary ONNX file; the batch size and ``seq`` are free.

    Raises:
        ModelError: there is no such model, it does not take this image size, or the file cannot
            be written.
        ConfigurationError: the ``onnx`` package is not installed.
    """
    _sizes(name, image_size=image_size, seq=None)
    try:
        if name == DIGITS:
            path.write_bytes(DIGITS_ONNX.read_bytes())
            return
        graph = new_graph(architecture(name), seed=seed, image_size=image_size or IMAGE_SIZE)
        graph.save(path, description=f"{name} with {RANDOM_WEIGHTS}")
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from None


def _sizes(
    name: str, *, image_size: int | None, seq: int | None
) -> tuple[dict[str, int], ImageInfo | None]:
    """Return the dimensions to fix, and how images are prepared; check both options."""
    if name == DIGITS:
        _refuse(name, option="image size", value=image_size, reason="its images are 8x8")
        _refuse(name, option="sequence length", value=seq, reason="it takes images")
        return {}, DIGITS_IMAGE
    if architecture(name).encoder is not None:
        _refuse(name, option="image size", value=image_size, reason="it takes tokens")
        length = SEQUENCE_LENGTH if seq is None else seq
        if not 1 <= length <= SEQUENCE_LENGTH_MAX:
            raise ModelError(f"{name} takes 1 to {SEQUENCE_LENGTH_MAX} tokens, not {length}")
        return {"seq": length}, None
    _refuse(name, option="sequence length", value=seq, reason="it takes images")
    size = IMAGE_SIZE if image_size is None else image_size
    if size < IMAGE_SIZE_MIN:
        raise ModelError(f"{name} takes images of {IMAGE_SIZE_MIN} pixels or more, not {size}")
    return {}, imagenet_image(size)


def _refuse(name: str, *, option: str, value: int | None, reason: str) -> None:
    if value is not None:
        raise ModelError(f"{name} takes no {option} ({value} given): {reason}")
