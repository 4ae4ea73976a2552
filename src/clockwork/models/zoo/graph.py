"""A graph under construction: layers with seeded random weights, written out as ONNX.

Why: the zoo's architectures read as their papers do, a line per layer, and their parameters can be
counted without any library. Only `Graph.save` needs the ``onnx`` package.

Weights are random, scaled after He et al. (https://arxiv.org/abs/1502.01852) so that activations
stay finite however deep the network. The same seed and name give the same weights. The batch
dimension is free and called ``batch``.
"""

import zlib
from collections.abc import Sequence
from math import pi, prod, sqrt
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from clockwork.errors import ConfigurationError
from clockwork.models.dtypes import DTYPES

Array = NDArray[np.float32] | NDArray[np.int64]
Attribute = int | float | str | Sequence[int]

OPSET: Final = 17
"""The ONNX operator set: the oldest one with LayerNormalization."""
IR_VERSION: Final = 8
"""The ONNX file format version that belongs to opset 17."""
GAIN: Final = 2 / (1 - 1 / pi)
"""Variance of a filter's weights times its inputs; keeps the variance of normally distributed
values that went through a ReLU and lose their mean. He et al. have 2, with the mean kept."""
RESIDUAL_SCALE: Final = 0.5
"""Scale of the last batch normalization of a residual branch; chosen so that the variance of the
sum grows by a quarter per block, instead of doubling."""


class Value(NamedTuple):
    """A tensor that flows through an image network: `[batch, channels, height, width]`."""

    name: str
    channels: int


class _Node(Struct, frozen=True):
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Attribute]


class _Port(Struct, frozen=True):
    name: str
    dtype: str
    # Dimensions in order, the free ones by name.
    shape: tuple[int | str, ...]


