"""The worker role: what each action does, and what can be wrong with it."""

import pytest
from msgspec.structs import replace
from worker_stage import (
    PAGE_BYTES,
    Stage,
    done,
    evict,
    get_state,
    gpu_states,
    infer,
    instant,
    load_model,
    load_weights,
    profile,
    results,
    started,
    statuses,
    unload,
)

from clockwork.messages.actions import (
    Action,
    ActionFailed,
    ActionType,
    EvictWeightsDone,
    InferDone,
    LoadModelDone,
    LoadWeightsDone,
)
from clockwork.messages.models import ModelInfo
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus as S
from clockwork.messages.worker_io import (
    ActionArrived,
    InferTask,
    InferTaskDone,
    LoadModelTask,
    LoadModelTaskDone,
    LoadWeightsTask,
    SendResult,
    Shutdown,
    StartTask,
)
from clockwork.worker.core import WorkerRole
from clockwork.worker.executor import QUEUE_MAX
from clockwork.worker.store import COPIES_MAX


def test_load_model_reports_the_profile_under_all_its_ids() -> None:
    """A model that was read is there under each copy's id, with the same code."""
    stage = Stage()
    effects = stage.send(load_model(5, action=9, copies=3))
    task = LoadModelTask(1, 5, "model-5", 16, 1_000_000_000)
    assert effects == [StartTask(task)]
    stage.now_ns = 2_000
    effects = stage.handle(LoadModelTaskDone(1, instant(1_500), profile()))
    expected = LoadModelDone(9, profile(), 3, instant(1_500), 1_000, 2_000)
    assert effects == [SendResult(expected, ())]
    assert stage.state().models == tuple(ModelInfo(i, "model-5", profile()) for i in (5, 6, 7))


def test_load_weights_takes_pages_and_makes_warm() -> None:
    """A load gets pages that nobody has, and ends warm."""
    stage = Stage().loaded(0, pages=3)
    effects = stage.send(load_weights(action=4))
    assert effects == [StartTask(LoadWeightsTask(2, 0, 0, (0, 1, 2)))]
    assert stage.state().warm == [[]]
    stage.now_ns = 3_000
    effects = stage.end(LoadWeightsTask)
    assert effects == [SendResult(LoadWeightsDone(4, instant(3_000), 1_000, 3_000), ())]
    assert stage.state().warm == [[0]]


def test_infer_runs_on_the_padded_size_and_hands_outputs_out_untouched() -> None:
    """Three requests run as four; the device's buffers are sent as they are."""
    stage = Stage().warm()
    payload = bytes(range(48))
    effects = stage.send(infer(action=7, batch=3), payload=payload)
    assert effects == [StartTask(InferTask(3, 0, 0, (0, 1), 3, 4, payload, ()))]
    outputs = (b"first", b"second")
    begin, end = instant(1_100), instant(1_900)
    stage.now_ns = 2_000
    effects = stage.handle(InferTaskDone(3, begin, begin, end, 1380, 1370, outputs))
    expected = InferDone(7, begin, begin, end, 0, 1380, 1370, 1_000, 2_000)
    assert effects == [SendResult(expected, outputs)]


def test_evict_weights_is_done_in_an_instant() -> None:
    """An eviction gives the pages back and answers at once."""
    stage = Stage().warm()
    stage.now_ns = 5_000
    effects = stage.send(evict(action=3))
    assert effects == [SendResult(EvictWeightsDone(3, instant(5_000), 5_000, 5_000), ())]
    assert stage.state().warm == [[]]


def test_get_worker_state_reports_sizes_and_warm_models_in_the_order_of_their_loads() -> None:
    """The model that was loaded last stands last, also if it was warm before."""
    stage = Stage(gpus=2).warm(1).warm(0).warm(1, gpu=1)
    assert stage.state().warm == [[1, 0], [1]]
    stage.warm(1)
    assert stage.state().warm == [[0, 1], [1]]
    assert [gpu.cache_pages for gpu in stage.state().gpus] == [8, 8]


def test_the_same_action_id_twice_gets_two_results() -> None:
    """Ids of actions are the controller's matter; nothing depends on them here."""
    stage = Stage().warm()
    effects = stage.send(infer(action=1), infer(action=1))
    assert len(started(effects)) == 1
    effects = stage.end(InferTask)
    assert statuses(effects) == [(1, S.SUCCESS)]
    assert statuses(stage.end(InferTask)) == [(1, S.SUCCESS)]


