"""The default policy, through the role: admission, batches, windows, retries."""

from controller_stage import Stage, profile

from clockwork.controller.config import ControllerConfig
from clockwork.messages.actions import EvictWeights, Infer, LoadWeights
from clockwork.messages.ids import ClientId, ModelId
from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.messages.requests import EvictRequest
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import MS


def warm_stage(**options: int) -> Stage:
    """Return a serving stage with one model that is warm on its GPU."""
    stage = Stage(**options).start(profile())  # type: ignore[arg-type]
    stage.warm()
    return stage


def test_a_request_for_a_cold_model_loads_its_weights_first() -> None:
    """The load is sent at once, the batch when it is done, and the answer says cold."""
    stage = Stage().start(profile())
    (number,) = stage.infer(slo_ms=100)
    (load,) = stage.take(LoadWeights)
    assert stage.take(Infer) == []
    stage.succeed(load, took_ms=8)
    (infer,) = stage.take(Infer)
    stage.succeed(infer)
    answer = stage.answers()[number]
    assert (answer.status, answer.is_cold_start, answer.batch_size) == (Status.SUCCESS, True, 1)


def test_a_request_for_a_warm_model_runs_at_once() -> None:
    """With an idle holder the batch leaves in the step that the request arrives in."""
    stage = warm_stage()
    (number,) = stage.infer(payload=bytes(16))
    (infer,) = stage.take(Infer)
    assert infer.input_sizes == (16,)
    stage.succeed(infer, payload=b"12345678")
    answer = stage.answers()[number]
    assert (answer.status, answer.is_cold_start) == (Status.SUCCESS, False)
    assert answer.latency_ns == 3 * MS


def test_requests_that_arrive_together_run_as_one_batch() -> None:
    """Eight requests of one step fill a batch of eight, and each gets its own part."""
    stage = warm_stage()
    numbers = stage.infer(count=8)
    (infer,) = stage.take(Infer)
    assert infer.batch_size == 8
    stage.succeed(infer, took_ms=10, payload=bytes(range(64)))
    assert [stage.answers()[number].batch_size for number in numbers] == [8] * 8


def test_the_window_of_a_batch_is_the_horizon_after_its_planned_start() -> None:
    """Earliest is now; latest is planned start plus the schedule-ahead, if that is of use."""
    stage = warm_stage()
    stage.infer(slo_ms=100)
    (infer,) = stage.take(Infer)
    assert infer.earliest_ns == stage.now_ns
    assert 10 * MS <= infer.latest_ns - stage.now_ns <= 12 * MS
    assert infer.expected_ns == 3 * MS


def test_latest_is_no_later_than_the_batch_is_of_use() -> None:
    """A batch with a tight promise may not start when its answer would be late."""
    stage = warm_stage()
    stage.infer(slo_ms=12)
    (infer,) = stage.take(Infer)
    assert infer.latest_ns == stage.now_ns + 12 * MS - infer.expected_ns


def test_a_gpu_is_filled_no_further_than_the_horizon() -> None:
    """About 10 ms of work is queued on a GPU; the rest waits at the controller."""
    stage = warm_stage()
    for _ in range(10):
        stage.infer(slo_ms=200)
    assert 3 <= len(stage.take(Infer)) <= 5


def test_work_goes_to_an_idle_holder_before_a_busy_one() -> None:
    """Two requests run on two GPUs side by side rather than one behind the other."""
    stage = warm_stage(gpus=2)
    stage.warm()
    stage.infer()
    stage.infer()
    assert sorted(infer.gpu_id for infer in stage.take(Infer)) == [0, 1]


def test_a_satisfied_model_is_replicated_into_free_pages() -> None:
    """Two GPUs with room end up with both of two models each: four loads."""
    stage = Stage(gpus=2).start(profile(), profile())
    for model in (0, 1):
        stage.infer(model, slo_ms=1_000)
    for _ in range(20):
        stage.settle()
        stage.infer(0, slo_ms=1_000)
        stage.infer(1, slo_ms=1_000)
    loads = [row for row in stage.records(ActionRecord) if row.action_type == 1 and row.status == 0]
    assert len(loads) == 4


def test_a_satisfied_model_evicts_nobody() -> None:
    """With one page per GPU, two models stay where they are however much is asked of them."""
    stage = Stage(gpus=2, pages=1).start(profile(), profile())
    stage.warm(0)
    stage.warm(1)
    for _ in range(20):
        stage.infer(0)
        stage.infer(1)
        stage.settle()
    rows = stage.records(ActionRecord)
    assert [row for row in rows if row.action_type != 2] == []


