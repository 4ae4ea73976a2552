"""Types of tensor elements: numpy's names, the numbers that ONNX gives them, and their sizes.

Why apart: the serving side handles tensors as bytes and needs neither numpy's idea of a type (it
has none for bfloat16) nor the onnx package.

Not here: strings and types below a byte. They have no fixed size per element, so that they can
be neither inputs nor outputs of a model; inside a graph they are fine.
"""

from collections.abc import Sequence
from math import prod
from typing import Final

from msgspec import Struct


class Dtype(Struct, frozen=True, gc=False):
    """One element type."""

    # As in TensorSpec.
    name: str
    # Its number in ONNX's TensorProto.DataType.
    onnx_type: int
    item_bytes: int
    # ONNX Runtime's name for a tensor of it.
    runtime_name: str


_ALL: Final = (
    Dtype("float32", 1, 4, "tensor(float)"),
    Dtype("uint8", 2, 1, "tensor(uint8)"),
    Dtype("int8", 3, 1, "tensor(int8)"),
    Dtype("uint16", 4, 2, "tensor(uint16)"),
    Dtype("int16", 5, 2, "tensor(int16)"),
    Dtype("int32", 6, 4, "tensor(int32)"),
    Dtype("int64", 7, 8, "tensor(int64)"),
    Dtype("bool", 9, 1, "tensor(bool)"),
    Dtype("float16", 10, 2, "tensor(float16)"),
    Dtype("float64", 11, 8, "tensor(double)"),
    Dtype("uint32", 12, 4, "tensor(uint32)"),
    Dtype("uint64", 13, 8, "tensor(uint64)"),
    Dtype("bfloat16", 16, 2, "tensor(bfloat16)"),
    Dtype("float8_e4m3fn", 17, 1, "tensor(float8e4m3fn)"),
    Dtype("float8_e4m3fnuz", 18, 1, "tensor(float8e4m3fnuz)"),
    Dtype("float8_e5m2", 19, 1, "tensor(float8e5m2)"),
    Dtype("float8_e5m2fnuz", 20, 1, "tensor(float8e5m2fnuz)"),
)

DTYPES: Final = {dtype.name: dtype for dtype in _ALL}
"""Element types by numpy's name."""
BY_ONNX_TYPE: Final = {dtype.onnx_type: dtype for dtype in _ALL}
"""Element types by ONNX's number."""
BY_RUNTIME_NAME: Final = {dtype.runtime_name: dtype for dtype in _ALL}
"""Element types by ONNX Runtime's name of a tensor."""


def size_bytes_of(name: str, shape: Sequence[int]) -> int:
    """Return the bytes of a tensor of type `name`.

    Raises:
        KeyError: there is no such type here.
    """
    return prod(shape) * DTYPES[name].item_bytes
