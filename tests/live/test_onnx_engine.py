"""Tests of clockwork.engines.onnx: compiled models answer like plain ONNX Runtime."""

import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import (
    PAGE,
    SAVE_BY_NAME,
    Array,
    Bench,
    payload_of,
    plain_answer,
    sample,
    save_convnet,
    save_linear,
    save_of_type,
    save_two_by_two,
)

from clockwork.engines.engine import EngineError
from clockwork.errors import ConfigurationError
from clockwork.messages.status import ActionStatus
from clockwork.models.compile import compile_model
from clockwork.models.format import read_model_file, write_model_file


def assert_same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Compare outputs by name with the promised relative tolerance."""
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        scale = max(1e-9, float(np.abs(reference.astype(np.float64)).max()))
        np.testing.assert_allclose(
            found[name].astype(np.float64) / scale,
            reference.astype(np.float64) / scale,
            atol=1e-4,
            rtol=0,
        )


def refusal_of(call: object, *args: object, **how: object) -> tuple[ActionStatus, str]:
    """Return status and message of the EngineError that a call raises."""
    assert callable(call)
    with pytest.raises(EngineError) as caught:
        call(*args, **how)
    return caught.value.status, str(caught.value)


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A compiled matrix product; its original is beside it."""
    compile_model(save_linear(tmp_path / "linear.onnx"), tmp_path / "linear", measure=False)
    return tmp_path / "linear"


@pytest.mark.parametrize("name", SAVE_BY_NAME)
def test_answers_equal_plain_onnx_runtime(name: str, tmp_path: Path) -> None:
    """Every batch size gives the original's answers, also from other pages after an eviction."""
    original = SAVE_BY_NAME[name](tmp_path / "original.onnx")
    model = compile_model(original, tmp_path / "model", measure=False)
    with Bench() as bench:
        count = bench.load_model(tmp_path / "model").weights_pages
        for pages in (range(count), range(23, 23 - 2 * count, -2)):
            bench.load_weights(pages)
            for batch_size in model.batch_sizes:
                inputs = sample(model, batch_size)
                assert_same(bench.answer(pages, inputs), plain_answer(original, inputs))


@pytest.mark.parametrize("name", SAVE_BY_NAME)
def test_the_portable_code_answers_the_same(name: str, tmp_path: Path) -> None:
    """A directory that was compiled on another kind of processor works here."""
    original = SAVE_BY_NAME[name](tmp_path / "original.onnx")
    model = compile_model(original, tmp_path / "model", measure=False)
    fields = {key: getattr(model, key) for key in model.__struct_fields__}
    write_model_file(tmp_path / "model", type(model)(**{**fields, "tuned": {}}))
    with Bench() as bench:
        pages = range(bench.load_model(tmp_path / "model").weights_pages)
        bench.load_weights(pages)
        inputs = sample(model, 4)
        assert_same(bench.answer(pages, inputs), plain_answer(original, inputs))


TYPES = [
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.BOOL,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.UINT32,
    TensorProto.INT64,
    TensorProto.UINT64,
    TensorProto.BFLOAT16,
]


@pytest.mark.parametrize("kind", TYPES, ids=TensorProto.DataType.Name)
def test_every_element_type_passes_unchanged(kind: int, tmp_path: Path) -> None:
    """Inputs, outputs and weights may have any type of a fixed size."""
    original = save_of_type(tmp_path / "original.onnx", kind)
    model = compile_model(original, tmp_path / "model", measure=False)
    with Bench() as bench:
        pages = range(bench.load_model(tmp_path / "model").weights_pages)
        bench.load_weights(pages)
        inputs = sample(model, 2)
        outputs = bench.answer(pages, inputs)
    assert outputs["echo"].dtype == inputs["x"].dtype
    assert outputs["echo"].tobytes() == inputs["x"].tobytes()


