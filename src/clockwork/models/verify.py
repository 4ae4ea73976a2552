"""Runs a model as any ONNX Runtime user would, and compares what comes out.

Tensors are handled as bytes with a type, because ONNX has types that numpy lacks; the package
`ml_dtypes` teaches numpy those names.

Why random inputs of 0 and 1 for integers: token numbers, masks and indices of any model can be
0 or 1, larger ones might not exist.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnxruntime as ort
from msgspec import Struct
from numpy.typing import NDArray

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.dtypes import BY_ONNX_TYPE, DTYPES

Array = NDArray[Any]

# Largest difference, relative to the largest value of the tensor. The first is the promise; a type
# with fewer bits cannot keep it, because operators are fused differently.
_TOLERANCE: Final = {"float16": 5e-3, "bfloat16": 2e-2}
_TOLERANCE_ELSE: Final = 1e-4
_TOLERANCE_FLOAT8: Final = 0.2


class Mismatch(Struct, frozen=True):
    """Two runs of a model that should agree and do not."""

    output: str
    text: str


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return numpy's type of that name, also for types that numpy does not have by itself."""
    return np.dtype(getattr(ml_dtypes, name, name))


def made_up_inputs(specs: Sequence[TensorSpec], batch_size: int) -> dict[str, Array]:
    """Return inputs for a batch, the same ones in every process."""
    rng = np.random.default_rng(batch_size)
    arrays: dict[str, Array] = {}
    for spec in specs:
        shape, dtype = (batch_size, *spec.shape), numpy_dtype(spec.dtype)
        is_float = "float" in spec.dtype
        values = rng.standard_normal(shape) if is_float else rng.integers(0, 2, shape)
        arrays[spec.name] = np.ascontiguousarray(values.astype(dtype))
    return arrays


def run(session: ort.InferenceSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of a session by name.

    Raises:
        ModelError: an output is no tensor of numbers.
        Exception: whatever ONNX Runtime raises.
    """
    binding = ort.IOBinding(session)
    for name, array in inputs.items():
        number = DTYPES[array.dtype.name].onnx_type
        binding.bind_input(name, "cpu", 0, number, array.shape, array.ctypes.data)
    for node in session.get_outputs():
        binding.bind_output(node.name, "cpu")
    session.run_with_iobinding(binding)
    names = [node.name for node in session.get_outputs()]
    return {
        name: _array(name, value) for name, value in zip(names, binding.get_outputs(), strict=True)
    }


def compare(expected: Mapping[str, Array], found: Mapping[str, Array]) -> Mismatch | None:
    """Return the first output that differs by more than rounding, or None."""
    for name, reference in expected.items():
        array = found[name]
        if array.shape != reference.shape or array.dtype != reference.dtype:
            text = f"{array.dtype} {list(array.shape)}, not {reference.dtype} {reference.shape}"
            return Mismatch(output=name, text=text)
        difference = _relative_difference(reference, array)
        tolerance = _tolerance_of(reference.dtype.name)
        if not difference <= tolerance:
            return Mismatch(
                output=name, text=f"off by {difference:.2g} of its range, {tolerance:g} allowed"
            )
    return None


def output_specs(runs: Mapping[int, Mapping[str, Array]]) -> tuple[TensorSpec, ...]:
    """Return what one request gets, from the outputs by batch size.

    Raises:
        ModelError: an output has no batch dimension, or a size that changes.
    """
    smallest = min(runs)
    return tuple(
        _output_spec(name, {b: out[name] for b, out in runs.items()}) for name in runs[smallest]
    )


def _output_spec(name: str, arrays: Mapping[int, Array]) -> TensorSpec:
    for batch_size, array in arrays.items():
        if array.ndim == 0 or array.shape[0] != batch_size:
            raise ModelError(
                f"output {name!r} has shape {list(array.shape)} at batch size {batch_size}: "
                f"its first dimension must count requests"
            )
    shapes = {array.shape[1:] for array in arrays.values()}
    if len(shapes) > 1:
        raise ModelError(f"output {name!r} changes its size with the batch: {sorted(shapes)}")
    dtype = arrays[min(arrays)].dtype
    return TensorSpec(
        name=name, dtype=dtype.name, shape=min(shapes), item_bytes=DTYPES[dtype.name].item_bytes
    )


def _array(name: str, value: ort.OrtValue) -> Array:
    dtype = BY_ONNX_TYPE.get(value.element_type()) if value.is_tensor() else None
    if dtype is None:
        raise ModelError(
            f"output {name!r} is a {value.data_type()}: outputs must be tensors of numbers "
            f"({', '.join(DTYPES)})"
        )
    size_bytes = value.tensor_size_in_bytes()
    raw = ctypes.string_at(value.data_ptr(), size_bytes) if size_bytes else b""
    return np.frombuffer(raw, dtype=numpy_dtype(dtype.name)).reshape(value.shape())


def _relative_difference(reference: Array, array: Array) -> float:
    if not reference.size:
        return 0.0
    wide = np.int64 if reference.dtype.kind in "iub" else np.float64
    first, second = reference.astype(wide), array.astype(wide)
    if np.array_equal(first, second, equal_nan=wide is np.float64):
        return 0.0
    finite = np.isfinite(first) & np.isfinite(second)
    strange = ~finite
    if not np.array_equal(first[strange], second[strange], equal_nan=wide is np.float64):
        return float("inf")
    scale = float(np.abs(first[finite]).max(initial=0.0)) or 1.0
    return float(np.abs(first[finite] - second[finite]).max(initial=0.0)) / scale


def _tolerance_of(name: str) -> float:
    if name.startswith("float8"):
        return _TOLERANCE_FLOAT8
    return _TOLERANCE.get(name, _TOLERANCE_ELSE)
