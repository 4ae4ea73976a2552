"""Placement after loads that failed."""

from controller_stage import Stage, profile

from clockwork.messages.actions import LoadWeights
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
