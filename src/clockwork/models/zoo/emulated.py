"""The published table of models as model directories for emulated devices.

Source: table 1 of Gujarati et al., "Serving DNNs like Clockwork" in an early version
(https://arxiv.org/abs/2006.02464), measured on a V100 with TVM: see ``data/README.md``. The table
rounds sizes of tensors; the exact ones follow from the architectures' known shapes.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.dtypes import DTYPES
from clockwork.models.format import (
    EMULATED,
    FORMAT_VERSION,
    Measurement,
    ModelFile,
    Origin,
    write_model_file,
)
from clockwork.models.zoo.shipped import MODEL_TABLE
from clockwork.units import MS

MB: Final = 1_000_000
"""The table's megabyte: ResNet-50's 102.2 are 25.6 million float32."""
BATCH_SIZES: Final = (1, 2, 4, 8, 16)
"""Batch sizes of the table's columns."""
INPUTS: Final[Mapping[str, tuple[int, ...]]] = {
    "602": (3, 224, 224),
    "1073": (3, 299, 299),
    "590": (3, 256, 192),
    "12": (3, 32, 32),
}
"""Shape of one request's input by the table's kB: images for ImageNet, Inception, poses, CIFAR."""
OUTPUTS: Final[Mapping[str, tuple[int, ...]]] = {
    "4": (1000,),
    "209": (17, 64, 48),
    "1.6": (400,),
    "0.04": (10,),
}
"""Shape of the output by the table's kB: ImageNet's classes, 17 joints' maps, Kinetics, CIFAR."""


def write_emulated(out_dir: Path) -> int:
    """Write a model directory with ``model.json`` alone for each model of the table.

    Returns:
        How many directories were written: 64.

    Raises:
        ModelError: `out_dir` cannot be written.
    """
    models = emulated_models()
    for model in models:
        folder = out_dir / model.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_model_file(folder, model)
        except OSError as error:
            raise ModelError(f"cannot write {folder}: {error.strerror}") from None
    return len(models)


def emulated_models() -> list[ModelFile]:
    """Return the models of the table, in its order."""
    with MODEL_TABLE.open(encoding="utf-8", newline="") as file:
        return [_model(row) for row in csv.DictReader(file)]


def _model(row: Mapping[str, str]) -> ModelFile:
    exec_ns = {size: round(float(row[f"exec_b{size}_ms"]) * MS) for size in BATCH_SIZES}
    load_ns = round(float(row["weights_transfer_ms"]) * MS)
    return ModelFile(
        format=FORMAT_VERSION,
        name=row["model"],
        inputs=(_tensor("input", INPUTS[row["input_kb"]]),),
        outputs=(_tensor("output", OUTPUTS[row["output_kb"]]),),
        batch_sizes=BATCH_SIZES,
        weights_bytes=round(float(row["weights_mb"]) * MB),
        origin=Origin(
            source="table 1 of arXiv 2006.02464",
            compiler="TVM",
            note=f"{row['family']}, measured on a V100; for emulated devices only",
        ),
        measurements={EMULATED: Measurement(exec_ns=exec_ns, load_ns=load_ns)},
    )


def _tensor(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name, "float32", shape, DTYPES["float32"].item_bytes)
