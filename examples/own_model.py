"""From an ONNX file of one's own to its first answer: compile, upload, load, infer, compare.

Run: ``python examples/own_model.py [HOST:PORT [FOLDER]]`` beside a worker that takes uploads
(``clockwork worker --upload-dir uploads``) and its controller; needs the extra ``compile``. The
file is made here, a layer of a neural network; yours comes out of ``torch.onnx.export`` or so.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import clockwork
from clockwork.models.compile import compile_model

INPUTS, OUTPUTS = 256, 10
WEIGHTS = np.random.default_rng(0).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)


def make_onnx(path: Path) -> None:
    """Write ``scores = relu(x @ weights)`` as an ONNX file; its first dimension is the batch."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"]),
            helper.make_node("Relu", ["product"], ["scores"]),
        ],
        "mine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", OUTPUTS])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))


def main() -> None:
    """Bring the model to the workers and ask it once."""
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:12346"
    with TemporaryDirectory() as temporary, clockwork.connect(address) as client:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else temporary)
        make_onnx(folder / "mine.onnx")
        # The same as `clockwork compile mine.onnx -o mine`; checked against the file, measured.
        compile_model(folder / "mine.onnx", folder / "mine", progress=print)
        client.upload(folder / "mine")
        model = client.load_model("mine")
        x = np.random.default_rng(1).normal(size=INPUTS).astype(np.float32)
        answer = model.infer(x, slo_ms=500)
        error = np.abs(answer["scores"] - np.maximum(x @ WEIGHTS, 0)).max()
        print(f"answered after {answer.latency_ms:.1f} ms, off by {error:.1e} from numpy")
        model.unload()


if __name__ == "__main__":
    main()