def test_a_large_tensor_lies_in_scattered_pages(tmp_path: Path) -> None:
    """A tensor of many pages works in pages without any two neighbours, beside another model."""
    wide = save_linear(tmp_path / "wide.onnx", width=1500)
    model = compile_model(wide, tmp_path / "wide", measure=False)
    compile_model(save_linear(tmp_path / "a.onnx"), tmp_path / "a", measure=False)
    with Bench() as bench:
        count = bench.load_model(tmp_path / "wide").weights_pages
        assert count == 6
        bench.load_model(tmp_path / "a", code_id=1)
        bench.load_weights([7], code_id=1)
        small = sample(bench.models[1], 2)
        for pages in ([0, 2, 4, 6, 8, 10], [11, 3, 9, 5, 1, 0], [23, 0, 12, 1, 22, 2]):
            bench.load_weights(pages)
            inputs = sample(model, 3)
            answer = bench.answer(pages, inputs, padded_size=4)
            assert_same(answer, plain_answer(wide, inputs))
            answer = bench.answer([7], small, code_id=1)
            assert_same(answer, plain_answer(tmp_path / "a.onnx", small))


def test_outputs_of_requests_follow_one_another(tmp_path: Path) -> None:
    """A padded batch of a model with two outputs gives one buffer per request and output."""
    original = save_two_by_two(tmp_path / "original.onnx")
    model = compile_model(original, tmp_path / "model", measure=False)
    with Bench() as bench:
        bench.load_model(tmp_path / "model")
        bench.load_weights([3])
        inputs = sample(model, 3)
        inference = bench.infer([3], payload_of(model.inputs, inputs), batch_size=3, padded_size=4)
    expected = plain_answer(original, inputs)
    assert len(inference.outputs) == 6
    assert bytes(inference.outputs[5]) == expected["twice"][2].tobytes()
    assert [len(buffer) for buffer in inference.outputs] == [400, 24] * 3


def test_outputs_are_never_written_again(linear: Path) -> None:
    """What one inference handed out stays as it is when the next one runs."""
    with Bench() as bench:
        model = bench.load_model(linear)
        bench.load_weights([0])
        first = bench.infer([0], bytes(model.input_bytes))
        before = bytes(first.outputs[0])
        bench.infer([0], np.ones(32, np.float32).tobytes())
        assert bytes(first.outputs[0]) == before


def test_timings_follow_one_another(linear: Path) -> None:
    """Copy in, execution and copy out do not overlap."""
    with Bench() as bench:
        bench.load_model(linear)
        bench.load_weights([0])
        done = bench.infer([0], b"")
    assert done.copy_input.end_ns == done.exec.begin_ns < done.exec.end_ns
    assert done.exec.end_ns == done.copy_output.begin_ns < done.copy_output.end_ns


def test_missing_inputs_are_made_up(tmp_path: Path) -> None:
    """Without a payload the device runs on zeros, and so do single requests that have none."""
    original = save_two_by_two(tmp_path / "original.onnx")
    model = compile_model(original, tmp_path / "model", measure=False)
    with Bench() as bench:
        size = bench.load_model(tmp_path / "model").input_bytes
        bench.load_weights([0])
        whole = bench.infer([0], b"", batch_size=2)
        assert bytes(whole.outputs[1]) == bytes(24)
        inputs = sample(model, 1)
        payload = payload_of(model.inputs, inputs)
        mixed = bench.infer([0], payload, batch_size=2, input_sizes=(0, size))
        assert bytes(mixed.outputs[0]) == bytes(whole.outputs[0])
        assert bytes(mixed.outputs[3]) == (2 * inputs["ids"]).tobytes()


def test_wrong_inputs_are_refused(linear: Path) -> None:
    """Too few bytes, too many, and sizes that do not fit are told apart from other failures."""
    with Bench() as bench:
        bench.load_model(linear)
        bench.load_weights([0])
        status, text = refusal_of(bench.infer, [0], bytes(127))
        assert (status, text) == (75, "127 bytes of input, 1 requests have 128")
        assert refusal_of(bench.infer, [0], bytes(128), batch_size=2)[0] == 75
        status, text = refusal_of(bench.infer, [0], bytes(127), input_sizes=(127,))
        assert (status, "it is no LZ4 block of 128 bytes" in text) == (78, True)
        sizes = (128, 0, 128)
        assert refusal_of(bench.infer, [0], bytes(130), batch_size=3, input_sizes=sizes)[0] == 77
        assert len(bench.infer([0], bytes(128)).outputs) == 1


