"""A controller that takes up where the last one ended, and one that ends in order."""

from controller_stage import CLIENT, Stage, profile

from clockwork.controller.config import ControllerConfig
from clockwork.controller.startup import REMEMBERED_WAIT_NS
from clockwork.messages.actions import Infer, LoadModel, LoadWeights, UnloadModel
from clockwork.messages.controller_io import ControllerEffect, FromClient, StopAsked, Stopped
from clockwork.messages.ids import GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.remembered import Measured, MeasuredLoad, Remember, Remembered
from clockwork.messages.requests import (
    DoneResponse,
    InferRequest,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    UnloadModelRequest,
)
from clockwork.messages.status import Status
from clockwork.units import MS

WAIT_MS = REMEMBERED_WAIT_NS / MS


def left(*sources: str, next_id: int | None = None) -> Remembered:
    """Return the memory of models with the ids 0, 1, ... and these sources."""
    return Remembered(
        models=tuple(info(index, source) for index, source in enumerate(sources)),
        next_model_id=ModelId(len(sources) if next_id is None else next_id),
    )


def info(model: int, source: str) -> ModelInfo:
    """Return a model as workers report it and controllers remember it."""
    return ModelInfo(ModelId(model), source, profile())


def told(stage: Stage) -> list[Remember]:
    """Return what the role has told to be remembered."""
    return [effect for effect in stage.effects if isinstance(effect, Remember)]


def listed(stage: Stage) -> list[int]:
    """Return the ids of all models that can be asked for."""
    stage.request(LsRequest(9_999, 0))
    return [each.model_id for each in stage.responses(LsResponse)[-1].models]


def test_without_a_memory_nothing_is_told() -> None:
    """A controller whose shell keeps nothing does not collect anything."""
    stage = Stage().start(profile())
    stage.warm()
    stage.advance(60_000)
    assert told(stage) == []


def test_models_are_told_when_they_come_and_go() -> None:
    """Each change is told once, with the next free id."""
    stage = Stage(remembered=Remembered())
    stage.connect()
    stage.load("a", copies=2)
    (come,) = told(stage)
    assert [each.model_id for each in come.models] == [0, 1]
    assert [each.source for each in come.models] == ["a", "a"]
    assert come.next_model_id == 2
    stage.advance(1_500)
    stage.effects.clear()
    stage.request(UnloadModelRequest(1, 0, ModelId(1)))
    stage.settle()
    (gone,) = told(stage)
    assert (gone.models, gone.removed, gone.next_model_id) == ((), (1,), 2)


def test_measurements_are_told_now_and_then() -> None:
    """Some seconds after something was measured it is told, and nothing after that."""
    stage = Stage(remembered=Remembered()).start(profile())
    stage.warm()
    stage.advance(10_000)
    (new,) = told(stage)
    assert new.loads == (MeasuredLoad(ModelId(0), new.loads[0].load_ns),)
    (measured,) = new.measured
    assert (measured.model_id, measured.worker_id, measured.gpu_id) == (0, 0, 0)
    assert measured.sizes == (1, 2, 4, 8, 16)
    stage.advance(60_000)
    assert len(told(stage)) == 1
    assert stage.role.wakeup_ns is None


def test_a_restarted_controller_serves_at_once_what_workers_still_have() -> None:
    """Nothing is loaded anew, ids and warm weights hold, and no load phase is waited for."""
    stage = Stage(remembered=left("a", "b"))
    stage.connect(state=stage.state([info(0, "a"), info(1, "b")], warm=[1]))
    assert stage.role.is_serving
    assert stage.take(LoadModel) == []
    (number,) = stage.infer(1)
    assert stage.take(LoadWeights) == []
    stage.succeed(stage.take(Infer)[0])
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_restarted_controller_expects_what_it_had_measured() -> None:
    """Estimates per GPU and the load time are those of the last controller."""
    memory = Remembered(
        models=(info(0, "a"),),
        next_model_id=ModelId(1),
        measured=(Measured(ModelId(0), WorkerId(0), GpuId(1), (1, 2, 3), (5 * MS, 7 * MS, 1)),),
        loads=(MeasuredLoad(ModelId(0), 21 * MS),),
    )
    stage = Stage(gpus=2, remembered=memory)
    stage.connect(state=stage.state([info(0, "a")]))
    model, gpus = stage.role.cluster.models[ModelId(0)], stage.role.cluster.gpus
    assert model.on(gpus[1]).exec_ns[:3] == [5 * MS, 7 * MS, 6 * MS]
    assert model.load.estimate_ns == 21 * MS
    assert model.first_exec_ns == 3 * MS


