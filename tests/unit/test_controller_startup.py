"""The startup phases, models and workers, through the role."""

import pytest
from controller_stage import BEGIN_NS, Stage, profile

from clockwork.controller.config import ControllerConfig
from clockwork.messages.actions import (
    Infer,
    LoadModel,
    UnloadModel,
)
from clockwork.messages.controller_io import WorkerConnected
from clockwork.messages.ids import ModelId, WorkerId
from clockwork.messages.requests import (
    DoneResponse,
    EvictRequest,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    UnloadModelRequest,
)
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import MS


def test_the_phases_are_announced_as_documented() -> None:
    """From the first line to `Admitting` the console shows the documented phases in order."""
    stage = Stage(gpus=2)
    stage.connect()
    stage.load("model0")
    stage.advance(1_500)
    text = "\n".join(stage.lines())
    positions = [
        text.index(line)
        for line in (
            "(Startup) Running ControllerStartup",
            "(Startup-1) Bouncing LS and Infer requests until startup is complete",
            "(Startup-2) Querying current worker state",
            "Clockwork page_size=16777216",
            "Worker 0 2 GPUs 0 models",
            "(Startup-3) Awaiting LoadModel requests from clients",
            "(Startup-4) LoadModelStage has begun",
            "(Startup-5) LoadModelStage ending in",
            "(Startup-6) LoadModelStage complete.  Printing loaded models: ",
            "M-0 src=model0 input=16 output=8",
            "(Startup-end) Transitioning to scheduler",
            "Created 1 models",
            "Created 2 GPUs on 1 Workers",
            "Total GPU capacity 16 pages (8 per GPU).",
            "Total model pages 1 (6% oversubscription).",
            " * Admitting inference requests",
        )
    ]
    assert positions == sorted(positions)


def test_inference_and_ls_are_bounced_when_startup_ends() -> None:
    """Held requests get status 5 at the transition."""
    stage = Stage()
    stage.connect()
    stage.infer()
    stage.request(LsRequest(99, 0))
    stage.load("model0")
    assert stage.answers() == {}
    stage.advance(1_500)
    assert [item.status for item in stage.answers().values()] == [Status.INITIALIZING]
    assert [item.status for item in stage.responses(LsResponse)] == [Status.INITIALIZING]


def test_inference_is_bounced_after_twelve_seconds_at_the_latest() -> None:
    """While nobody loads a model, a held request is answered 12 s after its arrival."""
    stage = Stage()
    stage.connect()
    (number,) = stage.infer()
    stage.advance(11_999)
    assert stage.answers() == {}
    stage.advance(2)
    assert stage.answers()[number].status is Status.INITIALIZING


def test_the_load_phase_lasts_while_models_come() -> None:
    """Each LoadModel starts the countdown anew."""
    stage = Stage()
    stage.connect()
    for index in range(3):
        stage.load(f"model{index}")
        stage.advance(900)
        assert not stage.role.is_serving
    stage.advance(200)
    assert stage.role.is_serving


def test_a_model_that_was_sent_before_workers_reported_is_loaded_later() -> None:
    """An early LoadModel waits instead of failing."""
    stage = Stage()
    stage.request(LoadModelRequest(1, 0, "model0", 1))
    assert stage.take(LoadModel) == []
    stage.connect()
    assert [action.path for action in stage.take(LoadModel)] == ["model0"]


def test_startup_goes_on_without_a_worker_that_never_comes() -> None:
    """After ten seconds those that are there are enough, and the console says so."""
    stage = Stage(workers=2)
    stage.connect(0)
    stage.advance(10_001)
    assert any("Worker 1 has not reported" in line for line in stage.lines())
    stage.load("model0")
    stage.advance(1_500)
    assert stage.role.is_serving


def test_at_most_four_loads_are_outstanding_per_worker() -> None:
    """The fifth LoadModel waits for a place."""
    stage = Stage()
    stage.connect()
    for index in range(6):
        stage.request(LoadModelRequest(index, 0, f"model{index}", 1))
    assert len(stage.take(LoadModel)) == 4
    stage.succeed(stage.take(LoadModel)[0], took_ms=0)
    assert [action.path for action in stage.take(LoadModel)][-1] == "model4"


def test_copies_get_consecutive_ids() -> None:
    """Three copies of a model are three models, and LS lists them in order."""
    stage = Stage().start(profile(), copies=3)
    stage.request(LsRequest(1, 0))
    (listing,) = stage.responses(LsResponse)
    assert [info.model_id for info in listing.models] == [0, 1, 2]


def test_a_load_that_fails_on_one_worker_is_rolled_back() -> None:
    """The client learns why, the other worker unloads it again, and no id stays behind."""
    stage = Stage(workers=2).start()
    for worker in (0, 1):
        assert stage.take(LoadModel, worker=worker) == []
    stage.request(LoadModelRequest(1, 0, "model0", 1))
    first, second = stage.take(LoadModel)
    stage.succeed(first, took_ms=0)
    stage.fail(second, ActionStatus.INVALID_MODEL_PATH, "no such model: model0")
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.status is Status.ERROR
    assert answer.message == (
        "no such model: model0 (worker 1; `clockwork upload DIR HOST:PORT` sends a model directory "
        "to all workers that lack it)"
    )
    assert [action.model_id for action in stage.take(UnloadModel, worker=0)] == [0]
    stage.settle()
    stage.load("model1")
    loaded = stage.responses(LoadModelResponse)[-1]
    assert loaded.model is not None
    assert loaded.model.model_id == 0


def test_a_model_larger_than_every_cache_is_refused() -> None:
    """The answer names both sizes."""
    stage = Stage(pages=8).start()
    stage.profiles["big"] = profile(pages=9)
    stage.load("big")
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.status is Status.ERROR
    assert "needs 9 pages, the largest weights cache has 8" in answer.message


@pytest.mark.parametrize(
    ("path", "copies", "expected"),
    [("", 1, "path is empty"), ("m", 0, "copies=0"), ("m", 10**9, "copies=1000000000")],
)
def test_senseless_load_requests_are_refused(path: str, copies: int, expected: str) -> None:
    """What cannot be loaded is answered at once with what was wrong."""
    stage = Stage().start(profile())
    stage.request(LoadModelRequest(5, 0, path, copies))
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.status is Status.ERROR
    assert expected in answer.message


def test_models_can_be_loaded_while_serving() -> None:
    """A model that comes after the startup is served like any other."""
    stage = Stage().start(profile())
    stage.load("late")
    (number,) = stage.infer(1, slo_ms=500)
    stage.settle()
    assert stage.answers()[number].status is Status.SUCCESS


def test_a_fixed_model_set_stays_as_it_is() -> None:
    """With the experiments' option a late LoadModel gets status 6."""
    stage = Stage(config=ControllerConfig(is_model_set_fixed=True)).start(profile())
    stage.load("late")
    (answer,) = stage.responses(LoadModelResponse)
    assert answer.status is Status.INVALID_REQUEST


def test_unloading_lets_open_requests_finish_and_gives_everything_back() -> None:
    """Queued and running requests are answered, new ones refused, pages come back."""
    stage = Stage(pages=1).start(profile(), profile())
    stage.warm(0)
    (before,) = stage.infer(0)
    stage.request(UnloadModelRequest(50, 0, ModelId(0)))
    (after,) = stage.infer(0)
    assert stage.answers()[after].message.startswith("Invalid model ID 0")
    stage.succeed(stage.take(Infer)[0])
    assert stage.answers()[before].status is Status.SUCCESS
    stage.settle()
    assert [answer.status for answer in stage.responses(DoneResponse)] == [Status.SUCCESS]
    (other,) = stage.infer(1, slo_ms=500)
    stage.settle()
    assert stage.answers()[other].status is Status.SUCCESS


def test_evict_takes_the_weights_and_keeps_the_model() -> None:
    """The next request after an Evict is a cold start."""
    stage = Stage().start(profile())
    stage.warm()
    stage.request(EvictRequest(50, 0, ModelId(0)))
    stage.settle()
    (number,) = stage.infer(slo_ms=500)
    stage.settle()
    assert stage.answers()[number].is_cold_start
    assert [answer.status for answer in stage.responses(DoneResponse)] == [Status.SUCCESS]


@pytest.mark.parametrize("kind", [EvictRequest, UnloadModelRequest])
def test_unknown_models_are_named(kind: type[EvictRequest] | type[UnloadModelRequest]) -> None:
    """Evict and UnloadModel of a model that there is not get an error, not a crash."""
    stage = Stage().start(profile())
    stage.request(kind(50, 0, ModelId(33)))
    (answer,) = stage.responses(DoneResponse)
    assert answer.status is Status.ERROR
    assert "33" in answer.message


def test_nothing_happens_before_the_first_event() -> None:
    """A fresh role asks for nothing; a worker's connection is its first event."""
    stage = Stage()
    assert stage.role.wakeup_ns is None
    stage.handle(WorkerConnected(WorkerId(0)))
    assert stage.role.wakeup_ns == BEGIN_NS + 500 * MS
    assert stage.lines()[0] == "(Startup) Running ControllerStartup"
