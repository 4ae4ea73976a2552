"""What holds for one kind of devices: threads of real ones, make-believe of emulated ones."""

import asyncio
from pathlib import Path

import pytest
from device_stage import (
    INPUT_BYTES,
    SLOW_KINDS,
    DeviceStage,
    PretendedEngine,
    load_model,
    play,
    save_model,
    write_measured,
)
from worker_stage import infer, unload

from clockwork.engines.emulated import EmulatedEngine
from clockwork.messages.actions import ActionFailed, InferDone
from clockwork.messages.status import ActionStatus as S
from clockwork.models.format import read_model_file

INPUT = bytes(range(INPUT_BYTES))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model directory with measurements."""
    return save_model(tmp_path_factory.mktemp("models"))


def test_an_emulated_model_without_measurements_is_refused(model: Path, tmp_path: Path) -> None:
    """Nothing is known about how long it takes."""
    write_measured(tmp_path / "unmeasured", read_model_file(model), {})

    async def scenario(stage: DeviceStage) -> None:
        stage.send(load_model(tmp_path / "unmeasured", action=1))
        failed, _ = await stage.result(1)
        assert isinstance(failed, ActionFailed)
        assert failed.status is S.UNKNOWN_MODEL
        assert "No measurements for" in failed.message

    play("emulated", scenario)


def test_whatever_an_engine_raises_becomes_a_failed_action(model: Path) -> None:
    """The thread goes on; the controller reads what happened."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        engine = stage.engine
        assert isinstance(engine, PretendedEngine)
        engine.failure = ZeroDivisionError("of all things")
        stage.send(infer(action=1), payload=INPUT)
        failed, _ = await stage.result(1)
        assert isinstance(failed, ActionFailed)
        assert failed.status is S.RUNTIME_ERROR
        assert failed.message == "ZeroDivisionError: of all things"
        stage.send(infer(action=2), payload=INPUT)
        assert await stage.status(2) is S.SUCCESS

    play("pretended", scenario)


def test_closing_ends_all_threads_and_closes_each_gpu(model: Path) -> None:
    """Each executor has announced its thread; the GPUs are closed once."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model, gpus=2)
        stage.send(unload(action=1))
        assert await stage.status(1) is S.SUCCESS

    stage = play("pretended", scenario, gpus=2)
    assert isinstance(stage.engine, PretendedEngine)
    assert sorted(stage.engine.closed) == [0, 1]
    assert stage.engine.released == [0]
    assert stage.lines == [
        "CPU-0 started",
        "GPU0-Weights-0 started",
        "GPU1-Weights-0 started",
        "GPU0-GPU-0 started",
        "GPU1-GPU-0 started",
    ]


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_a_bug_in_the_role_is_told_once_and_stops_everything(kind: str, model: Path) -> None:
    """The devices tell their owner, and do nothing more."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        count = len(stage.results)
        stage.deliver(object())  # type: ignore[arg-type]
        stage.send(infer(action=1), payload=INPUT)
        assert [type(failure) for failure in stage.failures] == [KeyError]
        assert len(stage.results) == count

    play(kind, scenario)


def test_an_emulated_infer_without_input_has_no_output(model: Path) -> None:
    """The reported length is that of the original: zero."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        assert isinstance(stage.engine, EmulatedEngine)
        stage.send(infer(action=1, batch=2, sizes=(0, 0)))
        ran, output = await stage.result(1)
        assert isinstance(ran, InferDone)
        assert output == b""
        assert (ran.clock_before_mhz, ran.clock_mhz) == (1380, 1380)

    play("emulated", scenario)


def test_a_bug_that_a_thread_meets_is_told_to_the_loop(model: Path) -> None:
    """The owner learns it as if the loop had met it."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        stage.send(infer(action=1), payload=INPUT)
        # The role forgets its task: the end of it will be a surprise.
        running = dict(stage.role._outbox.running)
        stage.role._outbox.running.clear()
        await stage.until(lambda: bool(stage.failures))
        assert [type(failure) for failure in stage.failures] == [AssertionError]
        stage.role._outbox.running.update(running)
        stage.send(infer(action=2), payload=INPUT)
        await asyncio.sleep(0)
        assert len(stage.failures) == 1

    play("pretended", scenario, ends_idle=False)


def test_a_model_that_cannot_be_released_is_logged(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The controller has its answer already; the worker goes on."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        engine = stage.engine
        assert isinstance(engine, PretendedEngine)
        engine._profiles.clear()
        stage.send(unload(action=1))
        assert await stage.status(1) is S.SUCCESS
        stage.send(load_model(model, model=1, action=2))
        assert await stage.status(2) is S.SUCCESS

    play("pretended", scenario)
    assert "code_id=0 could not be released" in caplog.text
