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
from clockwork.messages.controller_io import FromWorker
from clockwork.messages.ids import ActionId, ClientId, GpuId, ModelId, WorkerId
from clockwork.messages.models import GpuState, ModelInfo, WorkerState
from clockwork.messages.requests import (
    LoadModelResponse,
)
from clockwork.messages.status import Status
from clockwork.units import SECOND


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
