"""Reports about workers, and empty caches, through the controller role."""

from controller_stage import PAGE_BYTES, Stage, profile

from clockwork.messages.actions import ClearCache, ClearCacheDone, Infer, LoadWeights
from clockwork.messages.models import WorkerReport
from clockwork.messages.requests import (
    ClearCacheRequest,
    DoneResponse,
    WorkersRequest,
    WorkersResponse,
)
from clockwork.messages.status import ActionStatus, Status


def reports(stage: Stage) -> list[WorkerReport]:
    """Ask for the workers; return what is told."""
    stage.request(WorkersRequest(500, 0))
    (response,) = stage.responses(WorkersResponse)
    stage.effects.clear()
    assert response.status is Status.SUCCESS
    return list(response.workers)


def clear(stage: Stage) -> list[ClearCache]:
    """Ask for empty caches; return the actions."""
    stage.request(ClearCacheRequest(501, 0))
    return stage.take(ClearCache)


def cleared(stage: Stage, action: ClearCache) -> None:
    """A worker has emptied its caches."""
    stage.result(ClearCacheDone(action.action_id, stage.now_ns, stage.now_ns))


def test_workers_are_told_as_they_are_believed_to_be() -> None:
    """Warm models, models on their way, free pages, and whether they are connected."""
    stage = Stage(workers=2, gpus=2, worker_addresses=("gpu7:12345",))
    stage.start(profile(pages=3), profile(pages=2))
    stage.warm(0)
    stage.infer(1)
    (load,) = stage.take(LoadWeights)
    first, second = reports(stage)
    assert (first.worker_id, first.address, first.is_connected) == (0, "gpu7:12345", True)
    assert (first.page_bytes, first.model_count) == (PAGE_BYTES, 2)
    assert (second.address, second.is_connected) == ("", True)
    gpus = [gpu for report in (first, second) for gpu in report.gpus]
    assert [gpu.warm for gpu in gpus].count((0,)) == 1
    assert [gpu.loading for gpu in gpus].count((1,)) == 1
    assert sum(gpu.pages - gpu.free_pages for gpu in gpus) == 5
    assert [gpu.open_actions for gpu in gpus if gpu.loading] == [1]
    assert load.model_id == 1


def test_a_lost_worker_is_told_without_its_weights() -> None:
    """Its GPUs are known and empty."""
    stage = Stage(workers=2).start(profile())
    stage.warm()
    stage.lose_worker(0)
    first, second = reports(stage)
    assert (first.is_connected, second.is_connected) == (False, True)
    assert first.gpus[0].warm == ()
    assert first.model_count == 0


def test_workers_are_told_before_there_are_any() -> None:
    """A controller whose workers never came says so in its startup."""
    stage = Stage(workers=1)
    (report,) = reports(stage)
    assert not report.is_connected
    assert report.gpus == ()


def test_clearing_empties_every_cache() -> None:
    """It is answered when all workers have answered; the next request is a cold start."""
    stage = Stage(workers=2).start(profile())
    stage.warm()
    first, second = clear(stage)
    cleared(stage, first)
    assert stage.responses(DoneResponse) == []
    cleared(stage, second)
    assert stage.responses(DoneResponse) == [DoneResponse(501, Status.SUCCESS, "")]
    assert not stage.role.cluster.models[0].warm_mask  # type: ignore[index]
    assert all(gpu.free_pages == gpu.pages for gpu in stage.role.cluster.gpus)
    (number,) = stage.infer(slo_ms=100)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS
    assert stage.answers()[number].is_cold_start


def test_what_runs_while_the_cache_is_cleared_is_tried_again() -> None:
    """The worker's failure (84) does not reach the client."""
    stage = Stage().start(profile())
    stage.warm()
    (number,) = stage.infer(slo_ms=200)
    (infer,) = stage.take(Infer)
    (action,) = clear(stage)
    stage.fail(infer, ActionStatus.EXEC_CONCURRENT_WEIGHTS_MODIFICATION)
    cleared(stage, action)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_what_is_loaded_while_the_cache_is_cleared_is_loaded_again() -> None:
    """The worker's failure (54) frees the pages."""
    stage = Stage().start(profile())
    (number,) = stage.infer(slo_ms=1_000)
    (load,) = stage.take(LoadWeights)
    (action,) = clear(stage)
    stage.fail(load, ActionStatus.LOAD_WEIGHTS_CONCURRENT_MODIFICATION)
    cleared(stage, action)
    stage.advance(200)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_clearing_without_workers_is_done_at_once() -> None:
    """There is nothing to clear, and a worker that leaves has nothing either."""
    stage = Stage(workers=1)
    assert clear(stage) == []
    assert [each.status for each in stage.responses(DoneResponse)] == [Status.SUCCESS]
    stage = Stage().start(profile())
    clear(stage)
    stage.lose_worker()
    assert [each.status for each in stage.responses(DoneResponse)] == [Status.SUCCESS]


def test_a_worker_that_cannot_clear_is_named() -> None:
    """Its message is passed on."""
    stage = Stage().start(profile())
    (action,) = clear(stage)
    stage.fail(action, ActionStatus.RUNTIME_ERROR, "no way")
    assert stage.responses(DoneResponse) == [DoneResponse(501, Status.ERROR, "worker 0: no way")]