def test_the_least_recently_used_model_without_demand_is_evicted() -> None:
    """A cold model takes the place of the one that was used longest ago."""
    stage = Stage(pages=2).start(profile(), profile(), profile())
    stage.warm(0)
    stage.warm(1)
    stage.infer(0)
    stage.settle()
    stage.effects.clear()
    stage.infer(2)
    (evict,) = stage.take(EvictWeights)
    assert evict.model_id == 1
    assert [load.model_id for load in stage.take(LoadWeights)] == [2]


def test_a_model_with_work_under_way_is_not_evicted() -> None:
    """The only victim is running: the cold model waits until it is done."""
    stage = Stage(pages=1).start(profile(), profile())
    stage.warm(0)
    stage.infer(0, slo_ms=500)
    stage.infer(1, slo_ms=500)
    assert stage.take(EvictWeights) == []
    stage.succeed(stage.take(Infer)[0])
    stage.advance(2)
    assert [evict.model_id for evict in stage.take(EvictWeights)] == [0]


def test_an_slo_below_the_execution_time_is_refused_at_once() -> None:
    """What can never be met is answered in the same step, with what it needs and was allowed."""
    stage = warm_stage()
    (number,) = stage.infer(slo_ms=7)
    answer = stage.answers()[number]
    assert answer.status is Status.COULD_NOT_START_IN_TIME
    assert "needs 8.0 ms" in answer.message
    assert "SLO 7.0 ms" in answer.message


def test_a_refused_cold_request_still_has_the_weights_loaded() -> None:
    """An SLO shorter than the load is refused, but later requests find the model warm."""
    stage = Stage().start(profile())
    (first,) = stage.infer(slo_ms=12)
    assert stage.answers()[first].status is Status.COULD_NOT_START_IN_TIME
    stage.succeed(stage.take(LoadWeights)[0], took_ms=8)
    (second,) = stage.infer(slo_ms=12)
    stage.settle()
    assert stage.answers()[second].status is Status.SUCCESS


def test_a_request_that_waits_in_vain_is_answered_when_it_becomes_hopeless() -> None:
    """It is not held until its deadline: the answer comes soon after the last possible start."""
    stage = Stage().start(profile())
    (number,) = stage.infer(slo_ms=100)
    begin_ns = stage.now_ns
    stage.advance(200)
    row = stage.records(RequestRecord)[-1]
    assert row.result is Status.COULD_NOT_START_IN_TIME
    assert stage.answers()[number].latency_ns == row.latency
    # 100 ms less the buffer and the execution; half an execution later nothing else has happened.
    assert 92 * MS <= row.latency <= 93.5 * MS
    assert stage.now_ns - begin_ns == 200 * MS


def test_hopeless_requests_are_refused_when_anything_happens() -> None:
    """They wake the controller only if nothing does; a refusal costs less than waking up."""
    stage = Stage().start(profile())
    (number,) = stage.infer(slo_ms=100)
    stage.advance(91.9)
    stage.handle()
    assert number not in stage.answers(), "it could still make it"
    stage.advance(0.2)
    assert number not in stage.answers(), "woken up for it"
    stage.handle()
    assert stage.answers()[number].status is Status.COULD_NOT_START_IN_TIME


def test_an_overloaded_gpu_serves_those_who_can_make_it() -> None:
    """Offered far more than it can do, the GPU keeps running full batches in time."""
    stage = warm_stage()
    numbers = []
    for _ in range(40):
        numbers += stage.infer(slo_ms=60, count=16)
        stage.advance(4)
        for infer in stage.take(Infer)[:1]:
            stage.succeed(infer, took_ms=6)
    stage.settle(took_ms=6)
    stage.advance(200)
    answers = stage.answers()
    assert sorted(answers) == numbers
    good = [row for row in stage.records(RequestRecord) if row.deadline_met]
    assert len(good) >= 16 * 30
    assert all(row.latency <= 60 * MS for row in good)


def test_a_failed_batch_is_tried_again_one_by_one() -> None:
    """One bad input fails alone; the others of its batch succeed."""
    stage = warm_stage()
    numbers = stage.infer(count=4, slo_ms=1_000)
    stage.fail(stage.take(Infer)[0], ActionStatus.RUNTIME_ERROR, "token id out of range")
    while stage.open:
        action = stage.take(Infer)[0]
        assert action.batch_size == 1
        if len(stage.answers()) == 1:
            stage.fail(action, ActionStatus.RUNTIME_ERROR, "token id out of range")
        else:
            stage.succeed(action)
    statuses = [stage.answers()[number].status for number in numbers]
    assert sorted(statuses) == [0, 0, 0, 1]
    failed = next(item for item in stage.answers().values() if item.status)
    assert "token id out of range" in failed.message


