"""What paths of models stand for in a simulation: made-up models, published ones, directories.

Made-up models need no files, so that a scenario is complete in itself: the path says what they are.
``made-up/3-pages/2500-us`` needs 3 pages and runs 2.5 ms at batch size 1. Other durations follow
from these two like those of the published models do on average: a batch of b takes 0.4 + 0.6 b
times as long, a page takes 1.2 ms to load.

``published/resnet50_v2`` is a model of the published table. Everything else is a directory.
"""

import re
from functools import cache
from pathlib import Path
from typing import Final

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.format import (
    EMULATED,
    FORMAT_VERSION,
    Measurement,
    ModelFile,
    read_model_file,
)
from clockwork.models.zoo.emulated import emulated_models
from clockwork.units import MIB, US

MADE_UP: Final = "made-up"
PUBLISHED: Final = "published"
SIZES: Final = (1, 2, 4, 8, 16)
PAGE_BYTES: Final = 16 * MIB
LOAD_NS_PER_PAGE: Final = 1_200 * US
"""A page over PCIe 3: 117 MB of a ResNet-50 in 8.3 ms (published)."""

_PATH: Final = re.compile(rf"{MADE_UP}/(\d+)-pages/(\d+)-us")
_INPUT: Final = TensorSpec("data", "float32", (3, 224, 224), 4)
_OUTPUT: Final = TensorSpec("probabilities", "float32", (1000,), 4)


def made_up_path(*, pages: int, exec_us: int) -> str:
    """Return the path of a model that needs so many pages and so long at batch size 1."""
    return f"{MADE_UP}/{pages}-pages/{exec_us}-us"


def read_made_up(path: Path) -> ModelFile:
    """Return what ``model.json`` of a made-up model would say.

    Raises:
        ModelError: the path is not that of a made-up model.
    """
    match = _PATH.fullmatch(path.as_posix())
    if match is None:
        raise ModelError(f"{path} is no made-up model: write it like made-up/3-pages/2500-us")
    pages, exec_ns = int(match[1]), int(match[2]) * US
    measured = Measurement(
        exec_ns={size: exec_ns * (2 + 3 * size) // 5 for size in SIZES},
        load_ns=pages * LOAD_NS_PER_PAGE,
    )
    return ModelFile(
        format=FORMAT_VERSION,
        name=path.as_posix(),
        inputs=(_INPUT,),
        outputs=(_OUTPUT,),
        batch_sizes=SIZES,
        weights_bytes=pages * PAGE_BYTES,
        measurements={EMULATED: measured},
    )


def published_zoo() -> dict[str, str]:
    """Return the path by name of every model of the published table, in alphabetical order."""
    return {name: f"{PUBLISHED}/{name}" for name in sorted(_published())}


def read_model(path: Path) -> ModelFile:
    """Return what ``model.json`` says, or would say, of the model that `path` stands for.

    Raises:
        ModelError: there is no such model.
    """
    kind = path.parts[0] if path.parts else ""
    if kind == MADE_UP:
        return read_made_up(path)
    if kind != PUBLISHED:
        return read_model_file(path)
    model = _published().get(path.name)
    if model is None:
        raise ModelError(f"the published table has no model {path.name!r}")
    return model


@cache
def _published() -> dict[str, ModelFile]:
    return {model.name: model for model in emulated_models()}
