"""Workers that come and go, and what peers get wrong, through the controller role."""

from controller_stage import BEGIN_NS, CLIENT, PAGE_BYTES, Stage, profile

from clockwork.controller.config import ControllerConfig
from clockwork.messages.actions import (
    Infer,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    Timing,
    WorkerStateDone,
)
from clockwork.messages.controller_io import FromClient, FromWorker
from clockwork.messages.ids import ActionId, ClientId, GpuId, ModelId, WorkerId
from clockwork.messages.models import GpuState, ModelInfo, WorkerState
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import (
    InferRequest,
    LoadModelResponse,
)
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND


def test_wrong_inputs_are_refused_with_both_sizes() -> None:
    """An unknown model and an input of the wrong size are answered at once."""
    stage = Stage().start(profile())
    (unknown,) = stage.infer(5)
    (wrong,) = stage.infer(0, payload=bytes(15))
    answers = stage.answers()
    assert answers[unknown].status is Status.ERROR
    assert answers[wrong].status is Status.INVALID_REQUEST
    assert "15 bytes, model 0 takes 16" in answers[wrong].message


def test_requests_of_a_lost_worker_run_elsewhere() -> None:
    """What was under way on a worker that breaks away is served by the other in time."""
    stage = Stage(workers=2).start(profile())
    stage.warm()
    stage.warm()
    (number,) = stage.infer(slo_ms=500)
    owner = next(worker for worker, action in stage.open.values() if isinstance(action, Infer))
    stage.lose_worker(owner)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_requests_are_answered_when_the_only_worker_is_lost() -> None:
    """Nobody waits for ever: without any worker requests are refused by their deadline."""
    stage = Stage().start(profile())
    stage.warm()
    numbers = stage.infer(count=5, slo_ms=300)
    stage.lose_worker()
    numbers += stage.infer(slo_ms=300)
    stage.advance(400)
    assert sorted(stage.answers()) == numbers


def test_a_worker_that_comes_back_is_used_with_what_it_still_has() -> None:
    """Its models are not loaded again, and warm weights serve at once."""
    stage = Stage().start(profile())
    stage.warm()
    stage.lose_worker()
    info = ModelInfo(ModelId(0), "model0", profile())
    stage.connect(0, stage.state([info], warm=[0]))
    assert stage.take(LoadModel) == []
    (number,) = stage.infer(slo_ms=50)
    assert stage.take(LoadWeights) == []
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_worker_that_comes_back_empty_gets_the_models_again() -> None:
    """It loads what it lacks in the background and serves again."""
    stage = Stage().start(profile())
    stage.warm()
    stage.lose_worker()
    stage.connect(0)
    assert [action.model_id for action in stage.take(LoadModel)] == [0]
    stage.settle()
    (number,) = stage.infer(slo_ms=500)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_controller_takes_over_what_workers_hold() -> None:
    """A new controller serves the models that its workers have without any LoadModel."""
    stage = Stage()
    info = ModelInfo(ModelId(4), "kept", profile())
    stage.connect(0, stage.state([info], warm=[4]))
    stage.advance(1_500)
    assert stage.role.is_serving
    (number,) = stage.infer(4, slo_ms=50)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS
    stage.load("new")
    loaded = stage.responses(LoadModelResponse)[-1]
    assert loaded.model is not None
    assert loaded.model.model_id == 5


