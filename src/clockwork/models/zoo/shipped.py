"""The data that ships with the package: held-out digits, a photograph, the table of models.

Licences and sources stand in ``data/README.md``.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clockwork.errors import ConfigurationError
from clockwork.models.format import ImageInfo

DATA: Final = Path(__file__).parents[2] / "data"
"""The folder in the package."""
DIGITS_ONNX: Final = DATA / "digits" / "digits.onnx"
"""The trained model of ``examples/train_digits.py``."""
DIGITS_IMAGE: Final = ImageInfo(
    size=(8, 8), mean=(0.0,), std=(1.0,), labels=tuple(str(digit) for digit in range(10))
)
"""Its input: light strokes on dark ground."""
PHOTOGRAPH: Final = DATA / "images" / "china.jpg"
"""480 x 320 pixels."""
MODEL_TABLE: Final = DATA / "model_table.csv"
"""The 64 models of `zoo.emulated`."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
"""Mean of red, green and blue over ImageNet, as all of the zoo's image models expect."""
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Their standard deviations."""
_CROP_MIN: Final = 0.4  # Smallest side of a crop as a share of the photograph's height; chosen.


def digits_test_set() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 500 images of handwritten digits that no training saw, and what they show.

    Returns:
        Images `[500, 1, 8, 8]` float32 from 0 to 1, and labels `[500]` int64 from 0 to 9.
    """
    with np.load(DATA / "digits" / "held_out.npz") as file:
        images = (file["pixels"][:, None] / 16).astype(np.float32)
        return images, file["labels"].astype(np.int64)


def imagenet_image(size: int) -> ImageInfo:
    """Return how square images of `size` pixels are prepared for the zoo's image models."""
    return ImageInfo(size=(size, size), mean=IMAGENET_MEAN, std=IMAGENET_STD)


def photograph_crops(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """Return random square parts of the photograph, ready for an image model.

    Returns:
        `[count, 3, size, size]` float32, contiguous, normalized with ImageNet's mean and std; equal
        for equal arguments.

    Raises:
        ConfigurationError: the ``pillow`` package is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigurationError(
            "reading images needs the pillow package: pip install 'clockwork-serving[images]'"
        ) from error
    rng = np.random.default_rng(seed)
    crops = np.empty((count, 3, size, size), np.float32)
    mean = np.array(IMAGENET_MEAN, np.float32)
    std = np.array(IMAGENET_STD, np.float32)
    with Image.open(PHOTOGRAPH) as file:
        photograph = file.convert("RGB")
    for crop in crops:
        side = int(rng.uniform(_CROP_MIN, 1) * photograph.height)
        left = int(rng.integers(photograph.width - side + 1))
        top = int(rng.integers(photograph.height - side + 1))
        part = photograph.resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
        crop[:] = ((np.asarray(part, np.float32) / 255 - mean) / std).transpose(2, 0, 1)
    return crops
