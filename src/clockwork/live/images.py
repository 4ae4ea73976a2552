"""Pictures as inputs of models, by what their model directory says about images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clockwork.errors import ConfigurationError, ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.format import ImageInfo, read_model_file
from clockwork.models.zoo.shipped import IMAGENET_MEAN, IMAGENET_STD

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
"""File names that are taken for pictures."""


def open_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture as `[height, width, 3]` uint8.

    Raises:
        ConfigurationError: it cannot be read, or the extra ``images`` is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ConfigurationError(
            "pictures need Pillow: pip install 'clockwork-serving[images]'"
        ) from None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise ConfigurationError(f"cannot read the picture {path}: {error}") from None


def image_info(model_dir: Path, inputs: tuple[TensorSpec, ...]) -> ImageInfo:
    """Return how a picture becomes the input of a model, guessing where nothing is written.

    Args:
        model_dir: need not be there, for models of other machines.
        inputs: what the model takes.

    Raises:
        ConfigurationError: the model does not look like one that takes a picture.
    """
    try:
        written = read_model_file(model_dir).image
    except ModelError:
        written = None
    if written is not None:
        return written
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 3 or shape[0] not in {1, 3}:
        shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in inputs)
        raise ConfigurationError(
            f"this model takes no picture but {shapes}: pass a .npy file, or an .npz file with "
            f"arrays by name"
        )
    if shape[0] == 1:
        return ImageInfo(size=shape[1:], mean=(0.0,), std=(1.0,))
    return ImageInfo(size=shape[1:], mean=IMAGENET_MEAN, std=IMAGENET_STD)


def fit_picture(
    picture: NDArray[np.uint8], info: ImageInfo, *, dtype: str, at: tuple[float, float] = (0.5, 0.5)
) -> NDArray[Any]:
    """Return the largest part of `picture` with the model's proportions, scaled and normalised.

    Args:
        picture: `[height, width, 3]` uint8.
        info: sizes and normalisation of the model.
        dtype: numpy's name of the model's input type.
        at: where to cut, from 0 (top, left) to 1 (bottom, right).
    """
    from PIL import Image

    height, width = info.size
    part = Image.fromarray(_cut(picture, height / width, at))
    if len(info.mean) == 1:
        part = part.convert("L")
    pixels = np.asarray(part.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    mean = np.asarray(info.mean, np.float32)[:, None, None]
    std = np.asarray(info.std, np.float32)[:, None, None]
    return np.ascontiguousarray(((channels - mean) / std).astype(dtype))


def _cut(
    picture: NDArray[np.uint8], proportion: float, at: tuple[float, float]
) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    cut_height = min(height, round(width * proportion))
    cut_width = min(width, round(height / proportion))
    top = round((height - cut_height) * at[0])
    left = round((width - cut_width) * at[1])
    return picture[top : top + cut_height, left : left + cut_width]