def test_limits_are_refused_and_survived(tmp_path: Path) -> None:
    """A batch beyond the io pool or the workspace fails by name; a smaller one then works."""
    compile_model(save_convnet(tmp_path / "c.onnx"), tmp_path / "c", measure=False)
    with Bench(io_pool_bytes=8000) as bench:
        bench.load_model(tmp_path / "c")
        bench.load_weights([0, 1])
        status, text = refusal_of(bench.infer, [0, 1], b"", batch_size=16)
        assert status == ActionStatus.COPY_INPUT_IO_POOL_EXHAUSTED
        assert "io_pool_size is 8000" in text
        bench.infer([0, 1], b"", batch_size=4)
    with Bench(workspace_bytes=100_000) as bench:
        bench.load_model(tmp_path / "c")
        bench.load_weights([0, 1])
        status, text = refusal_of(bench.infer, [0, 1], b"", batch_size=16)
        assert status == ActionStatus.EXEC_WORKSPACE_POOL_EXHAUSTED
        assert "workspace_pool_size" in text
        bench.infer([0, 1], b"", batch_size=1)


def test_a_failing_execution_is_an_outcome(tmp_path: Path) -> None:
    """An input that the model cannot take is a runtime error, and the next batch runs."""
    compile_model(save_two_by_two(tmp_path / "m.onnx"), tmp_path / "m", measure=False)
    with Bench() as bench:
        bench.load_model(tmp_path / "m")
        bench.load_weights([0])
        bad = np.zeros(5, np.float32).tobytes() + np.full(3, 10**6, np.int64).tobytes()
        status, text = refusal_of(bench.infer, [0], bad)
        assert status == ActionStatus.RUNTIME_ERROR
        assert "Gather" in text
        bench.infer([0], b"")


def test_weights_that_are_gone_are_missed(linear: Path) -> None:
    """Pages that hold another model now, or a released one, cannot be inferred from."""
    with Bench() as bench:
        bench.load_model(linear)
        bench.load_model(linear, code_id=1)
        assert refusal_of(bench.infer, [0], b"")[0] == ActionStatus.EXEC_WEIGHTS_MISSING
        bench.load_weights([0])
        bench.load_weights([0], code_id=1)
        assert refusal_of(bench.infer, [0], b"")[0] == ActionStatus.EXEC_WEIGHTS_MISSING
        bench.infer([0], b"", code_id=1)
        bench.engine.release(1)
        assert refusal_of(bench.infer, [0], b"", code_id=1)[0] == ActionStatus.EXEC_WEIGHTS_MISSING
        assert refusal_of(bench.load_weights, [0], code_id=1)[0] == ActionStatus.RUNTIME_ERROR
        del bench.models[1]


def test_pages_that_cannot_be_are_refused(linear: Path) -> None:
    """Too few pages and pages beyond the cache are no crash."""
    with Bench() as bench:
        bench.load_model(linear)
        for pages in ([], [24], [-1]):
            status, _ = refusal_of(bench.load_weights, pages)
            assert status == ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE


def test_aliases_share_memory(linear: Path, tmp_path: Path) -> None:
    """The same directory loaded twice, even by another name, is in memory once."""
    (tmp_path / "alias").symlink_to(linear)
    with Bench() as bench:
        bench.load_model(linear)
        bench.load_model(tmp_path / "alias", code_id=1)
        library = bench.engine._library
        assert library.find(0) is library.find(1)
        bench.engine.release(0)
        del bench.models[0]
        bench.load_weights([0], code_id=1)
        bench.infer([0], b"", code_id=1)


