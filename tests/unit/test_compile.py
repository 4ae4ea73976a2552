"""Tests of clockwork.models.compile and the modules that it is made of."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import (
    SAVE_BY_NAME,
    random,
    save,
    save_convnet,
    save_linear,
    save_sequence,
    save_two_by_two,
    save_with_branches,
    save_with_constants,
    tensor,
)

from clockwork.errors import ModelError
from clockwork.messages.models import TensorSpec
from clockwork.models.compile import BATCH_SIZES, compile_model
from clockwork.models.format import ImageInfo, ModelFile, read_model_file
from clockwork.models.operands import Choice, weights_of
from clockwork.models.verify import compare


def compiled(path: Path, **how: object) -> ModelFile:
    """Compile `path` into the directory ``model`` beside it, without measuring."""
    return compile_model(path, path.parent / "model", **{"measure": False, **how})


def complaint_of(path: Path, **how: object) -> str:
    """Return why `path` cannot be compiled; nothing may be left of the attempt."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ModelError) as caught:
        compiled(path, **how)
    assert sorted(path.parent.iterdir()) == before
    return str(caught.value)


def inputs_of(path: Path) -> set[str]:
    """Return the input names of an ONNX file."""
    return {entry.name for entry in onnx.load(str(path)).graph.input}


def test_a_directory_says_what_it_holds(tmp_path: Path) -> None:
    """Inputs, outputs, batch sizes, weights and origin are in model.json."""
    image = ImageInfo(size=(2, 2), mean=(0.5,), std=(0.5,))
    model = compiled(save_two_by_two(tmp_path / "m.onnx"), note="random weights", image=image)
    assert model == read_model_file(tmp_path / "model")
    assert model.name == "model"
    assert model.inputs == (
        TensorSpec("x", "float32", (5,), 4),
        TensorSpec("ids", "int64", (3,), 8),
    )
    assert model.outputs == (
        TensorSpec("score", "float32", (100,), 4),
        TensorSpec("twice", "int64", (3,), 8),
    )
    assert model.batch_sizes == BATCH_SIZES
    assert model.code is not None
    assert {weight.name for weight in model.code.weights} == {"table", "w"}
    assert model.origin is not None
    assert (model.origin.source, model.origin.note) == ("m.onnx", "random weights")
    assert model.image == image


def test_weights_become_inputs_and_lie_in_their_file(tmp_path: Path) -> None:
    """The code has the large tensors as inputs; weights.bin has their bytes, aligned."""
    path = save_two_by_two(tmp_path / "m.onnx")
    model = compiled(path)
    assert model.code is not None
    assert inputs_of(tmp_path / "model" / "code.onnx") == {"x", "ids", "table", "w"}
    content = (tmp_path / "model" / "weights.bin").read_bytes()
    assert len(content) == model.weights_bytes
    original = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer
    }
    for weight in model.code.weights:
        assert weight.offset % 64 == 0
        found = content[weight.offset : weight.offset + weight.size_bytes]
        assert found == original[weight.name].tobytes()


def test_operands_that_must_be_constant_stay_inside(tmp_path: Path) -> None:
    """Shapes, axes, scales, zero points and what is dequantised are no inputs."""
    compiled(save_with_constants(tmp_path / "m.onnx"))
    assert inputs_of(tmp_path / "model" / "code.onnx") == {"x"}


def test_weights_used_in_branches_are_taken_out(tmp_path: Path) -> None:
    """Tensors of the outer graph may be inputs although only an If's branches use them."""
    compiled(save_with_branches(tmp_path / "m.onnx"))
    assert inputs_of(tmp_path / "model" / "code.onnx") == {"x", "w1", "w2"}


def test_batch_normalisation_is_merged_before_weights_leave(tmp_path: Path) -> None:
    """The optimiser saw the values: no BatchNormalization is left to compute."""
    compiled(save_convnet(tmp_path / "m.onnx"))
    nodes = onnx.load(str(tmp_path / "model" / "code.onnx")).graph.node
    assert "BatchNormalization" not in {node.op_type for node in nodes}


def test_tuned_code_is_made_where_the_processor_has_some(tmp_path: Path) -> None:
    """A convolutional network may get a second pair of files, a matrix product does not."""
    model = compiled(save_convnet(tmp_path / "m.onnx"))
    for code in model.tuned.values():
        assert (tmp_path / "model" / code.file).exists()
        assert code.runtime
    assert compiled(save_linear(tmp_path / "m.onnx")).tuned == {}


def test_a_fixed_batch_dimension_gives_that_size(tmp_path: Path) -> None:
    """A model for batches of 3 runs at 3 and nothing else."""
    assert compiled(save_linear(tmp_path / "m.onnx", batch=3)).batch_sizes == (3,)


