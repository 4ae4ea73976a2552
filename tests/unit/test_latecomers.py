"""Workers that connect late, and models that they could not load at first."""

from controller_stage import Stage, profile

from clockwork.messages.actions import LoadModel, LoadWeights, UnloadModel
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo
from clockwork.messages.requests import DoneResponse, LoadModelRequest, UnloadModelRequest
from clockwork.messages.status import ActionStatus, Status


def test_a_late_worker_that_could_not_load_a_model_tries_again() -> None:
    """A model that others have is asked for again after a pause, until it is there."""
    stage = Stage(workers=2).start(profile())
    stage.lose_worker(1)
    stage.connect(1)
    for _ in range(3):
        (load,) = stage.take(LoadModel, worker=1)
        stage.fail(load, ActionStatus.RUNTIME_ERROR, "host memory is short")
        assert stage.take(LoadModel) == []
        stage.advance(1_000)
    (load,) = stage.take(LoadModel, worker=1)
    stage.succeed(load)
    stage.advance(5_000)
    assert stage.take(LoadModel) == []


def test_a_worker_that_connects_during_a_load_gets_the_model_as_well() -> None:
    """Who was not asked when the load began is asked when it has succeeded."""
    stage = Stage(workers=2).start(profile())
    stage.lose_worker(1)
    stage.request(LoadModelRequest(77, 0, "model1", 1))
    (first,) = stage.take(LoadModel, worker=0)
    stage.connect(1)
    assert [load.model_id for load in stage.take(LoadModel, worker=1)] == [0]
    stage.succeed(first)
    assert [load.model_id for load in stage.take(LoadModel, worker=1)] == [0, 1]


def test_a_model_that_was_unloaded_while_a_late_worker_loads_it_stays_away() -> None:
    """The late copy is removed again, and nobody can ask for it."""
    stage = Stage(workers=2).start(profile())
    stage.lose_worker(1)
    stage.connect(1)
    (load,) = stage.take(LoadModel, worker=1)
    stage.request(UnloadModelRequest(77, 0, ModelId(0)))
    (unload,) = stage.take(UnloadModel, worker=0)
    stage.succeed(unload)
    assert [answer.status for answer in stage.responses(DoneResponse)] == [Status.SUCCESS]
    stage.succeed(load)
    assert [action.model_id for action in stage.take(UnloadModel, worker=1)] == [0]
    (number,) = stage.infer()
    assert stage.answers()[number].status is Status.ERROR


def test_a_request_that_waits_for_a_worker_has_its_weights_loaded_there() -> None:
    """It came while no worker was there; the one that comes gets the model, then the weights."""
    stage = Stage().start(profile())
    stage.lose_worker()
    (number,) = stage.infer(slo_ms=30_000)
    stage.advance(1_000)
    assert stage.take(LoadWeights) == []
    stage.connect()
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_models_that_a_later_worker_reports_are_loaded_by_those_before_it() -> None:
    """A new controller spreads what it finds on one worker to the others, in whatever order."""
    stage = Stage(workers=2)
    stage.connect(0)
    info = ModelInfo(ModelId(3), "kept", profile())
    stage.connect(1, stage.state([info]))
    assert [load.model_id for load in stage.take(LoadModel, worker=0)] == [3]
    assert stage.take(LoadModel, worker=1) == []