@pytest.mark.parametrize(
    ("action", "payload", "status", "text"),
    [
        (load_model(0, copies=0), b"", S.INVALID_ACTION, "0 copies"),
        (load_model(9, copies=COPIES_MAX + 1), b"", S.INVALID_ACTION, f"1 to {COPIES_MAX}"),
        (load_model(-1), b"", S.INVALID_MODEL_ID, "model id -1 is negative"),
        (load_model(0), b"", S.INVALID_MODEL_ID, "model id 0 is in use"),
        (load_model(7, latest=999), b"", S.COULD_NOT_START_IN_TIME, "1ns ago"),
        (load_weights(gpu=1), b"", S.INVALID_GPU, "this worker has 1 GPUs"),
        (load_weights(gpu=-1), b"", S.INVALID_GPU, "numbered from 0"),
        (load_weights(9), b"", S.LOAD_WEIGHTS_UNKNOWN_MODEL, "no model 9"),
        (load_weights(1), b"", S.LOAD_WEIGHTS_INSUFFICIENT_CACHE, "needs 7 pages, 6 free of 8"),
        (load_weights(latest=999), b"", S.LOAD_WEIGHTS_TOO_LATE, "1ns ago"),
        (evict(9), b"", S.EVICT_WEIGHTS_UNKNOWN_MODEL, "no model 9"),
        (evict(1), b"", S.EVICT_WEIGHTS_NOT_IN_CACHE, "model 1 has no weights on GPU 0"),
        (evict(gpu=3), b"", S.INVALID_GPU, "this worker has 1 GPUs"),
        (evict(latest=-5), b"", S.EVICT_WEIGHTS_TOO_LATE, "ago"),
        (infer(9), bytes(16), S.COPY_INPUT_UNKNOWN_MODEL, "no model 9"),
        (infer(gpu=1), bytes(16), S.INVALID_GPU, "this worker has 1 GPUs"),
        (infer(1), bytes(16), S.EXEC_WEIGHTS_MISSING, "model 1 is not warm on GPU 0"),
        (infer(latest=999), bytes(16), S.EXEC_TOO_LATE, "1ns ago"),
        (infer(batch=5), bytes(80), S.COPY_INPUT_INVALID_BATCH_SIZE, "runs 1 to 4"),
        (infer(batch=0), b"", S.COPY_INPUT_INVALID_BATCH_SIZE, "batch size 0"),
        (infer(batch=-2), b"", S.COPY_INPUT_INVALID_BATCH_SIZE, "batch size -2"),
        (infer(batch=2), bytes(31), S.COPY_INPUT_INVALID_INPUT, "31 bytes of input"),
        (infer(), b"", S.COPY_INPUT_INVALID_INPUT, "allow_zero_size_inputs"),
        (infer(sizes=(0,)), b"", S.COPY_INPUT_INVALID_INPUT, "allow_zero_size_inputs"),
        (infer(sizes=(16,)), b"", S.COPY_INPUT_BAD_SIZES, "but no input"),
        (infer(sizes=(0, 0)), b"", S.COPY_INPUT_BAD_SIZES, "2 input sizes for 1 requests"),
        (infer(sizes=(8, 8)), bytes(16), S.COPY_INPUT_BAD_SIZES, "2 input sizes for 1"),
        (infer(batch=2, sizes=(20, -4)), bytes(16), S.COPY_INPUT_BAD_SIZES, "-4 bytes"),
        (infer(sizes=(17,)), bytes(16), S.COPY_INPUT_BAD_SIZES, "add to 17 bytes, 16 came"),
        (infer(batch=2, sizes=(16, 0)), bytes(16), S.COPY_INPUT_INVALID_INPUT, "allow_zero"),
        (infer(batch=2, sizes=(16,)), bytes(16), S.COPY_INPUT_INVALID_INPUT, "allow_zero"),
        (unload(9), b"", S.UNKNOWN_MODEL, "no model 9"),
    ],
)
def test_an_impossible_action_gets_its_status_and_a_reason(
    action: Action, payload: Payload, status: S, text: str
) -> None:
    """Model 0 is warm, model 1 is cold and too large for the rest: nothing starts, all is told."""
    stage = Stage().warm(0).loaded(1, pages=7)
    before = stage.state().warm
    (effect,) = stage.send(action, payload=payload)
    assert isinstance(effect, SendResult)
    result = effect.message
    assert isinstance(result, ActionFailed)
    assert result.status is status
    assert text in result.message
    assert (result.received_at_ns, result.sent_at_ns) == (1_000, 1_000)
    assert stage.state().warm == before


def test_a_load_model_without_batch_sizes_is_invalid() -> None:
    """At least the smallest batch size must be allowed."""
    wrong = replace(load_model(), batch_max=0)
    assert statuses(Stage().send(wrong)) == [(0, S.INVALID_ACTION)]


