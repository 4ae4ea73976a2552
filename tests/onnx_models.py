"""Small ONNX models for tests, and a bench that runs compiled ones on a real engine."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from clockwork.engines.engine import Inference
from clockwork.engines.onnx import OnnxConfig, OnnxEngine
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.models import ModelProfile, TensorSpec
from clockwork.messages.worker_io import InferTask, LoadModelTask, LoadWeightsTask
from clockwork.models.format import ModelFile, read_model_file
from clockwork.models.verify import made_up_inputs, numpy_dtype
from clockwork.units import FOREVER_NS, KIB, MIB

Array = NDArray[Any]
PAGE = 64 * KIB

_RNG = np.random.default_rng(0)


def random(*shape: int) -> Array:
    """Return float32 weights."""
    return _RNG.standard_normal(shape).astype(np.float32)


def tensor(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> Any:
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    *,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array],
    **how: Any,
) -> Path:
    """Write an ONNX file and return its path."""
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), initializers)
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path), **how)
    return path


def save_linear(path: Path, *, batch: int | str | None = "N", width: int = 32) -> Path:
    """Write a model that is one matrix product: x [batch, width] to y [batch, 64]."""
    return save(
        path,
        nodes=[helper.make_node("MatMul", ["x", "w"], ["y"])],
        inputs=[tensor("x", [batch, width])],
        outputs=[tensor("y", [batch, 64])],
        weights={"w": random(width, 64)},
    )


def save_two_by_two(path: Path) -> Path:
    """Write a model with two inputs and two outputs of different types and sizes."""
    return save(
        path,
        nodes=[
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "axis"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "sum"], ["score"]),
            helper.make_node("Add", ["ids", "ids"], ["twice"]),
        ],
        inputs=[tensor("x", ["N", 5]), tensor("ids", ["N", 3], TensorProto.INT64)],
        outputs=[tensor("score", ["N", 100]), tensor("twice", ["N", 3], TensorProto.INT64)],
        weights={
            "table": random(40, 100),
            "w": random(5, 100),
            "axis": np.array([1], dtype=np.int64),
        },
    )


def save_convnet(path: Path) -> Path:
    """Write a network whose convolutions have kernels of their own on this processor."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "bias", "mean", "var"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["classes"]),
    ]
    return save(
        path,
        nodes=nodes,
        inputs=[tensor("image", ["N", 3, 12, 12])],
        outputs=[tensor("classes", ["N", 10])],
        weights={
            "w1": random(32, 3, 3, 3),
            "scale": random(32),
            "bias": random(32),
            "mean": random(32),
            "var": np.abs(random(32)) + 0.5,
            "w2": random(64, 32, 3, 3),
            "w3": random(64, 10),
        },
    )


