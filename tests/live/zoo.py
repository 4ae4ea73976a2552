"""Models of the zoo for tests: small images and short sequences, built once per session."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clockwork.messages.models import TensorSpec
from clockwork.models.zoo.build import build, write_onnx
from clockwork.models.zoo.catalogue import ARCHITECTURES

Array = NDArray[Any]

IMAGE_SIZE = 64
SEQUENCE_LENGTH = 16
TOKEN_COUNT = 30_000
"""Tokens that every text encoder of the zoo knows."""


class Zoo:
    """A folder of model directories that fills as they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing in `folder`."""
        self.folder = folder

    def directory(self, name: str, *, keep_onnx: Path | None = None) -> Path:
        """Return the directory of a model; it is built when it is asked for first."""
        directory = self.folder / name
        if not directory.exists():
            build(name, self.folder, measure=False, keep_onnx=keep_onnx, **_sizes(name))
        elif keep_onnx is not None:
            # Another test had it built: equal seeds give the same file again.
            write_onnx(name, keep_onnx, image_size=_sizes(name).get("image_size"))
        return directory


def made_up_requests(specs: tuple[TensorSpec, ...], count: int) -> dict[str, Array]:
    """Return inputs of `count` different requests by name, the first dimension counts them."""
    rng = np.random.default_rng(7)
    ranges = {"input_ids": TOKEN_COUNT, "attention_mask": 2, "token_type_ids": 2}
    return {
        spec.name: rng.integers(0, ranges[spec.name], (count, *spec.shape))
        if spec.dtype == "int64"
        else rng.standard_normal((count, *spec.shape)).astype(spec.dtype)
        for spec in specs
    }


def _sizes(name: str) -> dict[str, int]:
    if name not in ARCHITECTURES:
        return {}
    if ARCHITECTURES[name].encoder is None:
        return {"image_size": IMAGE_SIZE}
    return {"seq": SEQUENCE_LENGTH}
