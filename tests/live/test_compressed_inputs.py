"""Compressed inputs: LZ4 blocks on the engine, at the edges, and without the library."""

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_models import Bench, payload_of, sample, save_linear, save_two_by_two

from clockwork.engines.compression import compress, decompress, require_lz4
from clockwork.engines.engine import EngineError
from clockwork.errors import ConfigurationError
from clockwork.models.compile import compile_model
from clockwork.models.format import ModelFile


def block_of(raw: bytes) -> bytes:
    """Return an LZ4 block, shorter or not."""
    import lz4.block

    return bytes(lz4.block.compress(raw, store_size=False))


@pytest.fixture
def two_by_two(tmp_path: Path) -> tuple[Path, ModelFile]:
    """A compiled model with two inputs and two outputs."""
    model = compile_model(
        save_two_by_two(tmp_path / "m.onnx"), tmp_path / "two_by_two", measure=False
    )
    return tmp_path / "two_by_two", model


def test_blocks_run_like_raw_inputs(two_by_two: tuple[Path, ModelFile]) -> None:
    """A batch of a block, a raw input, a missing one and a block answers as four raw ones do."""
    directory, model = two_by_two
    with Bench() as bench:
        bench.load_model(directory)
        bench.load_weights([0])
        inputs = sample(model, 2)
        first, second = (
            payload_of(model.inputs, {name: array[[index]] for name, array in inputs.items()})
            for index in (0, 1)
        )
        missing = bytes(len(first))
        plain = bench.infer([0], first + second + missing + second, batch_size=4)
        pieces = [block_of(first), second, b"", block_of(second)]
        sizes = tuple(map(len, pieces))
        packed = bench.infer([0], b"".join(pieces), batch_size=4, input_sizes=sizes)
        assert [bytes(each) for each in packed.outputs] == [bytes(each) for each in plain.outputs]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (b"\xff" * 40, "it is no LZ4 block of 128 bytes"),
        (block_of(bytes(200)), "it is no LZ4 block of 128 bytes"),
        (block_of(bytes(100)), "it is an LZ4 block of 100 bytes instead of 128"),
    ],
    ids=["noise", "too much", "too little"],
)
def test_a_bad_block_is_status_78(tmp_path: Path, block: bytes, words: str) -> None:
    """The message says which input of the batch it is, and the next batch runs."""
    compile_model(save_linear(tmp_path / "linear.onnx"), tmp_path / "linear", measure=False)
    with Bench() as bench:
        bench.load_model(tmp_path / "linear")
        bench.load_weights([0])
        sizes = (128, len(block))
        with pytest.raises(EngineError) as caught:
            bench.infer([0], bytes(128) + block, batch_size=2, input_sizes=sizes)
        assert caught.value.status == 78
        assert f"input 1 of the batch has {len(block)} bytes, the model 128" in str(caught.value)
        assert words in str(caught.value)
        assert len(bench.infer([0], bytes(128)).outputs) == 1


def test_what_cannot_be_shortened_stays_as_it_is() -> None:
    """Noise has no block; pieces are joined before they are packed."""
    assert compress([np.random.default_rng(0).bytes(1000)]) is None
    block = compress([bytes(500), memoryview(b"x" * 500)])
    assert block is not None
    assert decompress(block, 1000) == bytes(500) + b"x" * 500


def test_without_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client is told before it sends, a worker's clients when it cannot read."""
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    with pytest.raises(ConfigurationError, match=r"clockwork-serving\[lz4\]"):
        require_lz4()
    compile_model(save_linear(tmp_path / "linear.onnx"), tmp_path / "linear", measure=False)
    with Bench() as bench:
        bench.load_model(tmp_path / "linear")
        bench.load_weights([0])
        with pytest.raises(EngineError, match=r"clockwork-serving\[lz4\]") as caught:
            bench.infer([0], bytes(20), input_sizes=(20,))
        assert caught.value.status == 78
