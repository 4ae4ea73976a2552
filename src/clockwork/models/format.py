"""What a model directory says about itself: ``model.json``, read, checked and written.

A model directory holds ``model.json``, ``code.onnx`` (the graph, with its large weights as inputs)
and ``weights.bin`` (one blob of 64-byte aligned tensors). An emulated model needs ``model.json``
alone: it has `weights_bytes` and measurements, and no table of weights.

Invariants of a `ModelFile` that `read_model_file` returned: at least one batch size, ascending;
every weight lies inside ``weights.bin`` after the one before; sizes agree with shapes.

Not here: what turns an ONNX file into a directory (`models.compile`), how weights are put into
pages (`models.packing`).
"""

import hashlib
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from clockwork.errors import ModelError
from clockwork.messages.models import ModelProfile, TensorSpec
from clockwork.models.packing import pack

FORMAT_VERSION: Final = 1
"""What this version writes; others are refused."""
MODEL_NAME: Final = "model.json"
CODE_NAME: Final = "code.onnx"
WEIGHTS_NAME: Final = "weights.bin"
EMULATED: Final = "emulated"
"""The device kind of figures that no device of this machine measured."""

_CHUNK_BYTES: Final = 1 << 20


class WeightSpec(Struct, frozen=True):
    """One tensor of ``weights.bin``, which is an input of ``code.onnx``."""

    name: str
    # numpy's name of the type, as in TensorSpec.
    dtype: str
    shape: tuple[int, ...]
    # First byte in weights.bin; a multiple of 64.
    offset: int
    size_bytes: int


class Measurement(Struct, frozen=True):
    """Durations of one model on one kind of device."""

    # Batch size to execution time.
    exec_ns: Mapping[int, int]
    # Duration of LoadWeights.
    load_ns: int


class Origin(Struct, frozen=True):
    """Where a model came from."""

    # The file that was compiled, or the architecture that was built.
    source: str
    # Name and version of what wrote the directory.
    compiler: str
    # Anything a user should know, such as that the weights are random.
    note: str = ""


class ImageInfo(Struct, frozen=True):
    """How an image becomes the model's (only) input, and what its classes are called."""

    # Side lengths of the input: height, width.
    size: tuple[int, int]
    # Values 0 to 1 of each channel become (value - mean) / std.
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # Names of the classes in output order; empty where they have none.
    labels: tuple[str, ...] = ()


class ModelFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The contents of ``model.json``."""

    format: int
    name: str
    # One request's tensors, without the batch dimension.
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # Supported batch sizes, ascending.
    batch_sizes: tuple[int, ...]
    # Bytes of all weights, without what packing and alignment add.
    weights_bytes: int
    # In the order of their offsets; empty for an emulated model, or if all of them are in the code.
    weights: tuple[WeightSpec, ...] = ()
    # File name to sha256, in hexadecimal; the files that make the model a real one.
    checksums: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    # Device kind ("cpu-1core", "emulated", ...) to what was measured on it.
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    # Only for models that take one image.
    image: ImageInfo | None = None

    @property
    def is_emulated(self) -> bool:
        """True if there is no code: only an emulated device can run it."""
        return CODE_NAME not in self.checksums


def read_model_file(directory: Path) -> ModelFile:
    """Return what ``model.json`` of `directory` says, checked for consistency.

    The other files are not opened; see `check_files`.

    Raises:
        ModelError: it is missing, is no JSON, lacks a field, contradicts itself, or was written
            by another version.
    """
    path = directory / MODEL_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{directory} is no model directory: it has no {MODEL_NAME}") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    try:
        version = msgspec.json.decode(text, type=_Version).format
    except msgspec.DecodeError as error:
        raise ModelError(f"{path} is broken: {error}") from None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has format {version}, this version reads {FORMAT_VERSION}: compile it again"
        )
    try:
        model = msgspec.json.decode(text, type=ModelFile)
    except msgspec.DecodeError as error:
        raise ModelError(f"{path} is broken: {error}") from None
    _check(model, path)
    return model


def write_model_file(directory: Path, model: ModelFile) -> None:
    """Write ``model.json`` of `directory`; readers see the old one or the new one, whole."""
    path = directory / MODEL_NAME
    draft = path.with_name(f"{MODEL_NAME}.{os.getpid()}.tmp")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n")
    draft.replace(path)


def check_files(directory: Path, model: ModelFile) -> None:
    """Check that the other files of `directory` are whole.

    Reads them once.

    Raises:
        ModelError: a file is missing, too short, or not the one that `model` was written for.
    """
    for name, expected in model.checksums.items():
        if sha256_of(directory / name) != expected:
            raise ModelError(
                f"{directory / name} is damaged: its checksum is not the one in {MODEL_NAME}"
            )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None


def measurement_of(model: ModelFile, device_kind: str) -> Measurement | None:
    """Return what was measured on `device_kind`, else on any other kind, else None.

    Another device's figures are a better first guess than none: the controller corrects them
    with its own measurements.
    """
    kinds = model.measurements
    if device_kind in kinds:
        return kinds[device_kind]
    return kinds[min(kinds)] if kinds else None


def profile_of(
    model: ModelFile, *, page_bytes: int, device_kind: str, batch_max: int, exec_max_ns: int
) -> ModelProfile:
    """Return what a worker with these pages and devices reports about `model`.

    Batch sizes above `batch_max`, and those that run longer than `exec_max_ns`, are left out; the
    smallest is always kept (SPEC 5.2).
    """
    measured = measurement_of(model, device_kind) or Measurement(exec_ns={}, load_ns=0)
    smallest = model.batch_sizes[0]
    kept = tuple(
        size
        for size in model.batch_sizes
        if size == smallest or (size <= batch_max and measured.exec_ns.get(size, 0) <= exec_max_ns)
    )
    return ModelProfile(
        inputs=model.inputs,
        outputs=model.outputs,
        batch_sizes=kept,
        exec_ns=tuple(measured.exec_ns.get(size, 0) for size in kept),
        load_ns=measured.load_ns,
        weights_bytes=model.weights_bytes,
        weights_pages=_weights_pages(model, page_bytes),
    )


class _Version(Struct):
    format: int


def _weights_pages(model: ModelFile, page_bytes: int) -> int:
    """Return at least 1: a model without weights still is either warm or cold."""
    if model.is_emulated:
        return max(1, -(-model.weights_bytes // page_bytes))
    return max(1, pack([weight.size_bytes for weight in model.weights], page_bytes).page_count)


def _check(model: ModelFile, path: Path) -> None:
    sizes = model.batch_sizes
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise ModelError(f"{path}: batch_sizes must ascend from at least 1, not {list(sizes)}")
    if model.weights_bytes < 0:
        raise ModelError(f"{path}: weights_bytes is {model.weights_bytes}, it must be 0 or more")
    for tensor in (*model.inputs, *model.outputs):
        if tensor.item_bytes < 1 or min(tensor.shape, default=0) < 0:
            raise ModelError(f"{path}: tensor {tensor.name!r} has no possible size")
    for kind, measured in model.measurements.items():
        if min((measured.load_ns, *measured.exec_ns.values())) < 0:
            raise ModelError(f"{path}: measurements of {kind!r} are negative")
    _check_weights(model, path)


def _check_weights(model: ModelFile, path: Path) -> None:
    end = 0
    for weight in model.weights:
        if weight.offset < end or weight.size_bytes < 1 or weight.offset % 64:
            raise ModelError(f"{path}: weight {weight.name!r} has no possible place")
        if weight.size_bytes % max(1, prod(weight.shape)):
            raise ModelError(f"{path}: weight {weight.name!r} has a size unlike its shape")
        end = weight.offset + weight.size_bytes
    total = sum(weight.size_bytes for weight in model.weights)
    if model.weights and total != model.weights_bytes:
        raise ModelError(f"{path}: weights_bytes is {model.weights_bytes}, weights add to {total}")
