"""The models of the demonstration: which ones, how they are made once, and real inputs for them."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from clockwork.errors import ModelError
from clockwork.messages.models import ModelProfile, TensorSpec
from clockwork.models.format import profile_of, read_model_file
from clockwork.models.hardware import device_kind
from clockwork.models.zoo.build import BATCH_SIZES, build
from clockwork.models.zoo.catalogue import DIGITS
from clockwork.models.zoo.shipped import digits_test_set, photograph_crops
from clockwork.units import FOREVER_NS

IMAGE_SIZE: Final = 224
VARIANTS: Final = 8
"""Different inputs per big model; chosen, they cost memory and prove nothing more."""
VOCABULARY: Final = 30_522
"""Tokens that the encoder knows."""
BIG_BATCH_SIZES: Final = (1, 2, 4)
"""Batch sizes of the big models: on one core a larger batch takes longer than any promise."""

DemoInput = NDArray[Any] | Mapping[str, NDArray[Any]]


class DemoModel(Struct, frozen=True):
    """A model of the demonstration."""

    name: str
    copies: int
    # How often it is asked for, relative to the other big models; 0: `digits`, which has a rate.
    share: float


DEMO_MODELS: Final = (
    DemoModel(DIGITS, copies=3, share=0),
    DemoModel("squeezenet", copies=3, share=6),
    DemoModel("mobilenet_v2", copies=3, share=5),
    DemoModel("resnet18_v1", copies=3, share=4),
    DemoModel("encoder_small", copies=2, share=3),
    DemoModel("densenet121", copies=2, share=2),
    DemoModel("resnet50_v1", copies=2, share=2),
)
"""Small, middle and big; copies stand for tenants who each bring their own."""


def build_models(folder: Path, say: Callable[[str], None]) -> None:
    """Build the models that `folder` does not hold yet.

    Raises:
        ModelError: one cannot be built.
        ConfigurationError: a library for building is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [model.name for model in DEMO_MODELS if not _is_usable(folder / model.name)]
    if missing:
        say(f"Building {len(missing)} of {len(DEMO_MODELS)} models, once; they stay in {folder}")
    for count, name in enumerate(missing, 1):
        begin = time.monotonic()
        build(name, folder, batch_sizes=BATCH_SIZES if name == DIGITS else BIG_BATCH_SIZES)
        say(f"  {count}/{len(missing)}  {name:<14} {time.monotonic() - begin:5.1f} s")


def profile(path: Path, *, page_bytes: int, cores: int) -> ModelProfile:
    """Return what a worker with such pages and devices will report about a model."""
    return profile_of(
        read_model_file(path),
        page_bytes=page_bytes,
        device_kind=device_kind(cores),
        batch_max=max(BATCH_SIZES),
        exec_max_ns=FOREVER_NS,
    )


class DemoInputs:
    """Real inputs by model, and what the digits show."""

    def __init__(self) -> None:
        """Load the held-out digits, and cut the photograph.

        Raises:
            ConfigurationError: the library that reads pictures is not installed.
        """
        images, labels = digits_test_set()
        self._digits: list[NDArray[Any]] = list(images)
        self._labels = [int(label) for label in labels]
        self._crops: list[NDArray[Any]] = list(photograph_crops(VARIANTS, IMAGE_SIZE, seed=1))
        self._rng = np.random.default_rng(2)
        self._tokens: dict[tuple[TensorSpec, ...], list[dict[str, NDArray[Any]]]] = {}

    def take(self, name: str, tensors: tuple[TensorSpec, ...], index: int) -> DemoInput:
        """Return the input of a model's request number `index`."""
        if name == DIGITS:
            return self._digits[index % len(self._digits)]
        if len(tensors) == 1:
            return self._crops[index % VARIANTS]
        if tensors not in self._tokens:
            self._tokens[tensors] = [self._sequence(tensors) for _ in range(VARIANTS)]
        return self._tokens[tensors][index % VARIANTS]

    def is_right(self, index: int, scores: NDArray[Any]) -> bool:
        """Return whether the digit of request number `index` was read correctly."""
        return int(scores.argmax()) == self._labels[index % len(self._labels)]

    def _sequence(self, tensors: tuple[TensorSpec, ...]) -> dict[str, NDArray[Any]]:
        """Return a sequence of random tokens, all of them real, all of the first sentence."""
        sequence: dict[str, NDArray[Any]] = {}
        for tensor in tensors:
            if "mask" in tensor.name:
                sequence[tensor.name] = np.ones(tensor.shape, tensor.dtype)
            elif "type" in tensor.name:
                sequence[tensor.name] = np.zeros(tensor.shape, tensor.dtype)
            else:
                tokens = self._rng.integers(1000, VOCABULARY, tensor.shape)
                sequence[tensor.name] = tokens.astype(tensor.dtype)
        return sequence


def _is_usable(path: Path) -> bool:
    """Return whether a model is there and was measured by this version."""
    try:
        return bool(read_model_file(path).measurements)
    except ModelError:
        return False