def test_a_named_batch_dimension_can_be_fixed(tmp_path: Path) -> None:
    """Giving the batch dimension a size is like a file that fixes it."""
    assert compiled(save_linear(tmp_path / "m.onnx"), dims={"N": 2}).batch_sizes == (2,)


def test_other_batch_sizes_can_be_chosen(tmp_path: Path) -> None:
    """A free batch dimension runs at the sizes asked for, in order and once each."""
    path = save_linear(tmp_path / "m.onnx", batch=None)
    assert compiled(path, batch_sizes=(6, 1, 6)).batch_sizes == (1, 6)
    assert "at least 1" in complaint_of(path, batch_sizes=(0,))


def test_free_dimensions_are_named_with_their_flags(tmp_path: Path) -> None:
    """All free dimensions are reported at once, those without a name by input and axis."""
    path = save_sequence(tmp_path / "m.onnx")
    text = complaint_of(path)
    assert "--dim seq=SIZE --dim z:1=SIZE" in text
    assert "x [N, seq, 32], z [N, z:1, 64]" in text
    assert "--dim z:1=SIZE" in complaint_of(path, dims={"seq": 7})


def test_free_dimensions_can_be_fixed(tmp_path: Path) -> None:
    """With all sizes given, shapes are what they say."""
    model = compiled(save_sequence(tmp_path / "m.onnx"), dims={"seq": 7, "z:1": 4})
    assert [spec.shape for spec in (*model.inputs, *model.outputs)] == [(7, 32), (4, 64), (7, 64)]


def test_unknown_dimensions_are_refused(tmp_path: Path) -> None:
    """A misspelt name is answered with the names that there are."""
    path = save_sequence(tmp_path / "m.onnx")
    assert "no free dimension 'sq'; free are: N, seq, z:1" in complaint_of(path, dims={"sq": 7})
    assert "cannot have 0 elements" in complaint_of(path, dims={"seq": 0})


def test_external_data_is_read(tmp_path: Path) -> None:
    """Weights beside the file are found, with and without dimensions to fix."""
    path = save_linear(tmp_path / "plain.onnx")
    onnx.save(
        onnx.load(str(path)),
        str(tmp_path / "m.onnx"),
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    assert compiled(tmp_path / "m.onnx").weights_bytes == 32 * 64 * 4
    assert compiled(tmp_path / "m.onnx", dims={"N": 1}).weights_bytes == 32 * 64 * 4
    (tmp_path / "m.data").unlink()
    assert "m.data" in complaint_of(tmp_path / "m.onnx")


def test_weights_listed_as_inputs_are_still_weights(tmp_path: Path) -> None:
    """Old files list initialisers among the inputs; they are no inputs of a request."""
    path = save_linear(tmp_path / "m.onnx")
    old = onnx.load(str(path))
    old.graph.input.append(tensor("w", [32, 64]))
    onnx.save(old, str(path))
    model = compiled(path)
    assert [spec.name for spec in model.inputs] == ["x"]
    assert model.weights_bytes == 32 * 64 * 4


def test_a_model_without_weights_compiles(tmp_path: Path) -> None:
    """Code alone is a model, too."""
    path = save(
        tmp_path / "m.onnx",
        nodes=[helper.make_node("Relu", ["x"], ["y"])],
        inputs=[tensor("x", ["N", 4])],
        outputs=[tensor("y", ["N", 4])],
        weights={},
    )
    assert compiled(path).weights_bytes == 0


@pytest.mark.parametrize("content", [b"", b"garbage that is no protobuf", b"\x08\x07"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """Garbage is named as such."""
    (tmp_path / "m.onnx").write_bytes(content)
    assert "m.onnx is no ONNX file" in complaint_of(tmp_path / "m.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere says so, and so does a directory."""
    assert "m.onnx is missing" in complaint_of(tmp_path / "m.onnx")
    (tmp_path / "d").mkdir()
    assert "cannot read" in complaint_of(tmp_path / "d")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Half of a model is none."""
    path = save_linear(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:4000])
    assert "m.onnx" in complaint_of(path)


def save_relu(path: Path, *, kind: int, shape: list[int | str] | None = None) -> Path:
    """Write a model whose only input has this type and shape."""
    dims = ["N", 2] if shape is None else shape
    return save(
        path,
        nodes=[helper.make_node("Identity", ["x"], ["y"])],
        inputs=[tensor("x", dims, kind)],
        outputs=[tensor("y", dims, kind)],
        weights={},
    )


def test_inputs_that_cannot_be_served_are_named(tmp_path: Path) -> None:
    """Strings and inputs without a batch dimension are refused by name."""
    path = save_relu(tmp_path / "m.onnx", kind=TensorProto.STRING)
    assert "input 'x' of" in complaint_of(path)
    assert "is a tensor of string" in complaint_of(path)
    path = save_relu(tmp_path / "m.onnx", kind=TensorProto.FLOAT, shape=[])
    assert "input 'x'" in complaint_of(path)
    assert "has no batch dimension" in complaint_of(path)


def test_inputs_that_disagree_about_the_batch_are_refused(tmp_path: Path) -> None:
    """Different fixed first dimensions cannot both count requests."""
    path = save(
        tmp_path / "m.onnx",
        nodes=[helper.make_node("MatMul", ["a", "b"], ["y"])],
        inputs=[tensor("a", [2, 3]), tensor("b", [3, 4])],
        outputs=[tensor("y", [2, 4])],
        weights={},
    )
    assert "different batch sizes: a [2, 3], b [3, 4]" in complaint_of(path)


def test_outputs_without_a_batch_dimension_are_refused(tmp_path: Path) -> None:
    """An output for all requests together is nobody's answer."""
    path = save(
        tmp_path / "m.onnx",
        nodes=[helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        inputs=[tensor("x", ["N", 3])],
        outputs=[tensor("y", [])],
        weights={},
    )
    assert "output 'y' has shape [] at batch size 1" in complaint_of(path)


def test_a_batch_dimension_that_is_not_free_is_explained(tmp_path: Path) -> None:
    """A model that says it takes any batch and fails at 2 gets a hint."""
    path = save(
        tmp_path / "m.onnx",
        nodes=[helper.make_node("Reshape", ["x", "shape"], ["y"])],
        inputs=[tensor("x", ["N", 6])],
        outputs=[tensor("y", ["N", 2, 3])],
        weights={"shape": np.array([1, 2, 3], dtype=np.int64)},
    )
    assert "does not run at batch size 2" in complaint_of(path)
    assert compiled(path, dims={"N": 1}).batch_sizes == (1,)


def test_the_second_try_takes_out_less(tmp_path: Path) -> None:
    """If a bold choice of weights fails, only those of the commonest operators are taken out."""
    path = save(
        tmp_path / "m.onnx",
        nodes=[
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Sub", ["a", "b"], ["c"]),
            helper.make_node("Odd", ["c", "d"], ["y"], domain="some.where"),
        ],
        inputs=[tensor("x", ["N", 8])],
        outputs=[tensor("y", ["N", 512])],
        weights={"w": random(8, 512), "b": random(512), "d": random(512)},
    )
    graph = onnx.load(str(path)).graph
    bold, careful = (weights_of(graph, choice) for choice in Choice)
    assert [weight.name for weight in bold] == ["w", "b"]
    assert [weight.name for weight in careful] == ["w"]


def test_a_model_directory_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """Compiling again replaces the old directory; one with other things in it is kept."""
    compiled(save_convnet(tmp_path / "m.onnx"))
    model = compiled(save_linear(tmp_path / "m.onnx"))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.json", "code.onnx", "weights.bin"}
    assert read_model_file(tmp_path / "model") == model
    for path in (tmp_path / "model").iterdir():
        path.rename(tmp_path / "model" / f"old-{path.name}")
    assert "is no model directory" in complaint_of(tmp_path / "m.onnx")


def test_a_failed_compile_leaves_the_old_directory(tmp_path: Path) -> None:
    """An older model stays when its replacement cannot be compiled."""
    model = compiled(save_linear(tmp_path / "m.onnx"))
    (tmp_path / "m.onnx").write_bytes(b"")
    complaint_of(tmp_path / "m.onnx")
    assert read_model_file(tmp_path / "model") == model


@pytest.mark.parametrize("name", SAVE_BY_NAME)
def test_every_model_is_measured(name: str, tmp_path: Path) -> None:
    """Measuring stores execution times of all batch sizes and a load time for one core."""
    lines: list[str] = []
    path = SAVE_BY_NAME[name](tmp_path / "m.onnx")
    model = compiled(path, measure=True, batch_sizes=(1, 2), progress=lines.append)
    measured = model.measurements["cpu-1core"]
    assert sorted(measured.exec_ns) == [1, 2]
    assert min(measured.load_ns, *measured.exec_ns.values()) > 0
    assert any(line.startswith("batch size 2:") for line in lines)
    assert read_model_file(tmp_path / "model") == model


def test_differences_are_relative_to_the_largest_value() -> None:
    """One part in 10,000 of an output's range is rounding; more, or another NaN, is not."""
    reference = {"y": random(1000)}
    scale = float(np.abs(reference["y"]).max())
    close, far, strange = (reference["y"].copy() for _ in range(3))
    close[3] += 0.9e-4 * scale
    far[3] += 1.2e-4 * scale
    strange[3] = np.nan
    assert compare(reference, {"y": close}) is None
    assert compare(reference, {"y": far}) is not None
    assert compare(reference, {"y": strange}) is not None
    assert compare({"y": strange}, {"y": strange.copy()}) is None
    assert compare(reference, {"y": close[:-1]}) is not None
