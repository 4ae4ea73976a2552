"""What a model directory says about itself: ``model.json``, read, checked and written.

A model directory holds ``model.json``, ``code.onnx`` (the graph, with its large weights as inputs)
and ``weights.bin`` (those weights, 64-byte aligned, exactly as they lie in a weights cache). It may
hold a second pair that is tuned for one kind of processor. An emulated model needs ``model.json``
alone: it has `weights_bytes` and measurements, and no code.

Invariants of a `ModelFile` that `read_model_file` returned: at least one batch size, ascending;
every weight lies inside its file and after the one before; sizes agree with shapes and types.

Source: the original keeps a page layout in the file and refuses workers with another page size
(SPEC 5.8). Ours has none: a weights cache shows a model's pages at consecutive addresses, so that
the file's own layout is the layout in any cache (``docs/adr/0004-pages-are-scattered.md``).

Not here: what turns an ONNX file into a directory (`models.compile`), and what runs it
(`engines.onnx`).
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from clockwork.errors import ModelError
from clockwork.messages.models import ModelProfile, TensorSpec
from clockwork.models.dtypes import size_bytes_of

FORMAT_VERSION: Final = 1
"""What this version writes; others are refused."""
MODEL_NAME: Final = "model.json"
CODE_NAME: Final = "code.onnx"
WEIGHTS_NAME: Final = "weights.bin"
EMULATED: Final = "emulated"
"""The device kind of figures that no device of this machine measured."""
ALIGN_BYTES: Final = 64
"""Where tensors may start: a cache line, and the widest vector register."""


class WeightSpec(Struct, frozen=True):
    """One tensor of a weights file, which is an input of the code."""

    name: str
    # As in TensorSpec.
    dtype: str
    shape: tuple[int, ...]
    # First byte in the file; a multiple of 64.
    offset: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return size_bytes_of(self.dtype, self.shape)


class Code(Struct, frozen=True):
    """A graph and its weights: two files that belong together."""

    # Names of the files in the model directory.
    file: str
    weights_file: str
    # Bytes of the weights file, padding between tensors included.
    weights_bytes: int
    # In the order of their offsets; empty if the graph holds all of its weights.
    weights: tuple[WeightSpec, ...]
    # The only runtime that may run it; empty: any.
    runtime: str = ""


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
    # What the weights take of a weights cache.
    weights_bytes: int
    # What every processor can run; absent for an emulated model.
    code: Code | None = None
    # Kind of processor (`models.hardware`) to code that only that kind runs, but faster.
    tuned: Mapping[str, Code] = field(default_factory=dict)
    # File name to sha256, in hexadecimal.
    checksums: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    # Device kind ("cpu-1core", "emulated", ...) to what was measured on it.
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    # Only for models that take one image.
    image: ImageInfo | None = None


def read_model_file(directory: Path) -> ModelFile:
    """Return what ``model.json`` of `directory` says, checked for consistency.

    The other files are not opened.

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
    model: ModelFile,
    *,
    page_bytes: int,
    device_kind: str,
    batch_max: int,
    exec_max_ns: int,
    code: Code | None = None,
) -> ModelProfile:
    """Return what a worker with these pages and devices reports about `model`.

    Batch sizes above `batch_max`, and those that run longer than `exec_max_ns`, are left out; the
    smallest is always kept (SPEC 5.2). `weights_pages` is at least 1: a model without weights
    still is either warm or cold.

    Args:
        code: what the worker runs, if it differs from what every worker can run.
    """
    measured = measurement_of(model, device_kind) or Measurement(exec_ns={}, load_ns=0)
    weights_bytes = model.weights_bytes if code is None else code.weights_bytes
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
        weights_bytes=weights_bytes,
        weights_pages=max(1, -(-weights_bytes // page_bytes)),
    )


class _Version(Struct):
    format: int


def _check(model: ModelFile, path: Path) -> None:
    for complaint in (*_complaints(model), *_code_complaints(model)):
        raise ModelError(f"{path}: {complaint}")


def _complaints(model: ModelFile) -> Iterator[str]:
    sizes = model.batch_sizes
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        yield f"batch_sizes must ascend from at least 1, not {list(sizes)}"
    if model.weights_bytes < 0:
        yield f"weights_bytes is {model.weights_bytes}, it must be 0 or more"
    for tensor in (*model.inputs, *model.outputs):
        if tensor.item_bytes < 1 or min(tensor.shape, default=0) < 0:
            yield f"tensor {tensor.name!r} has no possible size"
    for kind, measured in model.measurements.items():
        if min((measured.load_ns, *measured.exec_ns.values())) < 0:
            yield f"measurements of {kind!r} are negative"


def _code_complaints(model: ModelFile) -> Iterator[str]:
    for code in (*filter(None, [model.code]), *model.tuned.values()):
        for name in (code.file, code.weights_file):
            if Path(name).name != name:
                yield f"{name!r} is not the name of a file in the directory"
            if name not in model.checksums:
                yield f"{name} has no checksum"
        yield from _weight_complaints(code)


def _weight_complaints(code: Code) -> Iterator[str]:
    end = 0
    for weight in code.weights:
        if weight.offset < end or weight.offset % ALIGN_BYTES or min(weight.shape, default=0) < 0:
            yield f"weight {weight.name!r} has no possible place"
        try:
            end = weight.offset + weight.size_bytes
        except KeyError:
            yield f"weight {weight.name!r} has the unknown type {weight.dtype!r}"
    if end > code.weights_bytes:
        yield f"{code.weights_file} has {code.weights_bytes} bytes, its weights end at {end}"
