"""Every status code that exists is provoked at the role that gives it, and is documented."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import controller_stage
import pytest
import worker_stage
from msgspec.structs import replace
from worker_stage import (
    clear_cache,
    evict,
    infer,
    load_model,
    load_weights,
    statuses,
    unload,
)

from clockwork.controller.config import ControllerConfig
from clockwork.messages.actions import Infer
from clockwork.messages.requests import LoadModelRequest, LoadModelResponse
from clockwork.messages.status import ActionStatus, Status
from clockwork.messages.worker_io import (
    InferTask,
    LoadModelTask,
    LoadWeightsTask,
    Shutdown,
    WorkerEffect,
)
from clockwork.units import MS

S = ActionStatus
DOCS: Final = Path(__file__).parents[2] / "docs" / "status-codes.md"
ORIGINAL_CLIENT: Final = {0, 1, 4, 5, 6, 7, 8}
ORIGINAL_WORKER: Final = {
    *range(4), *range(10, 14), *range(20, 24), 30, 31, 40, 41, 45, *range(50, 55), *range(60, 64),
    *range(70, 79), *range(80, 85), *range(90, 93),
}  # fmt: skip
"""The numbers of the original."""


def worker() -> worker_stage.Stage:
    """Return a worker on which model 0 is warm, and model 1 cold and too large for the rest."""
    return worker_stage.Stage().warm(0).loaded(1, pages=7)


def queued_at_the_end() -> list[WorkerEffect]:
    """A worker is shut down while an action is queued."""
    stage = worker()
    stage.send(infer(), infer())
    return stage.handle(Shutdown())


def new_at_the_end() -> list[WorkerEffect]:
    """An action comes to a worker that is shutting down."""
    stage = worker()
    stage.handle(Shutdown())
    return stage.send(infer())


def cleared_during_a_load() -> list[WorkerEffect]:
    """Weights are cleared while they are loaded."""
    stage = worker_stage.Stage().loaded(0)
    stage.send(load_weights(), clear_cache())
    return stage.end(LoadWeightsTask)


def cleared_during_an_infer() -> list[WorkerEffect]:
    """Weights are cleared while they are used."""
    stage = worker()
    stage.send(infer(), clear_cache())
    return stage.end(InferTask)


def unreadable_model() -> list[WorkerEffect]:
    """The device finds no model at the path."""
    stage = worker()
    stage.send(load_model(7))
    return stage.fail(LoadModelTask, S.INVALID_MODEL_PATH)


def failing_infer(status: ActionStatus) -> Callable[[], list[WorkerEffect]]:
    """The device cannot run a batch, for a reason that only it can know."""

    def provoke() -> list[WorkerEffect]:
        stage = worker()
        stage.send(infer())
        return stage.fail(InferTask, status)

    return provoke


ACTIONS: Final[dict[ActionStatus, Callable[[], list[WorkerEffect]]]] = {
    S.SUCCESS: lambda: worker().send(evict()),
    S.CANCELLED: queued_at_the_end,
    S.RUNTIME_ERROR: failing_infer(S.RUNTIME_ERROR),
    S.SHUTTING_DOWN: new_at_the_end,
    S.UNKNOWN_MODEL: lambda: worker().send(unload(9)),
    S.COULD_NOT_START_IN_TIME: lambda: worker().send(load_model(7, latest=999)),
    S.INVALID_ACTION: lambda: worker().send(load_model(7, copies=0)),
    S.INVALID_GPU: lambda: worker().send(infer(gpu=1)),
    S.INVALID_MODEL_ID: lambda: worker().send(load_model(0)),
    S.INVALID_MODEL_PATH: unreadable_model,
    S.LOAD_WEIGHTS_TOO_LATE: lambda: worker().send(load_weights(latest=999)),
    S.LOAD_WEIGHTS_UNKNOWN_MODEL: lambda: worker().send(load_weights(9)),
    S.LOAD_WEIGHTS_INSUFFICIENT_CACHE: lambda: worker().send(load_weights(1)),
    S.LOAD_WEIGHTS_CONCURRENT_MODIFICATION: cleared_during_a_load,
    S.EVICT_WEIGHTS_TOO_LATE: lambda: worker().send(evict(latest=999)),
    S.EVICT_WEIGHTS_UNKNOWN_MODEL: lambda: worker().send(evict(9)),
    S.EVICT_WEIGHTS_NOT_IN_CACHE: lambda: worker().send(evict(1)),
    S.COPY_INPUT_UNKNOWN_MODEL: lambda: worker().send(infer(9)),
    S.COPY_INPUT_INVALID_BATCH_SIZE: lambda: worker().send(infer(batch=5)),
    S.COPY_INPUT_INVALID_INPUT: lambda: worker().send(infer(), payload=bytes(15)),
    S.COPY_INPUT_IO_POOL_EXHAUSTED: failing_infer(S.COPY_INPUT_IO_POOL_EXHAUSTED),
    S.COPY_INPUT_BAD_SIZES: lambda: worker().send(infer(sizes=(17,)), payload=bytes(16)),
    S.COPY_INPUT_BAD_DECOMPRESS: failing_infer(S.COPY_INPUT_BAD_DECOMPRESS),
    S.EXEC_TOO_LATE: lambda: worker().send(infer(latest=999)),
    S.EXEC_WEIGHTS_MISSING: lambda: worker().send(infer(1)),
    S.EXEC_WORKSPACE_POOL_EXHAUSTED: failing_infer(S.EXEC_WORKSPACE_POOL_EXHAUSTED),
    S.EXEC_CONCURRENT_WEIGHTS_MODIFICATION: cleared_during_an_infer,
}
"""For each status what provokes it at a worker."""


def controller(**options: int) -> controller_stage.Stage:
    """Return a controller that serves one model, which is warm."""
    stage = controller_stage.Stage(**options).start(controller_stage.profile())  # type: ignore[arg-type]
    stage.warm()
    return stage


def answer_of(stage: controller_stage.Stage, number: int) -> Status:
    """Return the status of a request."""
    return stage.answers()[number].status


def succeeding() -> Status:
    """A request runs."""
    stage = controller()
    (number,) = stage.infer()
    stage.settle()
    return answer_of(stage, number)


def failing() -> Status:
    """Every attempt fails."""
    stage = controller()
    (number,) = stage.infer(slo_ms=10_000)
    while actions := stage.take(Infer):
        stage.fail(actions[0], S.EXEC_WORKSPACE_POOL_EXHAUSTED)
    return answer_of(stage, number)


def unanswered() -> Status:
    """The worker never answers."""
    stage = controller()
    (number,) = stage.infer()
    stage.advance(5_000)
    return answer_of(stage, number)


def early() -> Status:
    """The controller is still starting."""
    stage = controller_stage.Stage()
    (number,) = stage.infer()
    stage.advance(12_000)
    return answer_of(stage, number)


def invalid() -> Status:
    """The input has another size than the model's."""
    stage = controller()
    (number,) = stage.infer(payload=bytes(1_000))
    return answer_of(stage, number)