def test_a_restored_estimate_that_nothing_confirms_loses_its_weight() -> None:
    """A device that was slow before the restart does not keep requests away for ever."""
    memory = Remembered(
        models=(info(0, "a"),),
        next_model_id=ModelId(1),
        measured=(Measured(ModelId(0), WorkerId(0), GpuId(0), (1,), (900 * MS,)),),
    )
    stage = Stage(remembered=memory)
    stage.connect(state=stage.state([info(0, "a")], warm=[0]))
    numbers = []
    for _ in range(20):
        numbers += stage.infer(slo_ms=100)
        stage.advance(250)
    assert stage.answers()[numbers[0]].status is Status.COULD_NOT_START_IN_TIME
    assert stage.take(Infer)


def test_what_workers_lack_is_loaded_and_copies_together() -> None:
    """Copies of one model are one LoadModel, so that they share host memory."""
    stage = Stage(remembered=left("a", "a", "a", "b"))
    stage.connect()
    loads = [(each.path, each.model_id, each.copies) for each in stage.take(LoadModel)]
    assert loads == [("a", 0, 3), ("b", 3, 1)]
    stage.settle(took_ms=0)
    assert stage.role.is_serving
    assert listed(stage) == [0, 1, 2, 3]


def test_models_that_take_long_are_not_waited_for() -> None:
    """After a second what is there is served; the rest follows."""
    stage = Stage(remembered=left("a", "b"))
    stage.connect(state=stage.state([info(0, "a")]))
    (slow,) = stage.take(LoadModel)
    stage.advance(WAIT_MS - 1)
    assert not stage.role.is_serving
    stage.advance(2)
    assert stage.role.is_serving
    stage.succeed(slow)
    (number,) = stage.infer(1, slo_ms=500)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_worker_that_does_not_come_is_waited_for_a_second() -> None:
    """With models remembered the wait for the last worker is a short one."""
    stage = Stage(workers=2, remembered=left("a"))
    stage.connect(0, stage.state([info(0, "a")]))
    stage.advance(WAIT_MS - 1)
    assert not stage.role.is_serving
    stage.advance(2)
    assert stage.role.is_serving


def test_a_memory_without_workers_waits_for_the_first_one() -> None:
    """However late the first worker is, the controller then serves within a second."""
    stage = Stage(workers=2, remembered=left("a"))
    stage.advance(100_500)
    stage.connect(1, stage.state([info(0, "a")]))
    stage.advance(WAIT_MS)
    assert stage.role.is_serving


def test_a_fixed_set_of_models_has_its_load_phase_all_the_same() -> None:
    """Where LoadModel is refused later, clients get the time to load."""
    config = ControllerConfig(is_model_set_fixed=True)
    stage = Stage(config=config, remembered=left("a"))
    stage.connect(state=stage.state([info(0, "a")]))
    assert not stage.role.is_serving
    stage.load("b")
    stage.advance(1_500)
    assert stage.role.is_serving
    assert listed(stage) == [0, 1]


def test_a_model_that_was_unloaded_does_not_come_back_with_an_old_worker() -> None:
    """An id below the remembered one that is not listed is removed from the worker."""
    stage = Stage(remembered=left("a", next_id=5))
    stage.connect(state=stage.state([info(0, "a"), info(3, "old"), info(7, "newer")]))
    assert [each.model_id for each in stage.take(UnloadModel)] == [3]
    assert listed(stage) == [0, 7]


