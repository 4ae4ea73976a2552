"""Models of the original system, as far as an emulated worker needs them.

A model of the original is a set of files with one base path, usually ``NAME/model``:
``model.clockwork_params`` (the weights), ``model.<b>.clockwork`` and ``model.<b>.so`` for batch
sizes 1, 2, 4, ..., and ``model.measurements`` (durations in ns). Its code is for CUDA and an old
TVM, so that no device of ours computes it; sizes and durations are all that is used. The ``.so``
and the weights are never opened.

Source: SPEC 5.7 and 5.8. Unlike there, the page size of the files need not be that of the worker.

::

    u32 version, u64 x 4 memory sizes
    names                = u32 count, strings (u32 length, bytes)
    operators            = versioned list of (versioned list of tensors, u32 name,
                           versioned list of workspace areas (u32 page, u64 offset, u64 size))
    inputs, outputs      = versioned lists of tensors
    u64 page size, pages = versioned list of (u64 offset in the weights, u64 size)

where a versioned list is a u32 version, a u32 count and the elements, and a tensor is a u64 base
offset, u32 page, u64 page offset, u64 size, u32 count and i64 dimensions, i32 type code, bits and
lanes. All of it is little-endian.
"""

import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.dtypes import DTYPES
from clockwork.models.format import (
    EMULATED,
    FORMAT_VERSION,
    MODEL_NAME,
    Measurement,
    ModelFile,
    Origin,
    read_model_file,
)

BASE_NAME: Final = "model"
"""What the files of a model are called when a folder is named instead of a base path."""
VERSION: Final = 1
"""The only version of ``.clockwork`` files that the original ever wrote."""
BATCH_MAX: Final = 1024
"""Largest batch size that is looked for; the original's stop at 16."""
FILE_BYTES_MAX: Final = 16 << 20
"""Longest file that is read; the original's have tens of kilobytes."""

# DLPack's type codes, as TVM uses them, to the first half of numpy's names.
_TYPE_NAMES: Final = {0: "int", 1: "uint", 2: "float"}
# A comment of each of libconfig's kinds: only what is between them is read.
_COMMENT: Final = re.compile(r"#[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_SETTING: Final = re.compile(
    r"\s*([A-Za-z*][A-Za-z0-9_*-]*)\s*[=:]\s*([0-9]{1,18})L{0,2}\s*[;,]?\s*"
)


class OriginalCode(Struct, frozen=True):
    """What a ``.clockwork`` file says about one batch size."""

    # Tensors with the batch dimension.
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # Pages of the weights, and the size of each.
    page_count: int
    page_bytes: int


def read_emulated_model(path: Path) -> ModelFile:
    """Return the model at `path`, be it a model directory of ours or a model of the original.

    Raises:
        ModelError: it is neither, or broken.
    """
    if not os.path.exists(path / MODEL_NAME) and is_original(path):
        return read_original(path)
    return read_model_file(path)


def is_original(path: Path) -> bool:
    """True if `path` is the folder, or the base path, of a model of the original."""
    return os.path.exists(_file(_base(path), "clockwork_params"))


def read_original(path: Path) -> ModelFile:
    """Return what is known of the original's model at `path`: a folder or a base path.

    Batch sizes without a measurement are kept, with no duration.

    Raises:
        ModelError: a file is missing, broken or contradicts another.
    """
    base = _base(path)
    if not is_original(path):
        raise ModelError(f"{path} is no model: there is no {_file(base, 'clockwork_params')}")
    sizes = _batch_sizes(base)
    codes = [_code(base, size) for size in sizes]
    for size, code in zip(sizes, codes, strict=True):
        if (code.inputs, code.outputs) != (codes[0].inputs, codes[0].outputs):
            raise ModelError(f"{base}: tensors at batch size {size} are unlike those at 1")
    return ModelFile(
        format=FORMAT_VERSION,
        # Model folders have the model's name, the files in them never have.
        name=base.absolute().parent.name if base.name == BASE_NAME else base.name,
        inputs=codes[0].inputs,
        outputs=codes[0].outputs,
        batch_sizes=tuple(sizes),
        # Whole pages: what packing left over counts, as in the original.
        weights_bytes=codes[0].page_count * codes[0].page_bytes,
        origin=Origin(source=str(base), compiler="TVM", note="of the original; emulated only"),
        measurements=_measurements(base, sizes),
    )


def parse_code(data: bytes, name: str) -> OriginalCode:
    """Return the contents of a ``.clockwork`` file called `name` in messages.

    Raises:
        ModelError: it is none, or another version, or broken.
    """
    reader = _Reader(data, name)
    version = reader.u32()
    if version != VERSION:
        raise ModelError(f"{name} has version {version}, {VERSION} is supported")
    reader.skip(4 * 8)
    for _ in range(reader.u32()):
        reader.skip(reader.u32())
    for _ in range(reader.versioned_count()):
        reader.skip_tensors()
        reader.skip(4)
        reader.skip(reader.versioned_count() * (4 + 8 + 8))
    inputs, outputs = reader.tensors("input"), reader.tensors("output")
    page_bytes = reader.u64()
    page_count = reader.versioned_count()
    reader.skip(page_count * (8 + 8))
    reader.finish()
    return OriginalCode(inputs, outputs, page_count, page_bytes)


