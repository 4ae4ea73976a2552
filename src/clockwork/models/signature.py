"""The inputs of an ONNX file: which dimension counts requests, and which sizes are still open.

The first dimension of every input is the batch. If it is free in all of them, the model runs at any
batch size; if one fixes it, the model runs at that one. Every other free dimension must be given a
size, because a request's payload has a fixed length.

Not here: outputs. What they are is seen when the model runs (`models.verify`), which is more
reliable than what files say.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from msgspec import Struct

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.dtypes import BY_ONNX_TYPE, DTYPES

_INLINE_BYTES_MAX: Final = 1024


class Signature(Struct, frozen=True):
    """What can be put into a model."""

    # One request's tensors.
    inputs: tuple[TensorSpec, ...]
    # The only batch size, or None if the model runs at any.
    batch_size: int | None


def prepare(path: Path, dims: Mapping[str, int], folder: Path) -> tuple[Path, Signature]:
    """Return an ONNX file with all of `dims` fixed, and its inputs.

    It is `path` itself if there is nothing to change, else a file in `folder`.

    Args:
        dims: sizes by name; a dimension without a name is called ``INPUT:AXIS``.

    Raises:
        ModelError: the file cannot be read, or dimensions remain open.
    """
    model = _read(path, with_weights=False)
    _fix(model.graph, dims, path)
    signature = _signature(model.graph, path)
    if not dims and not _overridable(model.graph):
        return path, signature
    whole = _read(path, with_weights=True)
    _fix(whole.graph, dims, path)
    for entry in _overridable(whole.graph):
        whole.graph.input.remove(entry)
    target = folder / "prepared.onnx"
    onnx.save(
        whole,
        os.fspath(target),
        save_as_external_data=True,
        location="prepared.data",
        size_threshold=_INLINE_BYTES_MAX,
    )
    return target, signature


def _read(path: Path, *, with_weights: bool) -> onnx.ModelProto:
    try:
        model = onnx.load(os.fspath(path), load_external_data=with_weights)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or error} is missing") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path} is no ONNX file, or a damaged one: {error}") from None
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path} is no ONNX file: it has no graph")
    return model


def _real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name not in weights]


def _overridable(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return weights that are listed as inputs: a runtime takes none of those for constant."""
    weights = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name in weights]


def _dims(entry: onnx.ValueInfoProto) -> Iterator[tuple[int, str, onnx.TensorShapeProto.Dimension]]:
    """Yield axis, name and dimension of a tensor."""
    for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
        yield axis, dim.dim_param or f"{entry.name}:{axis}", dim


def _is_free(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return not dim.HasField("dim_value") or dim.dim_value < 1


def _fix(graph: onnx.GraphProto, dims: Mapping[str, int], path: Path) -> None:
    free = [name for entry in _real_inputs(graph) for _, name, dim in _dims(entry) if _is_free(dim)]
    for name, size in dims.items():
        if name not in free:
            known = ", ".join(dict.fromkeys(free)) or "none"
            raise ModelError(f"{path} has no free dimension {name!r}; free are: {known}")
        if size < 1:
            raise ModelError(f"dimension {name!r} cannot have {size} elements")
    # Names mean the same size everywhere in a graph.
    for entry in (*graph.input, *graph.output, *graph.value_info):
        for _, name, dim in _dims(entry):
            if name in dims and _is_free(dim):
                dim.dim_value = dims[name]


def _signature(graph: onnx.GraphProto, path: Path) -> Signature:
    entries = _real_inputs(graph)
    if not entries:
        raise ModelError(f"{path} has no inputs: there is nothing to infer from")
    for entry in entries:
        _check_type(entry, path)
    _check_dims(entries, path)
    fixed = {
        dim.dim_value
        for entry in entries
        for axis, _, dim in _dims(entry)
        if axis == 0 and not _is_free(dim)
    }
    if len(fixed) > 1:
        raise ModelError(
            f"the inputs of {path} have different batch sizes: {_shapes(entries)}; the first "
            f"dimension of every input must count requests"
        )
    return Signature(
        inputs=tuple(_spec(entry) for entry in entries), batch_size=min(fixed, default=None)
    )


def _check_type(entry: onnx.ValueInfoProto, path: Path) -> None:
    tensor = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or tensor.elem_type not in BY_ONNX_TYPE:
        kind = entry.type.WhichOneof("value") or "nothing"
        if kind == "tensor_type":
            kind = f"tensor of {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()}"
        raise ModelError(
            f"input {entry.name!r} of {path} is a {kind}: inputs must be tensors of numbers "
            f"({', '.join(DTYPES)})"
        )
    if not tensor.HasField("shape") or not tensor.shape.dim:
        raise ModelError(f"input {entry.name!r} of {path} has no batch dimension")


def _check_dims(entries: Sequence[onnx.ValueInfoProto], path: Path) -> None:
    free = [
        name for entry in entries for axis, name, dim in _dims(entry) if axis > 0 and _is_free(dim)
    ]
    if free:
        flags = " ".join(f"--dim {name}=SIZE" for name in dict.fromkeys(free))
        raise ModelError(
            f"{path} has free dimensions besides the batch: {_shapes(entries)}; "
            f"fix their sizes with {flags}"
        )


def _shapes(entries: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(
        f"{entry.name} [{', '.join(_shown(name, dim) for _, name, dim in _dims(entry))}]"
        for entry in entries
    )


def _shown(name: str, dim: onnx.TensorShapeProto.Dimension) -> str:
    return name if _is_free(dim) else str(dim.dim_value)


def _spec(entry: onnx.ValueInfoProto) -> TensorSpec:
    dtype = BY_ONNX_TYPE[entry.type.tensor_type.elem_type]
    shape = tuple(dim.dim_value for axis, _, dim in _dims(entry) if axis > 0)
    return TensorSpec(name=entry.name, dtype=dtype.name, shape=shape, item_bytes=dtype.item_bytes)
