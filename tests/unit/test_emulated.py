"""The emulated engine: durations and outputs without a clock, profiles read once."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from worker_stage import PAGE_BYTES, gpu_states, profile

from clockwork.engines.emulated import DirectoryProfiles, EmulatedEngine, measured_part
from clockwork.engines.engine import EngineError
from clockwork.errors import ModelError
from clockwork.messages.actions import Timing
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.models import ModelProfile
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    InferTask,
    InferTaskDone,
    LoadModelTask,
    LoadWeightsTask,
    LoadWeightsTaskDone,
)
from clockwork.models.format import (
    EMULATED,
    Measurement,
    ModelFile,
    read_model_file,
    write_model_file,
)
from clockwork.units import MS, SECOND


def load_task(path: str = "m", *, code: int = 0, batch_max: int = 16) -> LoadModelTask:
    """Return a task that loads `path`."""
    return LoadModelTask(TaskId(1), CodeId(code), path, batch_max, SECOND)


def infer_task(*, batch: int, padded: int, payload: bytes) -> InferTask:
    """Return a task that runs code 0."""
    return InferTask(TaskId(3), GpuId(0), CodeId(0), (0, 1), batch, padded, payload, ())


def engine(model: ModelProfile | None = None) -> EmulatedEngine:
    """Return an engine with code 0 loaded."""
    made = EmulatedEngine(
        gpus=gpu_states(2, 4), page_bytes=PAGE_BYTES, profiles=lambda task: model or profile()
    )
    made.load_model(load_task())
    return made


def write(directory: Path, exec_ns: dict[int, int]) -> Path:
    """Write an emulated model directory."""
    directory.mkdir(exist_ok=True)
    measurements = {EMULATED: Measurement(exec_ns=exec_ns, load_ns=8 * MS)} if exec_ns else {}
    file = ModelFile(
        format=1,
        name=directory.name,
        inputs=profile().inputs,
        outputs=profile().outputs,
        batch_sizes=(1, 2, 4),
        weights_bytes=3 * PAGE_BYTES - 1,
        measurements=measurements,
    )
    write_model_file(directory, file)
    return directory


def test_an_infer_takes_as_long_as_its_padded_batch() -> None:
    """Three requests run as four."""
    task = infer_task(batch=3, padded=4, payload=bytes(48))
    assert engine().duration_ns(task) == 4 * MS
    done = engine().done(task, begin_ns=100, end_ns=100 + 4 * MS)
    assert isinstance(done, InferTaskDone)
    assert done.copy_input == Timing(100, 100, 0)
    assert done.exec == Timing(100, 100 + 4 * MS, 4 * MS)
    assert done.copy_output == Timing(100 + 4 * MS, 100 + 4 * MS, 0)
    assert b"".join(map(bytes, done.outputs)) == bytes(24)


def test_outputs_share_one_buffer() -> None:
    """Nothing is allocated per infer."""
    one = engine()
    task = infer_task(batch=1, padded=1, payload=bytes(16))
    first, second = (one.done(task, begin_ns=0, end_ns=1) for _ in range(2))
    assert isinstance(first, InferTaskDone)
    assert isinstance(second, InferTaskDone)
    (left,), (right,) = first.outputs, second.outputs
    assert isinstance(left, memoryview)
    assert isinstance(right, memoryview)
    assert left.obj is right.obj


def test_an_infer_without_input_has_no_output() -> None:
    """As the original's dummy."""
    done = engine().done(infer_task(batch=2, padded=2, payload=b""), begin_ns=0, end_ns=1)
    assert isinstance(done, InferTaskDone)
    assert done.outputs == ()


def test_a_load_takes_as_long_as_measured() -> None:
    """Whatever pages it gets."""
    task = LoadWeightsTask(TaskId(2), GpuId(1), CodeId(0), (2, 3))
    assert engine().duration_ns(task) == 8 * MS
    done = engine().done(task, begin_ns=5, end_ns=9)
    assert done == LoadWeightsTaskDone(TaskId(2), Timing(5, 9, 4))


def test_a_released_model_is_gone() -> None:
    """Its id may be loaded again."""
    one = engine()
    one.release(CodeId(0))
    with pytest.raises(KeyError):
        one.duration_ns(LoadWeightsTask(TaskId(2), GpuId(0), CodeId(0), (0, 1)))
    assert one.load_model(load_task()) == profile()


def test_batch_sizes_that_were_never_measured_are_not_offered() -> None:
    """The others are."""
    model = profile(batch_sizes=(1, 2, 4, 8))
    partly = replace(model, exec_ns=(5, 0, 7, 0))
    kept = measured_part(partly, "m")
    assert (kept.batch_sizes, kept.exec_ns) == ((1, 4), (5, 7))
    assert measured_part(model, "m") is model


def test_a_model_that_was_never_measured_is_refused() -> None:
    """Nobody knows how long it takes."""
    model = replace(profile(), exec_ns=(0, 0, 0))
    with pytest.raises(EngineError, match="No measurements for m") as caught:
        measured_part(model, "m")
    assert caught.value.status is ActionStatus.UNKNOWN_MODEL


def test_a_directory_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Four thousand copies of a model cost one read and share one profile."""
    reads: list[Path] = []

    def read(path: Path) -> ModelFile:
        reads.append(path)
        return read_model_file(path)

    directory = write(tmp_path / "m", {1: MS, 2: 2 * MS, 4: 4 * MS})
    profiles = DirectoryProfiles(page_bytes=PAGE_BYTES, read=read)
    first = profiles(load_task(str(directory)))
    assert (first.batch_sizes, first.weights_pages) == ((1, 2, 4), 3)
    assert profiles(load_task(str(directory), code=7)) is first
    assert profiles(load_task(str(directory), batch_max=2)).batch_sizes == (1, 2)
    assert len(reads) == 1
    write(directory, {1: 9 * MS})
    assert profiles(load_task(str(directory))).exec_ns == (9 * MS, 0, 0)
    assert len(reads) == 2


def test_a_directory_that_is_none_is_refused_with_its_path(tmp_path: Path) -> None:
    """Missing, broken or not allowed: the original's code for a wrong path."""

    def forbid(text: str) -> Path:
        raise ModelError(f"{text} is forbidden")

    for profiles, text in (
        (DirectoryProfiles(page_bytes=PAGE_BYTES), "is no model directory"),
        (DirectoryProfiles(page_bytes=PAGE_BYTES, check_path=forbid), "is forbidden"),
    ):
        with pytest.raises(EngineError, match=text) as caught:
            profiles(load_task(str(tmp_path)))
        assert caught.value.status is ActionStatus.INVALID_MODEL_PATH