def parse_measurements(text: str, name: str) -> dict[str, int]:
    """Return the durations in a ``.measurements`` file called `name` in messages, by key.

    Raises:
        ModelError: there is anything but comments and settings like ``b1 = 1000000L;``.
    """
    text = _COMMENT.sub(" ", text).strip()
    durations: dict[str, int] = {}
    offset = 0
    while offset < len(text):
        match = _SETTING.match(text, offset)
        if match is None:
            wrong = text[offset : offset + 20]
            raise ModelError(f"{name}: cannot read {wrong!r}; write it like b1 = 1000000L;")
        durations[match[1]] = int(match[2])
        offset = match.end()
    return durations


class _Reader:
    """Takes values from the front of a file, and nothing past its end.

    Every element of a list takes bytes, so that a wrong count ends with the file, not later.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self._offset = 0

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def skip(self, size_bytes: int) -> None:
        self._offset += len(self._take(size_bytes))

    def versioned_count(self) -> int:
        self.skip(4)
        return self.u32()

    def skip_tensors(self) -> None:
        """Pass over tensors of operators: nothing depends on them."""
        for _ in range(self.versioned_count()):
            self.skip(8 + 4 + 8 + 8)
            self.skip(8 * self.u32())
            self.skip(3 * 4)

    def tensors(self, kind: str) -> tuple[TensorSpec, ...]:
        """Return the inputs or outputs; the files have no names for them."""
        return tuple(self._tensor(f"{kind}_{index}") for index in range(self.versioned_count()))

    def finish(self) -> None:
        rest = len(self._data) - self._offset
        if rest:
            raise ModelError(f"{self._name} is damaged: {rest} bytes follow its end")

    def _tensor(self, name: str) -> TensorSpec:
        self.skip(8 + 4 + 8)
        size_bytes = self.u64()
        shape = tuple(value for (value,) in struct.iter_unpack("<q", self._take(8 * self.u32())))
        code, bits, lanes = struct.unpack("<3i", self._take(3 * 4))
        dtype = DTYPES.get(f"{_TYPE_NAMES.get(code, '')}{bits}")
        if dtype is None or lanes != 1:
            raise ModelError(f"{self._name}: {name} has the unknown type {code}/{bits}/{lanes}")
        tensor = TensorSpec(name, dtype.name, shape, dtype.item_bytes)
        if min(shape, default=0) < 1 or tensor.size_bytes != size_bytes:
            raise ModelError(f"{self._name}: {name} has {size_bytes} bytes, but shape {shape}")
        return tensor

    def _take(self, size_bytes: int) -> bytes:
        end = self._offset + size_bytes
        if end > len(self._data):
            raise ModelError(
                f"{self._name} is damaged: it should go on to byte {end}, "
                f"but ends at {len(self._data)}"
            )
        taken = self._data[self._offset : end]
        self._offset = end
        return taken


def _base(path: Path) -> Path:
    return path / BASE_NAME if os.path.isdir(path) else path


def _file(base: Path, ending: str) -> Path:
    return base.with_name(f"{base.name}.{ending}")


def _batch_sizes(base: Path) -> list[int]:
    """Return 1, 2, 4, ... up to the last one before a file is missing."""
    found = []
    size = 1
    while size <= BATCH_MAX and all(
        os.path.exists(_file(base, f"{size}.{ending}")) for ending in ("so", "clockwork")
    ):
        found.append(size)
        size *= 2
    if not found:
        raise ModelError(f"{base} lacks {base.name}.1.so or {base.name}.1.clockwork")
    return found


def _code(base: Path, size: int) -> OriginalCode:
    """Return what the code for a batch size says, tensors without the batch dimension."""
    path = _file(base, f"{size}.clockwork")
    code = parse_code(_read(path), str(path))
    return replace(
        code,
        inputs=_per_request(code.inputs, size, path),
        outputs=_per_request(code.outputs, size, path),
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise ModelError(f"{path} has more than {FILE_BYTES_MAX} bytes: it is no such file")
    return data


def _per_request(tensors: Sequence[TensorSpec], size: int, path: Path) -> tuple[TensorSpec, ...]:
    """Return the tensors without their batch dimension, which must be `size`."""
    for tensor in tensors:
        if tensor.shape[0] != size:
            raise ModelError(
                f"{path}: {tensor.name} of the code for batch size {size} has "
                f"{tensor.shape[0]} requests"
            )
    return tuple(replace(tensor, shape=tensor.shape[1:]) for tensor in tensors)


def _measurements(base: Path, batch_sizes: Sequence[int]) -> dict[str, Measurement]:
    path = _file(base, "measurements")
    if not os.path.exists(path):
        return {}
    durations = parse_measurements(_read(path).decode(errors="replace"), str(path))
    exec_ns = {size: durations[f"b{size}"] for size in batch_sizes if f"b{size}" in durations}
    return {EMULATED: Measurement(exec_ns=exec_ns, load_ns=durations.get("weights", 0))}