def test_two_gpus_run_at_once(linear: Path) -> None:
    """Each GPU has its own pages and buffers; threads of both, and a loading one, do not mix."""
    original = linear.with_suffix(".onnx")
    failures: list[str] = []

    def serve(gpu_id: int) -> None:
        for round_number in range(40):
            inputs = {"x": np.full((2, 32), gpu_id + round_number, np.float32)}
            answer = bench.answer([3], inputs, gpu_id=gpu_id)
            expected = inputs["x"][0, 0] * unit
            if not np.allclose(answer["y"], expected, rtol=1e-4, atol=1e-3):
                failures.append(f"gpu {gpu_id} round {round_number}")

    def reload() -> None:
        for round_number in range(80):
            bench.load_weights([5 + round_number % 9], gpu_id=round_number % 2)

    unit = plain_answer(original, {"x": np.ones((1, 32), np.float32)})["y"]
    with Bench(gpu_count=2) as bench:
        bench.load_model(linear)
        for gpu_id in (0, 1):
            bench.load_weights([3], gpu_id=gpu_id)
        threads = [threading.Thread(target=serve, args=(gpu_id,)) for gpu_id in (0, 1)]
        threads.append(threading.Thread(target=reload))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_several_cores_give_the_same_answers(tmp_path: Path) -> None:
    """A device of two cores answers like one of one."""
    original = save_convnet(tmp_path / "c.onnx")
    model = compile_model(original, tmp_path / "c", measure=False)
    with Bench(cores=2) as bench:
        pages = range(bench.load_model(tmp_path / "c").weights_pages)
        bench.load_weights(pages)
        inputs = sample(model, 16)
        assert_same(bench.answer(pages, inputs), plain_answer(original, inputs))


def test_paths_outside_the_model_folders_are_refused(linear: Path, tmp_path: Path) -> None:
    """Neither other directories, nor a way around by `..` or by a link, are read."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "link").symlink_to(linear)
    with Bench(model_folders=(str(folder),)) as bench:
        for path in (linear, folder / ".." / "linear", folder / "link"):
            status, text = refusal_of(bench.load_model, path)
            assert status == ActionStatus.INVALID_MODEL_PATH
            assert f"is outside the model folders of this worker: {folder}" in text
        assert "is no model directory" in refusal_of(bench.load_model, folder / "none")[1]


@pytest.mark.parametrize("name", ["weights.bin", "code.onnx", "model.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_a_damaged_directory_is_named(name: str, damage: str, linear: Path) -> None:
    """A file that is missing, cut off or changed gives status 41 and is named."""
    path = linear / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:9] + b"#" + content[10:])
    with Bench() as bench:
        status, text = refusal_of(bench.load_model, linear)
    assert status == ActionStatus.INVALID_MODEL_PATH
    assert name in text


def test_a_directory_that_contradicts_itself_is_refused(linear: Path) -> None:
    """Code with other inputs or outputs than model.json says cannot be bound, and is not."""
    model = read_model_file(linear)
    fields = {key: getattr(model, key) for key in model.__struct_fields__}
    with Bench() as bench:
        for key in ("inputs", "outputs"):
            write_model_file(linear, type(model)(**{**fields, key: ()}))
            status, text = refusal_of(bench.load_model, linear)
            assert status == ActionStatus.INVALID_MODEL_PATH
            assert f"has other {key} than" in text


def test_an_emulated_directory_is_refused(linear: Path) -> None:
    """A model without code says who can serve it."""
    model = read_model_file(linear)
    fields = {key: getattr(model, key) for key in model.__struct_fields__}
    write_model_file(linear, type(model)(**{**fields, "code": None, "tuned": {}}))
    with Bench() as bench:
        assert "only an emulated worker" in refusal_of(bench.load_model, linear)[1]


def test_the_page_size_is_the_workers_own(linear: Path) -> None:
    """One directory serves workers of any page size."""
    for page_bytes in (4096, PAGE, 2 * 1024 * 1024):
        with Bench(page_bytes=page_bytes, cache_bytes=4 * 1024 * 1024) as bench:
            count = bench.load_model(linear).weights_pages
            assert count == max(1, 32 * 64 * 4 // page_bytes)
            bench.load_weights(range(count))
            bench.infer(range(count), b"")


@pytest.mark.parametrize("field", ["gpu_count", "cores", "page_bytes", "io_pool_bytes"])
def test_settings_are_checked(field: str) -> None:
    """A size of 0 is refused by name, before any memory is taken."""
    with pytest.raises(ConfigurationError, match=f"{field} is 0"):
        Bench(**{field: 0})


def test_a_cache_smaller_than_a_page_is_refused() -> None:
    """A cache that holds no page says so."""
    with pytest.raises(ConfigurationError, match="holds no page"):
        Bench(cache_bytes=PAGE - 1)