def save_with_constants(path: Path) -> Path:
    """Write a model full of operators that need constants, some of them larger than 1 KiB."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"]),
        helper.make_node("Pad", ["a", "pads"], ["b"]),
        helper.make_node("Slice", ["b", "starts", "ends", "axes"], ["c"]),
        helper.make_node("Resize", ["c", "", "scales"], ["d"], mode="nearest"),
        helper.make_node("Clip", ["d", "low", "high"], ["e"]),
        helper.make_node("Reshape", ["e", "flat"], ["f"]),
        helper.make_node("DequantizeLinear", ["q", "q_scale", "q_zero"], ["w"], axis=1),
        helper.make_node("MatMul", ["f", "w"], ["g"]),
        helper.make_node("TopK", ["g", "k"], ["best", "where"]),
    ]
    ints = {
        "shape": [0, 2, 4, 4],
        "pads": [0, 0, 1, 1, 0, 0, 1, 1],
        "starts": [1],
        "ends": [5],
        "axes": [2],
        "flat": [0, -1],
        "k": [7],
    }
    return save(
        path,
        nodes=nodes,
        inputs=[tensor("x", ["N", 32])],
        outputs=[tensor("best", ["N", 7]), tensor("where", ["N", 7], TensorProto.INT64)],
        weights={
            **{name: np.array(values, dtype=np.int64) for name, values in ints.items()},
            "scales": np.array([1, 1, 2, 2], dtype=np.float32),
            "low": np.array(-2, dtype=np.float32),
            "high": np.array(2, dtype=np.float32),
            "q": _RNG.integers(-99, 99, (192, 512)).astype(np.int8),
            "q_scale": np.abs(random(512)) + 0.1,
            "q_zero": _RNG.integers(-3, 3, 512).astype(np.int8),
        },
    )


def save_with_branches(path: Path) -> Path:
    """Write a model with an If whose branches use weights of the graph around them."""

    def branch(name: str, weight: str) -> onnx.GraphProto:
        own = numpy_helper.from_array(random(1, 64), f"{name}_own")
        nodes = [
            helper.make_node("MatMul", ["x", weight], [f"{name}_product"]),
            helper.make_node("Add", [f"{name}_product", f"{name}_own"], [f"{name}_out"]),
        ]
        outputs = [tensor(f"{name}_out", ["N", 64])]
        return helper.make_graph(nodes, name, [], outputs, [own])

    return save(
        path,
        nodes=[
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
            helper.make_node("Greater", ["total", "zero"], ["is_positive"]),
            helper.make_node(
                "If",
                ["is_positive"],
                ["y"],
                then_branch=branch("then", "w1"),
                else_branch=branch("else", "w2"),
            ),
        ],
        inputs=[tensor("x", ["N", 32])],
        outputs=[tensor("y", ["N", 64])],
        weights={"w1": random(32, 64), "w2": random(32, 64), "zero": np.array(0, np.float32)},
    )


def save_of_type(path: Path, kind: int) -> Path:
    """Write a model with an input, an output and weights of one element type."""
    dtype = numpy_dtype(helper.tensor_dtype_to_np_dtype(kind).name)
    table = _RNG.integers(0, 2, (64, 40)).astype(dtype)
    return save(
        path,
        nodes=[
            helper.make_node("Identity", ["x"], ["echo"]),
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
        ],
        inputs=[tensor("x", ["N", 3], kind), tensor("ids", ["N", 2], TensorProto.INT32)],
        outputs=[tensor("echo", ["N", 3], kind), tensor("rows", ["N", 2, 40], kind)],
        weights={"table": table},
    )


def save_sequence(path: Path) -> Path:
    """Write a model whose inputs have free dimensions besides the batch, one without a name."""
    return save(
        path,
        nodes=[
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("ReduceSum", ["z", "axis"], ["m"], keepdims=1),
            helper.make_node("Add", ["xw", "m"], ["y"]),
        ],
        inputs=[tensor("x", ["N", "seq", 32]), tensor("z", ["N", None, 64])],
        outputs=[tensor("y", ["N", "seq", 64])],
        weights={"w": random(32, 64), "axis": np.array([1], dtype=np.int64)},
    )


SAVE_BY_NAME: dict[str, Callable[[Path], Path]] = {
    "linear": save_linear,
    "two_by_two": save_two_by_two,
    "convnet": save_convnet,
    "constants": save_with_constants,
    "branches": save_with_branches,
}
"""Models that every test of compiling and serving should hold for."""


class Bench:
    """An engine with small pages, and plain ONNX Runtime on the original beside it."""

    def __init__(self, *, page_count: int = 24, **config: Any) -> None:
        settings = {
            "cache_bytes": page_count * PAGE,
            "page_bytes": PAGE,
            "io_pool_bytes": 4 * MIB,
            "workspace_bytes": 64 * MIB,
        }
        self.engine = OnnxEngine(OnnxConfig(**{**settings, **config}), now_ns=_Clock())
        self.gpu_count = len(self.engine.gpus())
        self.models: dict[CodeId, ModelFile] = {}

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        for code_id in list(self.models):
            self.engine.release(code_id)
        for gpu_id in range(self.gpu_count):
            self.engine.close(GpuId(gpu_id))

    def load_model(self, directory: Path, *, code_id: int = 0, batch_max: int = 16) -> ModelProfile:
        """Load a model directory under a code id."""
        task = LoadModelTask(TaskId(0), CodeId(code_id), str(directory), batch_max, FOREVER_NS)
        profile = self.engine.load_model(task)
        self.models[CodeId(code_id)] = read_model_file(directory)
        return profile

    def load_weights(self, pages: Sequence[int], *, code_id: int = 0, gpu_id: int = 0) -> None:
        """Load weights into pages."""
        task = LoadWeightsTask(TaskId(0), GpuId(gpu_id), CodeId(code_id), tuple(pages))
        self.engine.load_weights(task)

    def infer(
        self,
        pages: Sequence[int],
        payload: bytes,
        *,
        batch_size: int = 1,
        padded_size: int | None = None,
        input_sizes: tuple[int, ...] = (),
        code_id: int = 0,
        gpu_id: int = 0,
    ) -> Inference:
        """Run one batch."""
        return self.engine.infer(
            InferTask(
                task_id=TaskId(0),
                gpu_id=GpuId(gpu_id),
                code_id=CodeId(code_id),
                pages=tuple(pages),
                batch_size=batch_size,
                padded_size=padded_size or batch_size,
                payload=payload,
                input_sizes=input_sizes,
            )
        )

    def answer(
        self, pages: Sequence[int], inputs: Mapping[str, Array], **how: Any
    ) -> dict[str, Array]:
        """Return the outputs for a batch of inputs, by name."""
        model = self.models[CodeId(how.get("code_id", 0))]
        batch_size = len(next(iter(inputs.values())))
        inference = self.infer(
            pages, payload_of(model.inputs, inputs), batch_size=batch_size, **how
        )
        return outputs_of(model.outputs, b"".join(inference.outputs), batch_size)


def payload_of(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> bytes:
    """Return the bytes of requests as clients send them: request by request."""
    count = len(inputs[specs[0].name])
    return b"".join(inputs[spec.name][i].tobytes() for i in range(count) for spec in specs)


def outputs_of(specs: Sequence[TensorSpec], payload: bytes, count: int) -> dict[str, Array]:
    """Return tensors by name from the bytes of responses."""
    rows = np.frombuffer(payload, dtype=np.uint8).reshape(count, -1)
    outputs, start = {}, 0
    for spec in specs:
        size = prod(spec.shape) * spec.item_bytes
        column = np.ascontiguousarray(rows[:, start : start + size])
        outputs[spec.name] = column.view(numpy_dtype(spec.dtype)).reshape(count, *spec.shape)
        start += size
    assert start == rows.shape[1]
    return outputs


def plain_answer(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return what ONNX Runtime answers for the original file."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def sample(model: ModelFile, batch_size: int) -> dict[str, Array]:
    """Return inputs for a batch."""
    return made_up_inputs(model.inputs, batch_size)


class _Clock:
    """A clock that advances by one at each look."""

    def __init__(self) -> None:
        self._now_ns = 0

    def __call__(self) -> int:
        self._now_ns += 1
        return self._now_ns
