"""One suite for all devices: what a worker promises holds however it computes."""

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from device_stage import (
    INPUT_BYTES,
    KINDS,
    OUTPUT_BYTES,
    SLOW_KINDS,
    DeviceStage,
    load_model,
    play,
    save_model,
)
from worker_stage import clear_cache, evict, get_state, infer, load_weights, unload

from clockwork.live.clock import now_ns
from clockwork.messages.actions import (
    Action,
    ActionFailed,
    EvictWeightsDone,
    InferDone,
    LoadModelDone,
    LoadWeightsDone,
    WorkerStateDone,
)
from clockwork.messages.status import ActionStatus as S
from clockwork.messages.worker_io import ControllerLost, Shutdown
from clockwork.units import MS

INPUT = bytes(range(INPUT_BYTES))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model directory with measurements."""
    return save_model(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_loaded_run_and_evicted(kind: str, model: Path) -> None:
    """Every action succeeds, and its times follow one another."""

    async def scenario(stage: DeviceStage) -> None:
        stage.send(load_model(model, action=1))
        loaded, _ = await stage.result(1)
        assert isinstance(loaded, LoadModelDone)
        assert loaded.profile.input_bytes == INPUT_BYTES
        assert loaded.profile.output_bytes == OUTPUT_BYTES
        stage.send(load_weights(action=2))
        warmed, _ = await stage.result(2)
        assert isinstance(warmed, LoadWeightsDone)
        stage.send(infer(action=3), payload=INPUT)
        ran, output = await stage.result(3)
        assert isinstance(ran, InferDone)
        assert len(output) == OUTPUT_BYTES
        stage.send(evict(action=4))
        evicted, _ = await stage.result(4)
        assert isinstance(evicted, EvictWeightsDone)
        for result, timing in (
            (loaded, loaded.timing),
            (warmed, warmed.timing),
            (ran, ran.exec),
            (evicted, evicted.timing),
        ):
            assert result.received_at_ns <= timing.begin_ns <= timing.end_ns <= result.sent_at_ns
            assert 0 <= timing.duration_ns <= timing.end_ns - timing.begin_ns
        assert ran.copy_input.end_ns <= ran.exec.begin_ns
        assert ran.exec.end_ns <= ran.copy_output.begin_ns

    play(kind, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_padded_and_answered_without_the_padding(kind: str, model: Path) -> None:
    """For 1 to 16 requests there are as many outputs, and each is the one of its input."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        for size in (1, 2, 3, 5, 8, 13, 16):
            rows = [bytes([row]) * 64 + bytes(INPUT_BYTES - 64) for row in range(size)]
            stage.send(infer(action=size, batch=size), payload=b"".join(rows))
            _, output = await stage.result(size)
            assert len(output) == size * OUTPUT_BYTES
            answers = [output[OUTPUT_BYTES * row :][:OUTPUT_BYTES] for row in range(size)]
            if kind == "pretended":
                assert answers == [row + row for row in rows]

    play(kind, scenario)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("action", "payload", "status"),
    [
        (load_model("no/such/model", model=5, action=9), b"", S.INVALID_MODEL_PATH),
        (load_model("nul\0", model=5, action=9), b"", S.INVALID_MODEL_PATH),
        (load_model("linear", model=0, action=9), b"", S.INVALID_MODEL_ID),
        (load_model("linear", model=5, action=9, copies=-3), b"", S.INVALID_ACTION),
        (load_weights(7, action=9), b"", S.LOAD_WEIGHTS_UNKNOWN_MODEL),
        (load_weights(0, action=9, gpu=2), b"", S.INVALID_GPU),
        (load_weights(1, action=9), b"", S.LOAD_WEIGHTS_INSUFFICIENT_CACHE),
        (load_weights(0, action=9, latest=1), b"", S.LOAD_WEIGHTS_TOO_LATE),
        (evict(7, action=9), b"", S.EVICT_WEIGHTS_UNKNOWN_MODEL),
        (evict(1, action=9), b"", S.EVICT_WEIGHTS_NOT_IN_CACHE),
        (evict(0, action=9, latest=1), b"", S.EVICT_WEIGHTS_TOO_LATE),
        (infer(7, action=9), INPUT, S.COPY_INPUT_UNKNOWN_MODEL),
        (infer(1, action=9), INPUT, S.EXEC_WEIGHTS_MISSING),
        (infer(0, action=9, latest=1), INPUT, S.EXEC_TOO_LATE),
        (infer(0, action=9, batch=17), INPUT * 17, S.COPY_INPUT_INVALID_BATCH_SIZE),
        (infer(0, action=9), INPUT[1:], S.COPY_INPUT_INVALID_INPUT),
        (infer(0, action=9, sizes=(INPUT_BYTES + 1,)), INPUT, S.COPY_INPUT_BAD_SIZES),
        (unload(7, action=9), b"", S.UNKNOWN_MODEL),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_status(
    kind: str, model: Path, action: Action, payload: bytes, status: S
) -> None:
    """One page, held by model 0; afterwards the worker is as it was and still works."""

    async def scenario(stage: DeviceStage) -> None:
        stage.send(load_model(model, model=0, action=1), load_model(model, model=1, action=2))
        await stage.wait_for(2)
        stage.send(load_weights(0, action=3))
        assert await stage.status(3) is S.SUCCESS
        stage.send(action, payload=payload)
        failed, _ = await stage.result(9)
        assert isinstance(failed, ActionFailed)
        assert failed.status is status
        assert failed.message
        stage.send(infer(0, action=10), payload=INPUT)
        assert await stage.status(10) is S.SUCCESS

    play(kind, scenario, pages=1, folders=[str(model.parent)])


@pytest.mark.parametrize("kind", KINDS)
def test_models_outside_of_the_model_folders_are_refused(kind: str, model: Path) -> None:
    """The message names path and folders."""

    async def scenario(stage: DeviceStage) -> None:
        stage.send(load_model(model, action=1))
        failed, _ = await stage.result(1)
        assert isinstance(failed, ActionFailed)
        assert failed.status is S.INVALID_MODEL_PATH
        assert str(model) in failed.message

    play(kind, scenario, folders=[str(model)[:-1] + "x"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_does_not_start_before_its_earliest_start(kind: str, model: Path) -> None:
    """It begins at or after it, in its window."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        earliest_ns = now_ns() + 30 * MS
        stage.send(infer(action=1, earliest=earliest_ns), payload=INPUT)
        ran, _ = await stage.result(1)
        assert isinstance(ran, InferDone)
        assert ran.copy_input.begin_ns >= earliest_ns

    play(kind, scenario)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_a_closed_window_is_answered_while_another_task_runs(kind: str, model: Path) -> None:
    """The refusal comes when it is certain, before the executor is free."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        count = len(stage.results)
        stage.send(infer(action=1), infer(action=2, latest=now_ns() + 2 * MS), payload=INPUT)
        late, ran = (await stage.wait_for(count + 2))[count:]
        assert isinstance(late, ActionFailed)
        assert (late.action_id, late.status) == (2, S.EXEC_TOO_LATE)
        assert isinstance(ran, InferDone)

    play(kind, scenario)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_tasks_of_one_executor_follow_without_overlap(kind: str, model: Path) -> None:
    """One execution at a time per GPU; an emulated one begins when the last one ends."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        for action in range(4):
            stage.send(infer(action=action), payload=INPUT)
        runs = [(await stage.result(action))[0] for action in range(4)]
        for before, after in pairwise(runs):
            assert isinstance(before, InferDone)
            assert isinstance(after, InferDone)
            assert before.exec.end_ns <= after.exec.begin_ns
            if kind == "emulated":
                assert before.exec.end_ns == after.exec.begin_ns

    play(kind, scenario)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_gpus_work_at_the_same_time(kind: str, model: Path) -> None:
    """Two infers of one model on two GPUs overlap; each says where it ran."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model, gpus=2)
        stage.send(infer(action=0, gpu=0), infer(action=1, gpu=1), payload=INPUT)
        (one, _), (two, _) = await stage.result(0), await stage.result(1)
        assert isinstance(one, InferDone)
        assert isinstance(two, InferDone)
        assert (one.gpu_id, two.gpu_id) == (0, 1)
        assert max(one.exec.begin_ns, two.exec.begin_ns) < min(one.exec.end_ns, two.exec.end_ns)

    play(kind, scenario, gpus=2)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_an_eviction_waits_for_the_running_infer(kind: str, model: Path) -> None:
    """Pages in use stay where they are; the next model gets them afterwards."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        stage.send(load_model(model, model=1, action=1))
        assert await stage.status(1) is S.SUCCESS
        count = len(stage.results)
        stage.send(infer(0, action=2), evict(0, action=3), load_weights(1, action=4),
                   payload=INPUT)  # fmt: skip
        order = [result.action_id for result in (await stage.wait_for(count + 3))[count:]]
        assert order == [2, 3, 4]

    play(kind, scenario, pages=1)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_a_version_that_changed_under_a_task_fails_it(kind: str, model: Path) -> None:
    """Clearing during a load gives 54, during an infer 84, and no page is lost."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        stage.send(load_model(model, model=1, action=1))
        assert await stage.status(1) is S.SUCCESS
        stage.send(infer(0, action=2), load_weights(1, action=3), payload=INPUT)
        stage.send(clear_cache(action=4))
        assert await stage.status(4) is S.SUCCESS
        assert await stage.status(2) is S.EXEC_CONCURRENT_WEIGHTS_MODIFICATION
        assert await stage.status(3) is S.LOAD_WEIGHTS_CONCURRENT_MODIFICATION
        stage.send(load_weights(0, action=5), load_weights(1, action=6))
        assert await stage.status(5) is S.SUCCESS
        assert await stage.status(6) is S.SUCCESS

    play(kind, scenario, pages=2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_unloaded_can_be_loaded_again(kind: str, model: Path) -> None:
    """Its code and its id are free."""

    async def scenario(stage: DeviceStage) -> None:
        for round in range(3):
            first = 10 * round
            stage.send(load_model(model, action=first))
            assert await stage.status(first) is S.SUCCESS
            stage.send(load_weights(action=first + 2))
            assert await stage.status(first + 2) is S.SUCCESS
            stage.send(infer(action=first + 3), payload=INPUT)
            assert await stage.status(first + 3) is S.SUCCESS
            stage.send(unload(action=first + 4))
            assert await stage.status(first + 4) is S.SUCCESS
        stage.send(get_state(action=99))
        state, _ = await stage.result(99)
        assert isinstance(state, WorkerStateDone)
        assert (state.state.models, state.state.gpus[0].warm) == ((), ())

    play(kind, scenario)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_shutdown_cancels_the_queue_and_finishes_what_runs(kind: str, model: Path) -> None:
    """When the devices are idle, everything has been answered."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        stage.send(infer(action=1), infer(action=2), infer(action=3), payload=INPUT)
        stage.deliver(Shutdown())
        stage.send(infer(action=4), payload=INPUT)
        await stage.devices.wait_idle()
        statuses = [await stage.status(action) for action in (1, 2, 3, 4)]
        assert statuses == [S.SUCCESS, S.CANCELLED, S.CANCELLED, S.SHUTTING_DOWN]

    play(kind, scenario)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_a_lost_controller_is_answered_no_more(kind: str, model: Path) -> None:
    """What ran for it ends in silence; the weights stay for the next one."""

    async def scenario(stage: DeviceStage) -> None:
        await stage.warm(model)
        count = len(stage.results)
        stage.send(infer(action=1), infer(action=2), payload=INPUT)
        stage.deliver(ControllerLost())
        stage.send(infer(action=3), payload=INPUT)
        assert await stage.status(3) is S.SUCCESS
        assert len(stage.results) == count + 1

    play(kind, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_of_actions_gets_exactly_one_result_each(kind: str, model: Path) -> None:
    """Loads, evictions and infers of three models in one page, in any order."""
    rng = random.Random(7)

    async def scenario(stage: DeviceStage) -> None:
        for number in range(3):
            stage.send(load_model(model, model=number, action=1_000 + number))
        await stage.wait_for(3)
        for action in range(300):
            number, gpu = rng.randrange(3), rng.randrange(2)
            latest = now_ns() + rng.randrange(200) * MS
            build = rng.choice((infer, infer, infer, load_weights, evict))
            stage.send(build(number, action=action, gpu=gpu, latest=latest), payload=INPUT)
        results = await stage.wait_for(303)
        await stage.devices.wait_idle()
        assert Counter(result.action_id for result in results[3:]) == Counter(range(300))

    play(kind, scenario, gpus=2, pages=1)