class Graph:
    """An ONNX graph to which layers are appended; each method returns the layer's output.

    Attributes:
        parameter_count: learned numbers so far, without statistics of batch normalization.
        statistic_count: running means and variances of batch normalization so far.
    """

    def __init__(self, name: str, *, seed: int) -> None:
        self.name = name
        self.parameter_count = 0
        self.statistic_count = 0
        self._rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        self._nodes: list[_Node] = []
        self._inputs: list[_Port] = []
        self._outputs: list[_Port] = []
        self._arrays: dict[str, Array] = {}

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Add an input; `shape` excludes the batch dimension and may name free dimensions."""
        self._inputs.append(_Port(name, dtype, ("batch", *shape)))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Make the float32 tensor `value` an output called `name`, `shape` as for inputs."""
        self._nodes.append(_Node("Identity", (value,), name, {}))
        self._outputs.append(_Port(name, "float32", ("batch", *shape)))

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Append the operator `op` with one output."""
        output = f"{op}_{len(self._nodes)}"
        self._nodes.append(_Node(op, inputs, output, attributes))
        return output

    def weight(self, *shape: int, deviation: float, mean: float = 0.0, center: bool = False) -> str:
        """Add a learned tensor of normally distributed random numbers.

        `center` makes the sum zero for each index of the first dimension.
        """
        array = self._rng.standard_normal(shape, dtype=np.float32)
        if center:
            array -= array.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        array *= np.float32(deviation)
        array += np.float32(mean)
        self.parameter_count += prod(shape)
        return self._keep("weight", array)

    def constant(self, values: float | Sequence[int]) -> str:
        """Add a small constant: a float32 for a float; int64 for an int, or axes or a shape."""
        if isinstance(values, float):
            return self._keep("constant", np.array(values, dtype=np.float32))
        return self._keep("constant", np.array(values, dtype=np.int64))

    def convolution(
        self,
        x: Value,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> Value:
        """Append a square 2-D convolution with `channels` outputs."""
        fan_in = x.channels // groups * kernel * kernel
        shape = (channels, x.channels // groups, kernel, kernel)
        # Centred filters take away the positive mean that every ReLU adds. Without that, the mean
        # outweighs the image after some layers, and all images get the same class.
        inputs = [x.name, self.weight(*shape, deviation=sqrt(GAIN / fan_in), center=True)]
        if bias:
            inputs.append(self.weight(channels, deviation=0.01))
        out = self.node(
            "Conv",
            *inputs,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=groups,
        )
        return Value(out, channels)

    def batch_norm(self, x: Value, *, scale: float = 1.0, epsilon: float = 1e-5) -> Value:
        """Append a batch normalization with scales around `scale` and near-neutral statistics."""
        channels = x.channels
        self.statistic_count += 2 * channels
        mean = self._rng.standard_normal(channels, dtype=np.float32) * np.float32(0.1)
        variance = self._rng.uniform(0.8, 1.25, channels).astype(np.float32)
        inputs = (
            x.name,
            self.weight(channels, mean=scale, deviation=0.1 * scale),
            self.weight(channels, deviation=0.1),
            self._keep("mean", mean),
            self._keep("variance", variance),
        )
        return Value(self.node("BatchNormalization", *inputs, epsilon=epsilon), channels)

    def relu(self, x: Value) -> Value:
        """Append max(x, 0)."""
        return Value(self.node("Relu", x.name), x.channels)

    def relu6(self, x: Value) -> Value:
        """Append min(max(x, 0), 6)."""
        bounds = (self.constant(0.0), self.constant(6.0))
        return Value(self.node("Clip", x.name, *bounds), x.channels)

    def max_pool(
        self, x: Value, kernel: int, *, stride: int, pad: int = 0, ceil: bool = False
    ) -> Value:
        """Append a maximum over square windows; `ceil` keeps windows that overhang the edge."""
        attributes: dict[str, Attribute] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        attributes |= {"pads": [pad] * 4, "ceil_mode": int(ceil)}
        return Value(self.node("MaxPool", x.name, **attributes), x.channels)

    def average_pool(self, x: Value, kernel: int, *, stride: int) -> Value:
        """Append a mean over square windows."""
        out = self.node("AveragePool", x.name, kernel_shape=[kernel] * 2, strides=[stride] * 2)
        return Value(out, x.channels)

    def add(self, x: Value, y: Value) -> Value:
        """Append the sum of two tensors with as many channels."""
        assert x.channels == y.channels, f"cannot add {x.channels} and {y.channels} channels"
        return Value(self.node("Add", x.name, y.name), x.channels)

    def concat(self, *values: Value) -> Value:
        """Append the concatenation along the channels."""
        out = self.node("Concat", *(value.name for value in values), axis=1)
        return Value(out, sum(value.channels for value in values))

    def pool_all(self, x: Value) -> str:
        """Append the mean over height and width; returns `[batch, channels]`."""
        return self.node("Flatten", self.node("GlobalAveragePool", x.name), axis=1)

    def classifier(self, x: Value, classes: int) -> None:
        """Append global pooling and a dense layer, and make it the output ``logits``."""
        weight = self.weight(classes, x.channels, deviation=sqrt(1 / x.channels), center=True)
        bias = self.weight(classes, deviation=0.01)
        logits = self.node("Gemm", self.pool_all(x), weight, bias, transB=1)
        self.output(logits, "logits", [classes])

    def save(self, path: Path, *, description: str) -> None:
        """Write the graph to `path` as one ONNX file with `description` as its doc string.

        Raises:
            ConfigurationError: the ``onnx`` package is not installed.
        """
        try:
            import onnx
            from onnx import helper
        except ImportError as error:
            raise ConfigurationError(
                "building a zoo model needs the onnx package: "
                "pip install 'clockwork-serving[compile]'"
            ) from error
        inputs, outputs = (
            [
                helper.make_tensor_value_info(p.name, DTYPES[p.dtype].onnx_type, p.shape)
                for p in ports
            ]
            for ports in (self._inputs, self._outputs)
        )
        model = helper.make_model(
            helper.make_graph([], self.name, inputs, outputs),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="clockwork",
            doc_string=description,
        )
        for node in self._nodes:
            added = model.graph.node.add(op_type=node.op, input=node.inputs, output=[node.output])
            for name, value in node.attributes.items():
                added.attribute.append(helper.make_attribute(name, value))
        # Filled in place: helper functions would hold BERT's 438 MB three times.
        for name, array in self._arrays.items():
            tensor = model.graph.initializer.add(name=name, dims=array.shape)
            tensor.data_type = DTYPES[str(array.dtype)].onnx_type
            tensor.raw_data = array.tobytes()
        onnx.save(model, path)

    def _keep(self, kind: str, array: Array) -> str:
        name = f"{kind}_{len(self._arrays)}"
        self._arrays[name] = array
        return name
