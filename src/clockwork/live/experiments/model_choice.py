"""The models that experiments use: the published table for emulated GPUs, or real ones built here.

Real experiments take a small network where the paper has ResNet-50: on one core of a processor it
takes about as long (3 ms) as ResNet-50 on a V100, so that the paper's SLOs make sense.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from clockwork.errors import ModelError
from clockwork.live.experiments.plan import Models
from clockwork.live.model_zoo import list_zoo
from clockwork.models.format import EMULATED, profile_of, read_model_file
from clockwork.models.hardware import device_kind
from clockwork.models.zoo.build import build
from clockwork.models.zoo.emulated import write_emulated
from clockwork.units import FOREVER_NS, MIB

EMULATED_BASE: Final = "resnet50_v2"
REAL_BASE: Final = "resnet18_v2"
REAL_IMAGE_SIZE: Final = 64
REAL_OTHERS: Final = ("squeezenet", "mobilenet_v2", "resnet34_v1", "encoder_small")
"""Further models of different sizes, for experiments on a whole zoo."""
REAL_PAGE_BYTES: Final = 4 * MIB
"""Chosen: the models are small, pages of 16 MiB would waste a quarter of the cache."""
CORES: Final = 1
BATCH_MAX: Final = 16

Say = Callable[[str], None]


def emulated_models(folder: Path) -> Models:
    """Return the published models, written into `folder`."""
    write_emulated(folder)
    return _models(folder, EMULATED_BASE, is_real=False, page_bytes=16 * MIB, kind=EMULATED)


def real_models(folder: Path, say: Say) -> Models:
    """Return real models; those that `folder` lacks, or that were measured elsewhere, are built.

    Raises:
        ModelError: one cannot be built.
        ConfigurationError: a library for building is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (REAL_BASE, *REAL_OTHERS):
        if not _is_usable(folder / name):
            say(f"Building {name}")
            is_image = name != "encoder_small"
            build(name, folder, image_size=REAL_IMAGE_SIZE if is_image else None)
    kind = device_kind(CORES)
    return _models(folder, REAL_BASE, is_real=True, page_bytes=REAL_PAGE_BYTES, kind=kind)


def _models(folder: Path, base: str, *, is_real: bool, page_bytes: int, kind: str) -> Models:
    zoo = list_zoo(str(folder))
    profile = profile_of(
        read_model_file(Path(zoo[base])),
        page_bytes=page_bytes,
        device_kind=kind,
        batch_max=BATCH_MAX,
        exec_max_ns=FOREVER_NS,
    )
    return Models(
        zoo=zoo,
        base=base,
        is_real=is_real,
        exec_ns=dict(zip(profile.batch_sizes, profile.exec_ns, strict=True)),
        load_ns=profile.load_ns,
        pages=profile.weights_pages,
        page_bytes=page_bytes,
    )


def _is_usable(path: Path) -> bool:
    try:
        return device_kind(CORES) in read_model_file(path).measurements
    except (ModelError, OSError):
        return False
