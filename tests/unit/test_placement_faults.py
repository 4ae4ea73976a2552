"""Placement after loads that failed."""

from controller_stage import Stage, profile

from clockwork.messages.actions import EvictWeights, LoadWeights
from clockwork.messages.status import ActionStatus


def test_a_gpu_that_pauses_after_a_failed_load_gets_a_copy_later() -> None:
    """A pause is no reason to give up replicating: the GPU takes loads again when it is over."""
    stage = Stage(gpus=2).start(profile())
    stage.infer(slo_ms=1_000)
    (first,) = stage.take(LoadWeights)
    stage.succeed(first)
    stage.infer(slo_ms=1_000)
    (copy,) = stage.take(LoadWeights)
    stage.fail(copy, ActionStatus.LOAD_WEIGHTS_TOO_LATE)
    stage.infer(slo_ms=1_000)
    assert stage.take(LoadWeights) == [], "the GPU pauses"
    stage.settle()
    stage.advance(200)
    stage.infer(slo_ms=1_000)
    (again,) = stage.take(LoadWeights)
    assert again.gpu_id == copy.gpu_id


def test_an_overloaded_model_takes_the_place_of_one_that_nobody_needs() -> None:
    """With no page free anywhere, unsatisfied demand evicts what is idle on another GPU."""
    stage = Stage(gpus=2, pages=1).start(profile(), profile())
    stage.warm(0)
    stage.warm(1)
    loads = []
    for _ in range(40):
        stage.infer(0, count=20, slo_ms=100)
        loads = stage.take(LoadWeights)
        if loads:
            break
        stage.advance(3)
    (load,) = loads
    (evict,) = stage.take(EvictWeights)
    assert (load.model_id, evict.model_id) == (0, 1)
    assert load.gpu_id == evict.gpu_id


def test_a_further_copy_does_not_take_the_only_one_of_a_model_that_is_needed() -> None:
    """Two overloaded models on two GPUs with a page each do not drive each other out."""
    stage = Stage(gpus=2, pages=1).start(profile(), profile())
    stage.warm(0)
    stage.warm(1)
    for _ in range(20):
        stage.infer(0, count=20, slo_ms=100)
        stage.infer(1, count=20, slo_ms=100)
        stage.advance(3)
    assert stage.take(EvictWeights) == []