def skipped() -> Status:
    """One request is in a hurry, sixteen others fill a batch that is too slow for it."""
    stage = controller_stage.Stage(config=ControllerConfig(max_exec_ns=10_000 * MS))
    stage.start(controller_stage.profile(exec_ms=(3, 400, 800, 1600, 3200), load_ms=100))
    (hurried,) = stage.infer(slo_ms=1_000)
    stage.infer(slo_ms=60_000, count=16)
    stage.settle(took_ms=100)
    return answer_of(stage, hurried)


def hopeless() -> Status:
    """The SLO is shorter than the execution."""
    stage = controller()
    (number,) = stage.infer(slo_ms=1)
    return answer_of(stage, number)


REQUESTS: Final[dict[Status, Callable[[], Status]]] = {
    Status.SUCCESS: succeeding,
    Status.ERROR: failing,
    Status.TIMEOUT: unanswered,
    Status.INITIALIZING: early,
    Status.INVALID_REQUEST: invalid,
    Status.SKIPPED: skipped,
    Status.COULD_NOT_START_IN_TIME: hopeless,
}
"""For each status what provokes it at the controller."""


@pytest.mark.parametrize("status", ActionStatus, ids=lambda each: each.name)
def test_every_action_status_is_given_by_a_worker(status: ActionStatus) -> None:
    """No code is left that nothing produces."""
    assert status in [found for _, found in statuses(ACTIONS[status]())]


@pytest.mark.parametrize("status", Status, ids=lambda each: each.name)
def test_every_request_status_is_given_by_the_controller(status: Status) -> None:
    """No code is left that nothing produces."""
    assert REQUESTS[status]() is status


def test_a_model_that_no_worker_can_load_is_not_held_for_ever() -> None:
    """After ten seconds without any worker the client gets status 5 and what to look at."""
    stage = controller_stage.Stage()
    stage.request(LoadModelRequest(0, 0, "model0"))
    stage.advance(9_999)
    assert not stage.responses(LoadModelResponse)
    stage.advance(1)
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.status is Status.INITIALIZING
    assert "no worker has reported; start one" in answer.message
    stage.connect()
    stage.load("model0")
    stage.advance(1_500)
    assert stage.role.is_serving


def test_a_fixed_model_set_is_status_6() -> None:
    """With the experiments' option the load phase ends for good."""
    config = replace(ControllerConfig(), is_model_set_fixed=True)
    stage = controller_stage.Stage(config=config).start(controller_stage.profile())
    stage.request(LoadModelRequest(9, 0, "late"))
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.status is Status.INVALID_REQUEST


def documented(heading: str) -> dict[int, str]:
    """Return the first two columns of the table below a heading: code and name."""
    text = DOCS.read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", section, re.MULTILINE)
    return {int(code): name for code, name in rows}


@pytest.mark.parametrize(
    ("heading", "statuses"),
    [("What a client gets", Status), ("What the action log shows", ActionStatus)],
)
def test_the_docs_explain_every_code(
    heading: str, statuses: type[Status] | type[ActionStatus]
) -> None:
    """Each table has all codes with their names, and no others."""
    assert documented(heading) == {int(each): each.name for each in statuses}


def test_the_docs_list_the_codes_of_the_original_that_are_gone() -> None:
    """Our numbers are the original's; the others are listed with the reason."""
    assert {int(each) for each in Status} == ORIGINAL_CLIENT
    gone = set(documented("Codes of the original that no longer occur"))
    assert gone == ORIGINAL_WORKER - {int(each) for each in ActionStatus}
    assert {int(each) for each in ActionStatus} <= ORIGINAL_WORKER
