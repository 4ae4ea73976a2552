"""Every model of the zoo through client, controller and worker, against ONNX Runtime itself.

The weights cache holds less than half of all models, so that they push one another out all along.
"""

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from live.system import System
from live.zoo import Array, Zoo, made_up_requests
from msgspec import Struct

import clockwork
from clockwork.live.tensors import Inference
from clockwork.models.format import read_model_file
from clockwork.models.zoo.build import BATCH_SIZES, names

pytestmark = pytest.mark.timeout(600)

TOLERANCE = 1e-4
"""Of the largest value of an output."""
SLO_MS = 60_000
ROUNDS_MAX = 50
"""How often requests are sent together until all of them run together."""


class Case(Struct, frozen=True):
    """A model, the inputs of sixteen requests, and what ONNX Runtime makes of the first ones."""

    model: clockwork.Model
    inputs: Mapping[str, Array]
    # Outputs by batch size and name.
    expected: Mapping[int, Mapping[str, Array]]

    def ask(self, size: int) -> list[Inference]:
        """Return the answers to the first `size` requests, sent at once, after checking them."""
        futures: list[Future[Inference]] = [
            self.model.infer_async(
                {name: array[row] for name, array in self.inputs.items()}, slo_ms=SLO_MS
            )
            for row in range(size)
        ]
        answers = [future.result() for future in futures]
        for row, answer in enumerate(answers):
            for name, batch in self.expected[size].items():
                assert_close(answer[name], batch[row], f"{self.model.name} {name} {size}[{row}]")
        return answers

    def ask_as_one_batch(self, size: int) -> None:
        """Have `size` requests run together; they wait for the weights together."""
        for _ in range(ROUNDS_MAX):
            self.model.evict()
            if {answer.batch_size for answer in self.ask(size)} == {size}:
                return
        pytest.fail(f"{size} requests never ran together in {ROUNDS_MAX} rounds")


def assert_close(found: Array, expected: Array, what: str) -> None:
    """Compare an output with that of ONNX Runtime."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), what
    difference = float(np.abs(found - expected).max())
    scale = float(np.abs(expected).max())
    assert difference <= TOLERANCE * scale, f"{what}: off by {difference:.2g} of {scale:.2g}"


def reference(onnx: Path, inputs: Mapping[str, Array]) -> dict[int, dict[str, Array]]:
    """Return what ONNX Runtime makes of the original file, for each batch size."""
    session = ort.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    outputs = [node.name for node in session.get_outputs()]
    return {
        size: dict(
            zip(
                outputs,
                session.run(None, {name: array[:size] for name, array in inputs.items()}),
                strict=True,
            )
        )
        for size in BATCH_SIZES
    }


@pytest.fixture(scope="module")
def cases(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    """All models served by one worker with one core."""
    folder = tmp_path_factory.mktemp("served")
    made: dict[str, Case] = {}
    with System(folder / "logs") as system:
        system.worker("--weights-cache-size=512MiB", "--model-dirs", str(zoo.folder))
        system.controller("--max-exec=60s")
        client = system.connect()
        for name in names():
            onnx = folder / f"{name}.onnx"
            directory = zoo.directory(name, keep_onnx=onnx)
            inputs = made_up_requests(read_model_file(directory).inputs, max(BATCH_SIZES))
            expected = reference(onnx, inputs)
            onnx.unlink()
            made[name] = Case(client.load_model(str(directory)), inputs, expected)
        yield made
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", names())
def test_every_batch_size_answers_like_onnx_runtime(cases: dict[str, Case], name: str) -> None:
    """Batches of all sizes give each request what the original file gives it."""
    for size in BATCH_SIZES:
        cases[name].ask_as_one_batch(size)


@pytest.mark.parametrize("name", names())
def test_answers_are_the_same_elsewhere_in_the_cache(cases: dict[str, Case], name: str) -> None:
    """A model that comes back finds its first page taken by another one, and runs in others.

    Pages that were given back last are taken first: the other model gets the first page of this
    one, wherever that was.
    """
    case = cases[name]
    other = cases["digits" if name != "digits" else "squeezenet"]
    case.ask(1)
    other.model.evict()
    case.model.evict()
    assert other.ask(1)[0].is_cold_start
    assert case.ask(1)[0].is_cold_start
    for size in BATCH_SIZES:
        case.ask(size)