def test_weights_that_turn_out_to_be_missing_are_loaded_again() -> None:
    """Belief is mended by the worker's answer, and the request is still served."""
    stage = warm_stage()
    (number,) = stage.infer(slo_ms=500)
    stage.fail(stage.take(Infer)[0], ActionStatus.EXEC_WEIGHTS_MISSING)
    assert len(stage.take(LoadWeights)) == 1
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_request_sent_back_after_its_model_was_evicted_has_it_loaded_again() -> None:
    """A late start is refused, the weights go meanwhile: the request still gets them back."""
    stage = Stage(pages=1).start(profile(), profile())
    stage.warm(0)
    (number,) = stage.infer(0, slo_ms=900)
    (infer,) = stage.take(Infer)
    stage.advance(30)
    stage.request(EvictRequest(70, 0, ModelId(0)))
    stage.fail(infer, ActionStatus.EXEC_TOO_LATE, "window closed")
    assert [load.model_id for load in stage.take(LoadWeights)] == [0]
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_request_is_not_tried_for_ever() -> None:
    """After the allowed attempts the client gets an error that says what happened."""
    stage = warm_stage()
    (number,) = stage.infer(slo_ms=10_000)
    for _ in range(3):
        stage.fail(stage.take(Infer)[0], ActionStatus.EXEC_WORKSPACE_POOL_EXHAUSTED, "too big")
    answer = stage.answers()[number]
    assert answer.status is Status.ERROR
    assert "too big" in answer.message


def test_a_closed_window_costs_no_attempt() -> None:
    """A stalled GPU refuses late work; the request is sent again as long as there is time."""
    stage = warm_stage()
    (number,) = stage.infer(slo_ms=10_000)
    for _ in range(20):
        stage.fail(stage.take(Infer)[0], ActionStatus.EXEC_TOO_LATE, "window closed")
        stage.advance(10)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_failed_load_gives_its_pages_back_and_pauses_the_gpu() -> None:
    """The load is tried again after a pause, not in a tight loop."""
    stage = Stage(pages=1).start(profile())
    (number,) = stage.infer(slo_ms=900)
    stage.fail(stage.take(LoadWeights)[0], ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE)
    assert stage.take(LoadWeights) == []
    stage.advance(150)
    assert len(stage.take(LoadWeights)) == 1
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_an_overdue_action_is_given_up_and_its_requests_answered() -> None:
    """A worker that never answers does not keep its clients waiting for ever."""
    stage = warm_stage()
    (number,) = stage.infer(slo_ms=100)
    (infer,) = stage.take(Infer)
    stage.advance(5_000)
    assert stage.answers()[number].status is Status.TIMEOUT
    stage.succeed(infer, took_ms=0)
    assert stage.role.strays["unknown, late or repeated action"] == 1


def test_what_a_load_brings_after_it_was_given_up_is_evicted() -> None:
    """A load may end long after it was overdue; its pages are free at the worker as well then."""
    stage = Stage().start(profile())
    stage.infer(slo_ms=100)
    (load,) = stage.take(LoadWeights)
    stage.advance(5_000)
    (evict,) = stage.take(EvictWeights)
    assert (evict.model_id, evict.gpu_id) == (load.model_id, load.gpu_id)
    stage.succeed(load, took_ms=5_000)
    stage.succeed(evict)
    assert stage.role.strays["unknown, late or repeated action"] == 1


def test_the_queue_of_a_client_that_left_is_dropped() -> None:
    """Nobody computes for a client that is gone, and others are not affected."""
    stage = warm_stage()
    stage.infer(count=40, slo_ms=500)
    (other,) = stage.infer(slo_ms=500, client=ClientId(8))
    before = len(stage.take(Infer))
    stage.lose_client()
    assert len(stage.take(Infer)) == before
    stage.settle(took_ms=6)
    assert stage.answers()[other].status is Status.SUCCESS


def test_open_requests_are_bounded() -> None:
    """Beyond the limit requests are refused, not queued."""
    stage = Stage(config=ControllerConfig(requests_max=5)).start(profile())
    stage.infer(count=8, slo_ms=900)
    refused = [item for item in stage.answers().values() if item.status]
    assert len(refused) == 3
    assert "5 requests are open" in refused[0].message


def test_the_logs_show_prediction_beside_measurement() -> None:
    """An Infer's row holds what was expected and what the worker measured."""
    stage = warm_stage()
    stage.infer(count=2)
    sent_ns = stage.now_ns
    stage.succeed(stage.take(Infer)[0], took_ms=5)
    (row,) = stage.records(ActionRecord)
    assert (row.t, row.batch_size, row.status, row.goodput) == (sent_ns, 2, 0, 1.0)
    assert row.expected_exec_duration == 4 * MS
    assert row.worker_exec_duration == 5 * MS
    assert row.worker_exec_complete == 5 * MS