def test_requests_without_input_run_where_they_are_allowed() -> None:
    """Empty payloads, entries of size zero and missing entries all mean: make up the input."""
    for sizes, payload in (((), b""), ((0, 0), b""), ((16, 0), bytes(16)), ((16,), bytes(16))):
        stage = Stage(may_lack_inputs=True).warm()
        (task,) = started(stage.send(infer(batch=2, sizes=sizes), payload=payload))
        assert isinstance(task, InferTask)
        assert task.input_sizes == sizes


def test_inputs_of_another_size_are_left_to_the_device() -> None:
    """They may be compressed, which only the device can tell."""
    stage = Stage().warm()
    assert started(stage.send(infer(sizes=(5,)), payload=bytes(5)))
    effects = stage.fail(InferTask, S.COPY_INPUT_BAD_DECOMPRESS)
    assert statuses(effects) == [(0, S.COPY_INPUT_BAD_DECOMPRESS)]


def test_failures_carry_the_type_of_their_action() -> None:
    """The action log shows what failed."""
    stage = Stage()
    actions = [load_model(-1), load_weights(), evict(), infer(), unload()]
    failures = results(stage.send(*actions))
    assert [failure.action_type for failure in failures] == [  # type: ignore[union-attr]
        ActionType.LOAD_MODEL,
        ActionType.LOAD_WEIGHTS,
        ActionType.EVICT_WEIGHTS,
        ActionType.INFER,
        ActionType.UNLOAD_MODEL,
    ]


@pytest.mark.parametrize("status", [S.INVALID_MODEL_PATH, S.UNKNOWN_MODEL, S.RUNTIME_ERROR])
def test_a_model_that_cannot_be_read_leaves_nothing_behind(status: S) -> None:
    """The id is free again and the next model is read."""
    stage = Stage()
    stage.send(load_model(0, action=1), load_model(0, action=2))
    effects = stage.fail(LoadModelTask, status)
    assert statuses(effects) == [(1, status)]
    assert len(started(effects)) == 1
    assert statuses(stage.end(LoadModelTask)) == [(2, S.SUCCESS)]


def test_a_load_that_fails_gives_its_pages_back() -> None:
    """After a failed copy the model is cold and can be loaded again."""
    stage = Stage(pages=2).loaded(0, pages=2)
    stage.send(load_weights(action=1))
    assert statuses(stage.fail(LoadWeightsTask)) == [(1, S.RUNTIME_ERROR)]
    assert stage.state().warm == [[]]
    stage.send(load_weights(action=2))
    assert statuses(stage.end(LoadWeightsTask)) == [(2, S.SUCCESS)]


def test_an_infer_that_fails_leaves_the_model_warm() -> None:
    """The next infer runs."""
    stage = Stage().warm()
    stage.send(infer(action=1), infer(action=2))
    effects = stage.fail(InferTask, S.EXEC_WORKSPACE_POOL_EXHAUSTED)
    assert statuses(effects) == [(1, S.EXEC_WORKSPACE_POOL_EXHAUSTED)]
    assert len(started(effects)) == 1
    assert statuses(stage.end(InferTask)) == [(2, S.SUCCESS)]


def test_a_full_queue_refuses() -> None:
    """An executor has a bound; what exceeds it is answered at once."""
    stage = Stage().warm()
    role = stage.role
    stage.send(infer())
    crowd = [ActionArrived(infer(action=1), bytes(16), 1_000)] * QUEUE_MAX
    assert role.handle(crowd, 1_000) == []
    effects = role.handle(crowd[:1], 1_000)
    assert statuses(effects) == [(1, S.RUNTIME_ERROR)]
    cancelled = role.handle([Shutdown()], 1_000)
    assert statuses(cancelled) == [(1, S.CANCELLED)] * QUEUE_MAX


def test_time_does_not_go_back() -> None:
    """A shell that hands in an earlier instant has a bug."""
    stage = Stage()
    stage.send(get_state())
    stage.now_ns = 999
    with pytest.raises(AssertionError, match="time went back from 1000 to 999"):
        stage.send(get_state())


def test_a_task_ends_once() -> None:
    """The end of a task that does not run is a bug."""
    stage = Stage().warm()
    stage.send(infer())
    event = done(stage.take(InferTask), 1_000)
    stage.handle(event)
    with pytest.raises(AssertionError, match="task 3 ended, but it does not run"):
        stage.handle(event)


def test_gpus_are_numbered_from_zero() -> None:
    """A gap in the ids is a bug of the configuration."""
    with pytest.raises(AssertionError, match="GPU 1 is at place 0"):
        WorkerRole(page_bytes=PAGE_BYTES, gpus=gpu_states(2, 1)[1:])