def test_a_worker_with_another_page_size_is_not_used() -> None:
    """The console says why; the others go on."""
    stage = Stage(workers=2)
    stage.connect(0)
    gpus = (GpuState(GpuId(0), PAGE_BYTES, 2, 0, 0, ()),)
    stage.connect(1, WorkerState(PAGE_BYTES // 2, gpus, ()))
    assert any("its page size is 8388608" in line for line in stage.lines())


def test_gpus_are_shared_out_over_workers_up_to_the_limit() -> None:
    """With three GPUs allowed on two workers of two, the first gives one, the second two."""
    stage = Stage(workers=2, gpus=2, config=ControllerConfig(max_gpus=3)).start(profile())
    assert stage.role.is_serving
    counts = [len(worker.gpus) for worker in stage.role._cluster.workers]
    assert counts == [1, 2]


def test_stray_results_are_counted_and_harm_nobody() -> None:
    """Unknown, repeated and foreign results change nothing."""
    stage = Stage(workers=2).start(profile())
    stage.warm()
    (number,) = stage.infer(slo_ms=500)
    (infer,) = stage.take(Infer)
    owner = stage.open[infer.action_id][0]
    nothing = Timing(0, 0, 0)
    bogus = LoadModelDone(ActionId(10**6), profile(), 1, nothing, 0, 0)
    stage.handle(FromWorker(WorkerId(0), bogus, b"", stage.now_ns))
    foreign = WorkerStateDone(infer.action_id, stage.state(), 0, 0)
    stage.handle(FromWorker(WorkerId(1 - owner), foreign, b"", stage.now_ns))
    stage.succeed(infer)
    assert stage.answers()[number].status is Status.SUCCESS
    assert sum(stage.role.strays.values()) == 2


def test_a_result_of_the_wrong_kind_is_a_failure_of_its_action() -> None:
    """A confused worker costs an attempt, not the controller."""
    stage = Stage().start(profile())
    stage.warm()
    (number,) = stage.infer(slo_ms=500)
    (infer,) = stage.take(Infer)
    stage.result(WorkerStateDone(infer.action_id, stage.state(), 0, 0))
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS
    assert stage.role.strays["wrong kind of result"] == 1


def test_the_story_of_an_open_request_names_its_action() -> None:
    """For failing simulations the role tells where a request is."""
    stage = Stage().start(profile())
    stage.warm()
    stage.infer(slo_ms=500)
    client = stage.role._ledger.clients[CLIENT]
    (request_id,) = client.requests
    assert "assigned" in stage.role.story(request_id)
    assert f"in=[A{stage.take(Infer)[0].action_id}" in stage.role.story(request_id)


def test_two_clients_may_use_the_same_numbers() -> None:
    """A request's number is the client's own; answers go to whom they belong."""
    stage = Stage().start(profile())
    stage.warm()
    stage.infer(client=ClientId(1), slo_ms=500)
    stage._next_request = 1
    stage.infer(client=ClientId(2), slo_ms=500)
    stage.settle()
    assert stage.now_ns < BEGIN_NS + 10 * SECOND
    assert sum(client.requests != {} for client in stage.role._ledger.clients.values()) == 0


def test_requests_that_waited_too_long_to_be_read_are_shed() -> None:
    """After a pause, what waited for half of its SLO is refused at once, the rest is served."""
    stage = Stage().start(profile())
    stage.warm()
    numbers = waited(stage, 51, 49)
    stage.settle()
    answers = stage.answers()
    assert answers[numbers[0]].status is Status.COULD_NOT_START_IN_TIME
    assert "overloaded" in answers[numbers[0]].message
    assert answers[numbers[1]].status is Status.SUCCESS
    assert sorted(row.result for row in stage.records(RequestRecord)) == [0, 8]


def test_an_overload_that_lasts_sheds_what_waited_for_a_quarter_of_its_slo() -> None:
    """The patience with a pause ends after 300 ms; a request that had not waited renews it."""
    stage = Stage().start(profile())
    stage.warm()

    def is_served(waited_ms: int) -> bool:
        end_ns = stage.now_ns + 40 * MS
        (number,) = waited(stage, waited_ms)
        stage.settle()
        stage.advance((end_ns - stage.now_ns) / MS)
        return stage.answers()[number].status is Status.SUCCESS

    assert [is_served(40) for _ in range(7)] == [True] * 7
    assert [is_served(26), is_served(24), is_served(26)] == [False, True, False]
    assert [is_served(4), is_served(26), is_served(40)] == [True] * 3


def test_the_wait_of_a_request_that_is_refused_at_once_counts() -> None:
    """It is in its latency, in its row, and in what it is told that it needs."""
    stage = Stage().start(profile())
    stage.warm()
    impossible, late = waited(stage, 4, slo_ms=6) + waited(stage, 4, slo_ms=10)
    answers = stage.answers()
    # The wait, an execution of 3 ms, the buffer of 5 ms.
    assert "needs 12.0 ms" in answers[impossible].message
    assert "needs 12.0 ms" in answers[late].message
    assert answers[impossible].latency_ns == answers[late].latency_ns == 4 * MS
    assert [row.latency for row in stage.records(RequestRecord)] == [4 * MS, 4 * MS]


def waited(stage: Stage, *waits_ms: int, slo_ms: int = 100) -> list[int]:
    """Hand over requests that have waited; return their numbers."""
    events = []
    for wait_ms in waits_ms:
        stage._next_request += 1
        message = InferRequest(stage._next_request, 0, ModelId(0), slo_ms * MS)
        events.append(FromClient(CLIENT, message, b"", stage.now_ns - wait_ms * MS))
    stage.handle(*events)
    return [event.message.user_request_id for event in events]
