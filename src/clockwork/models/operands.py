"""Which tensors inside an ONNX graph may become its inputs, and which must stay inside.

ONNX Runtime's kernels read some operands when a session is created: shapes, axes, scales of
quantised numbers. Those must be constants of the graph. The rest, which is nearly all of the bytes,
can come from anywhere at each execution.

Kernels of 8-bit convolutions could read weights then, too, but repack them each time, which takes
longer than the convolution (2.2 times as long in all, ResNet-50). Theirs stay inside: such a model
has most of its weights in its code, always in host memory, and few in the cache. Matrix products
lose up to a quarter by the same (batch size 1, BERT-base), and are not worth an exception.

A table cannot know every kernel of every version, so `compile` checks the result by running it, and
tries again with `Choice.WELL_KNOWN` if it fails.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

import onnx

from clockwork.models.dtypes import BY_ONNX_TYPE, size_bytes_of


class Choice(Enum):
    """How boldly tensors are taken out of a graph."""

    # Everything that no entry of the tables below forbids.
    NOT_FORBIDDEN = 0
    # Only weights of the operators that every network consists of.
    WELL_KNOWN = 1


# Smaller tensors stay inside: binding one costs as much as copying a few KiB.
WEIGHT_BYTES_MIN: Final = 1024
# Integers of 16 bits and more are mostly shapes and positions, seldom weights worth moving.
INTEGER_BYTES_MIN: Final = 64 * 1024

_DOMAINS: Final = {"", "ai.onnx", "com.microsoft", "com.microsoft.nchwc"}
_INTEGERS: Final = {"int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"}

# Operands that must be constants, by operator.
_CONSTANT: Final[dict[str, set[int]]] = {
    "CenterCropPad": {1},
    "Clip": {1, 2},
    "ConstantOfShape": {0},
    "ConvInteger": {2, 3},
    "CumSum": {1},
    "DequantizeLinear": {0, 1, 2},
    "Dropout": {1, 2},
    "DynamicQuantizeMatMul": {2, 3, 4},
    "Expand": {1},
    "If": {0},
    "Loop": {0, 1},
    "MatMulInteger": {2, 3},
    "MatMulIntegerToFloat": {2, 3, 4, 5, 6},
    "NonMaxSuppression": {2, 3, 4},
    "OneHot": {1, 2},
    "Pad": {1, 2, 3},
    "QGemm": {1, 2, 4, 5, 6, 7, 8},
    "QLinearMatMul": {1, 2, 4, 5, 6, 7},
    "QuantizeLinear": {1, 2},
    "Range": {0, 1, 2},
    "ReorderInput": {0},
    "Reshape": {1},
    "Resize": {1, 2, 3},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "SplitToSequence": {1},
    "Squeeze": {1},
    "Tile": {1},
    "TopK": {1},
    "Trilu": {1},
    "Unsqueeze": {1},
    "Upsample": {1},
}
# Operators of which no operand may vary: their kernels repack all they get when they are created.
_ALL_CONSTANT: Final = ("DynamicQuantizeLSTM", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "QMoE")
# Beginnings of names whose other members (than those above) are treated the same.
_ALL_CONSTANT_PREFIXES: Final = ("QLinear", "QAttention", "QEmbed", "GatherBlockQuantized")
_REDUCTIONS: Final = "Reduce"

# Operands that are weights in every version, by operator.
_WEIGHTS: Final[dict[str, set[int]]] = {
    "Add": {0, 1},
    "Conv": {1, 2},
    "ConvTranspose": {1, 2},
    "FusedConv": {1, 2},
    "FusedGemm": {1, 2},
    "FusedMatMul": {0, 1},
    "Gather": {0},
    "Gemm": {1, 2},
    "MatMul": {0, 1},
    "Mul": {0, 1},
}


def weights_of(graph: onnx.GraphProto, choice: Choice) -> list[onnx.TensorProto]:
    """Return the tensors of `graph` that may become inputs, in the graph's order."""
    uses: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node, index, name in _operands(graph):
        uses.setdefault(name, []).append((node, index))
    outputs = {entry.name for entry in graph.output}
    return [
        tensor
        for tensor in graph.initializer
        if _is_large_enough(tensor)
        and tensor.name not in outputs
        and tensor.name in uses
        and all(_may_vary(node, index, choice) for node, index in uses[tensor.name])
    ]


def _operands(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, int, str]]:
    """Yield node, index and name of every operand, those of subgraphs too."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            yield node, index, name
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _operands(subgraph)


def _is_large_enough(tensor: onnx.TensorProto) -> bool:
    dtype = BY_ONNX_TYPE.get(tensor.data_type)
    if dtype is None:
        return False
    least = INTEGER_BYTES_MIN if dtype.name in _INTEGERS else WEIGHT_BYTES_MIN
    return size_bytes_of(dtype.name, tensor.dims) >= least


def _may_vary(node: onnx.NodeProto, index: int, choice: Choice) -> bool:
    if choice is Choice.WELL_KNOWN:
        return node.domain in _DOMAINS and index in _WEIGHTS.get(node.op_type, ())
    if node.domain not in _DOMAINS or node.op_type in _ALL_CONSTANT:
        return False
    if node.op_type in _CONSTANT:
        return index not in _CONSTANT[node.op_type]
    if node.op_type.startswith(_REDUCTIONS):
        return index == 0
    return not node.op_type.startswith(_ALL_CONSTANT_PREFIXES)
