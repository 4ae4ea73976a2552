"""Workers that join a running controller, and workers that leave it in order."""

from controller_stage import Stage, profile

from clockwork.controller.config import ControllerConfig
from clockwork.messages.actions import Infer, LoadModel, LoadWeights
from clockwork.messages.controller_io import Dismiss, WorkerConnected, WorkerLeaving
from clockwork.messages.ids import ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.remembered import Remembered
from clockwork.messages.status import ActionStatus, Status


def leave(stage: Stage, worker: int = 0) -> None:
    """A worker says that it is about to end."""
    stage.handle(WorkerLeaving(WorkerId(worker), "maintenance"))


def dismissed(stage: Stage) -> list[int]:
    """Return the workers that were told to go, in order."""
    return [effect.worker_id for effect in stage.effects if isinstance(effect, Dismiss)]


def test_a_worker_that_nobody_named_is_taken_into_use() -> None:
    """It loads the models that others have, then its GPUs serve."""
    stage = Stage(workers=1, gpus=2).start(profile())
    stage.connect(3)
    assert len(stage.role.cluster.gpus) == 4
    (load,) = stage.take(LoadModel, worker=3)
    stage.succeed(load)
    stage.lose_worker(0)
    (number,) = stage.infer(slo_ms=500)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_cluster_may_begin_with_no_worker_at_all() -> None:
    """The first one that joins begins the startup."""
    stage = Stage(workers=0)
    stage.advance(30_000)
    stage.connect(0)
    stage.load("model0")
    stage.advance(1_500)
    assert stage.role.is_serving


def test_joining_respects_the_limit_of_gpus() -> None:
    """GPUs beyond the limit are not used, and the console says so."""
    stage = Stage(workers=1, gpus=2, config=ControllerConfig(max_gpus=3)).start(profile())
    stage.connect(1)
    stage.connect(2)
    workers = stage.role.cluster.workers
    assert [len(worker.gpus) for worker in workers] == [2, 1, 0]
    assert any("Worker 2 is not used: 3 GPUs" in line for line in stage.lines())


def test_gpus_keep_their_indexes_when_a_worker_comes_back_larger() -> None:
    """What it had before has the same index; what is new comes behind."""
    stage = Stage(workers=2, gpus=1).start(profile())
    stage.lose_worker(0)
    stage.gpus = 2
    stage.connect(0)
    owners = [(gpu.worker.worker_id, gpu.gpu_id) for gpu in stage.role.cluster.gpus]
    assert owners == [(0, 0), (1, 0), (0, 1)]


def test_workers_that_had_joined_are_waited_for_after_a_restart() -> None:
    """A remembered worker belongs to those that the startup waits for."""
    model = ModelInfo(ModelId(0), "a", profile())
    memory = Remembered(models=(model,), next_model_id=ModelId(1), workers=(WorkerId(1),))
    stage = Stage(workers=1, remembered=memory)
    stage.connect(0, stage.state([model]))
    assert not stage.role.is_serving
    stage.connect(1, stage.state([model]))
    assert stage.role.is_serving


def test_a_worker_that_leaves_finishes_and_is_dismissed() -> None:
    """It gets nothing new; when it owes nothing it may go."""
    stage = Stage(workers=2).start(profile())
    stage.warm()
    (first,) = stage.infer()
    (running,) = stage.take(Infer)
    owner = stage.open[running.action_id][0]
    leave(stage, owner)
    assert dismissed(stage) == []
    (second,) = stage.infer(slo_ms=500)
    assert stage.take(Infer, worker=owner) == [running]
    stage.succeed(running)
    assert stage.answers()[first].status is Status.SUCCESS
    assert dismissed(stage) == [owner]
    stage.lose_worker(owner)
    stage.settle()
    assert stage.answers()[second].status is Status.SUCCESS


def test_an_idle_worker_may_leave_at_once() -> None:
    """Nothing is owed, so nothing is waited for."""
    stage = Stage(workers=2).start(profile())
    leave(stage, 1)
    assert dismissed(stage) == [1]
    stage.advance(10_000)
    assert dismissed(stage) == [1]


def test_requests_that_wait_for_the_weights_of_a_leaving_worker_get_others() -> None:
    """Queued requests have the weights loaded elsewhere, without a further request."""
    stage = Stage(workers=2).start(profile())
    stage.infer(slo_ms=500)
    (load,) = stage.take(LoadWeights)
    owner = stage.open[load.action_id][0]
    leave(stage, owner)
    assert [each.model_id for each in stage.take(LoadWeights, worker=1 - owner)] == [0]


def test_actions_that_a_leaving_worker_cancels_are_tried_elsewhere() -> None:
    """A worker that does not wait for its queue costs no request."""
    stage = Stage(workers=2).start(profile())
    stage.warm()
    (number,) = stage.infer(slo_ms=500)
    (running,) = stage.take(Infer)
    owner = stage.open[running.action_id][0]
    leave(stage, owner)
    stage.fail(running, ActionStatus.CANCELLED)
    assert dismissed(stage) == [owner]
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_worker_that_leaves_before_it_has_reported_is_not_used() -> None:
    """Its report comes too late."""
    stage = Stage(workers=2).start(profile())
    stage.handle(WorkerConnected(WorkerId(2)))
    leave(stage, 2)
    stage.report(2)
    assert not stage.role.cluster.workers[2].is_ready
    assert dismissed(stage) == [2]


def test_a_worker_that_left_may_come_back() -> None:
    """A new connection is a new beginning."""
    stage = Stage(workers=1).start(profile())
    leave(stage)
    stage.lose_worker()
    stage.connect(0, stage.state([ModelInfo(ModelId(0), "model0", profile())]))
    (number,) = stage.infer(slo_ms=500)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS
