"""A controller that measures models, on a stage: helpers for the tests of that."""

from collections.abc import Callable, Iterator

from controller_stage import Stage, profile

from clockwork.messages.actions import EvictWeights, Infer, LoadModel, LoadWeights
from clockwork.messages.controller_io import ToWorker
from clockwork.messages.models import ModelProfile
from clockwork.messages.requests import (
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
)
from clockwork.messages.status import Status

EXEC_MS = {1: 3.0, 2: 4.0, 4: 6.0}
UNMEASURED = profile(exec_ms=(0, 0, 0), sizes=(1, 2, 4), load_ms=0)


def staged(
    model: ModelProfile = UNMEASURED, *, workers: int = 1, copies: int = 1, **how: object
) -> Stage:
    """Return a stage whose load phase has ended with one model."""
    stage = Stage(workers=workers, **how)  # type: ignore[arg-type]
    stage.profiles["m"] = model
    for worker in range(workers):
        stage.connect(worker)
    stage.load("m", copies=copies)
    stage.advance(1_500)
    return stage


def work(stage: Stage, times: dict[int, float] | None = None, load_ms: float = 5.0) -> None:
    """Let workers do what they are told, until there is nothing more to do."""
    while stage.open:
        _, action = next(iter(stage.open.values()))
        if isinstance(action, Infer):
            stage.succeed(action, took_ms=(times or EXEC_MS)[action.batch_size])
        else:
            stage.succeed(action, took_ms=load_ms if isinstance(action, LoadWeights) else 0)
        # Pauses are over.
        stage.advance(50)


def sent(stage: Stage, kind: type) -> Iterator[LoadWeights | Infer | EvictWeights]:
    """Yield the actions of a kind since the last look."""
    for effect in stage.effects:
        if isinstance(effect, ToWorker) and isinstance(effect.message, kind):
            yield effect.message


def listed(stage: Stage) -> ModelProfile:
    """Return the profile of the only model that clients see."""
    stage.request(LsRequest(900, 0))
    (response,) = stage.responses(LsResponse)
    assert response.status is Status.SUCCESS, response
    return response.models[-1].profile


def serving(**how: object) -> Stage:
    """Return a stage that serves a measured model, warm on its GPU."""
    stage = Stage(**how).start(profile())  # type: ignore[arg-type]
    stage.warm()
    stage.profiles["m"] = UNMEASURED
    return stage


def load(stage: Stage) -> Callable[[], list[LoadModelResponse]]:
    """A client loads a model without measurements; return what gives its answers."""
    stage.request(LoadModelRequest(50, 0, "m", 1))
    for action in stage.take(LoadModel):
        stage.succeed(action, took_ms=0)
    return lambda: stage.responses(LoadModelResponse)
