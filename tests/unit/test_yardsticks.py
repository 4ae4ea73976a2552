"""ECHO and DIRECT, through the role."""

from controller_stage import Stage, profile

from clockwork.controller.assembly import PolicyFactory
from clockwork.controller.core import ControllerRole
from clockwork.controller.policies.direct import Direct
from clockwork.controller.policies.echo import Echo
from clockwork.messages.actions import Infer, LoadWeights
from clockwork.messages.controller_io import ToWorker
from clockwork.messages.ids import ModelId
from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.messages.requests import EvictRequest
from clockwork.messages.status import ActionStatus, Status


def stage_with(make_policy: PolicyFactory, **options: int) -> Stage:
    """Return a serving stage with one model under another policy."""
    return Stage(make_policy=make_policy, **options).start(profile())  # type: ignore[arg-type]


def test_echo_answers_at_once_without_a_worker() -> None:
    """Every request succeeds in the step that it arrives in, and no action is sent."""
    stage = stage_with(Echo)
    numbers = stage.infer(count=3, payload=bytes(16))
    assert [stage.answers()[number].status for number in numbers] == [Status.SUCCESS] * 3
    assert stage.records(ToWorker) == []
    assert [row.latency for row in stage.records(RequestRecord)] == [0, 0, 0]


def test_direct_loads_once_and_then_forwards() -> None:
    """The first request of a model on a GPU loads its weights, the next does not."""
    stage = stage_with(Direct)
    (first,) = stage.infer(payload=bytes(16))
    assert [len(stage.take(kind)) for kind in (LoadWeights, Infer)] == [1, 1]
    stage.settle()
    (second,) = stage.infer()
    assert stage.take(LoadWeights) == []
    stage.settle()
    statuses = [stage.answers()[number].status for number in (first, second)]
    assert statuses == [Status.SUCCESS] * 2
    assert [row.action_type for row in stage.records(ActionRecord)] == [1, 2, 2]


def test_direct_alternates_between_two_gpus() -> None:
    """Even request numbers go to GPU 1, odd ones to GPU 0."""
    stage = stage_with(Direct, gpus=2)
    numbers = [stage.infer()[0] for _ in range(2)]
    placed = [infer.gpu_id for infer in stage.take(Infer)]
    assert placed == [1 if number % 2 == 0 else 0 for number in numbers]


def test_direct_hands_failures_to_the_client() -> None:
    """A worker's failure is status 1 with the worker's words."""
    stage = stage_with(Direct)
    stage.infer()
    stage.settle()
    (number,) = stage.infer()
    stage.fail(stage.take(Infer)[0], ActionStatus.EXEC_TOO_LATE, "window closed")
    answer = stage.answers()[number]
    assert answer.status is Status.ERROR
    assert answer.message == "window closed (worker status 81)"


def test_direct_says_when_a_gpu_is_full() -> None:
    """Without a free page the client learns that it has to evict, and then can go on."""
    stage = Stage(make_policy=Direct, pages=1).start(profile(), profile())
    stage.infer(0)
    stage.settle()
    (refused,) = stage.infer(1)
    assert "evicts nothing" in stage.answers()[refused].message
    stage.request(EvictRequest(77, 0, ModelId(0)))
    (number,) = stage.infer(1)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_direct_answers_when_its_worker_is_lost() -> None:
    """Nobody waits for a worker that is gone."""
    stage = stage_with(Direct)
    numbers = stage.infer()
    stage.lose_worker()
    numbers += stage.infer()
    answers = stage.answers()
    assert [answers[number].status for number in numbers] == [Status.ERROR] * 2
    assert isinstance(stage.role, ControllerRole)