def test_a_model_that_was_unloaded_meanwhile_does_not_come_back_either() -> None:
    """A worker that was away when a model was unloaded has to unload it when it returns."""
    stage = Stage(workers=2).start(profile(), profile())
    stage.lose_worker(1)
    stage.request(UnloadModelRequest(1, 0, ModelId(0)))
    stage.settle()
    models = [info(0, "model0"), info(1, "model1")]
    stage.connect(1, stage.state(models))
    assert [each.model_id for each in stage.take(UnloadModel, worker=1)] == [0]
    assert listed(stage) == [1]


def test_ids_are_never_used_again() -> None:
    """The next model gets the id that the last controller would have given."""
    stage = Stage(remembered=left("a", next_id=5))
    stage.connect(state=stage.state([info(0, "a")]))
    stage.load("b")
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.model is not None
    assert answer.model.model_id == 5


def test_a_worker_with_another_model_under_the_path_is_not_used_for_it() -> None:
    """What a late worker has loaded must look like what others have."""
    stage = Stage(remembered=left("a"))
    stage.profiles["a"] = profile(pages=3)
    stage.connect()
    stage.succeed(stage.take(LoadModel)[0], took_ms=0)
    assert [each.model_id for each in stage.take(UnloadModel)] == [0]


def stop(stage: Stage) -> list[ControllerEffect]:
    """Ask the role to stop; return what it does at once."""
    return stage.handle(StopAsked())


def test_stopping_answers_what_is_under_way_and_refuses_the_rest() -> None:
    """`Stopped` comes with the last answer; new requests get status 5 and a reason."""
    stage = Stage().start(profile())
    stage.warm()
    (running,) = stage.infer()
    assert Stopped() not in stop(stage)
    (late,) = stage.infer()
    assert stage.answers()[late].status is Status.INITIALIZING
    assert "shutting down" in stage.answers()[late].message
    stage.settle()
    assert stage.answers()[running].status is Status.SUCCESS
    assert stage.effects.count(Stopped()) == 1
    stage.advance(60_000)
    assert stage.effects.count(Stopped()) == 1


def test_stopping_refuses_requests_of_every_kind() -> None:
    """Each gets a response of its own kind."""
    stage = Stage().start(profile())
    assert Stopped() in stop(stage)
    stage.request(LoadModelRequest(1, 0, "a"))
    stage.request(LsRequest(2, 0))
    stage.request(UnloadModelRequest(3, 0, ModelId(0)))
    for kind in (LoadModelResponse, LsResponse, DoneResponse):
        (answer,) = stage.responses(kind)
        assert answer.status is Status.INITIALIZING


def test_stopping_during_startup_answers_those_that_wait() -> None:
    """Held requests and early LoadModels are answered at once."""
    stage = Stage()
    stage.request(LoadModelRequest(1, 0, "a"))
    stage.handle(FromClient(CLIENT, InferRequest(2, 0, ModelId(0)), b"", stage.now_ns))
    assert Stopped() in stop(stage)
    assert stage.answers()[2].status is Status.INITIALIZING
    assert [each.status for each in stage.responses(LoadModelResponse)] == [Status.INITIALIZING]


def test_stopping_waits_for_a_model_that_is_being_loaded() -> None:
    """Its client gets the outcome."""
    stage = Stage().start(profile())
    stage.request(LoadModelRequest(1, 0, "b"))
    assert Stopped() not in stop(stage)
    stage.settle()
    assert [each.status for each in stage.responses(LoadModelResponse)] == [Status.SUCCESS]
    assert Stopped() in stage.effects


def test_stopping_tells_all_that_was_measured() -> None:
    """The last seconds' measurements are not lost when the end is orderly."""
    stage = Stage(remembered=Remembered()).start(profile())
    stage.warm()
    stop(stage)
    (new,) = told(stage)
    assert len(new.measured) == 1
    assert len(new.loads) == 1
