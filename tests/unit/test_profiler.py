"""Models without measurements are measured before the controller serves them."""

import pytest
from controller_stage import Stage, profile
from profiler_stage import UNMEASURED, listed, sent, staged, work

from clockwork.controller.config import ControllerConfig
from clockwork.controller.policies.direct import Direct
from clockwork.controller.policies.echo import Echo
from clockwork.messages.actions import EvictWeights, Infer, LoadWeights
from clockwork.messages.controller_io import ToWorker
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo
from clockwork.messages.requests import (
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
)
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import MS


def test_a_model_is_measured_before_the_hand_over() -> None:
    """The console tells the stage and the figures; estimates and LS have them afterwards."""
    stage = staged()
    assert not stage.role.is_serving
    work(stage)
    assert stage.role.is_serving
    model = stage.role.cluster.models[ModelId(0)]
    assert model.exec_ns == [3 * MS, 4 * MS, 6 * MS]
    assert model.first_exec_ns == 3 * MS
    assert model.load.estimate_ns == 5 * MS
    assert listed(stage).exec_ns == (3 * MS, 4 * MS, 6 * MS)
    lines = [line for line in stage.lines() if "Profil" in line or "Startup-" in line]
    begin = lines.index("(Startup-6) ProfilingStage has begun: 1 models have no measurements")
    assert "Profiled M-0 src=m" in lines[begin + 1]
    assert "xfer=5.0 b1=3.0 b2=4.0 b4=6.0" in lines[begin + 1]
    assert lines[begin + 2] == "(Startup-6) ProfilingStage complete"
    assert lines[begin + 3].startswith("(Startup-6) LoadModelStage complete")
    assert not any(":LoadWeights" in line or ":Infer" in line for line in stage.lines())


def test_measuring_leaves_nothing_behind() -> None:
    """The weights are evicted, pages are free, and the first request is a cold start."""
    stage = staged()
    work(stage)
    assert len(list(sent(stage, EvictWeights))) == 1
    (gpu,) = stage.role.cluster.gpus
    assert gpu.free_pages == gpu.pages
    (number,) = stage.infer(slo_ms=100)
    stage.settle()
    assert stage.answers()[number].is_cold_start
    assert stage.answers()[number].status is Status.SUCCESS


def test_one_action_runs_at_a_time_smallest_batch_first() -> None:
    """Each size runs several times; the loads come first."""
    stage = staged()
    sizes: list[int] = []
    while stage.open:
        assert len(stage.open) == 1
        _, action = next(iter(stage.open.values()))
        sizes.append(action.batch_size if isinstance(action, Infer) else 0)
        stage.succeed(action, took_ms=3)
        if isinstance(action, EvictWeights):
            break
    assert sizes == [*sorted(sizes[:-1]), 0]
    assert sizes.count(0) == 4
    assert all(3 <= sizes.count(size) <= 8 for size in (1, 2, 4))


def test_one_hiccup_does_not_count() -> None:
    """Neither the first run of a batch size nor the longest of the others is the estimate."""
    stage = staged(profile(exec_ms=(0,), sizes=(1,), load_ms=0))
    times = iter([90.0, 3.0, 70.0, 3.5, *[3.0] * 20])
    while stage.open:
        _, action = next(iter(stage.open.values()))
        took_ms = next(times) if isinstance(action, Infer) else 5.0
        stage.succeed(action, took_ms=took_ms)
        stage.advance(1)
    assert stage.role.cluster.models[ModelId(0)].exec_ns == [int(3.5 * MS)]


def test_slow_batch_sizes_are_left_out() -> None:
    """One that exceeds max_exec ends the row: larger ones are not even run."""
    stage = staged(config=ControllerConfig(max_exec_ns=5 * MS), model=profile(
        exec_ms=(0, 0, 0, 0), sizes=(1, 2, 4, 8), load_ms=0
    ))  # fmt: skip
    work(stage, {1: 3, 2: 4, 4: 6})
    model = stage.role.cluster.models[ModelId(0)]
    assert tuple(model.sizes) == (1, 2)
    assert {action.batch_size for action in sent(stage, Infer) if isinstance(action, Infer)} == {
        1,
        2,
        4,
    }
    assert any(line.startswith("Excluding b4 with estimate 6000000") for line in stage.lines())


def test_a_batch_size_that_does_not_run_is_left_out() -> None:
    """The smaller ones are used, and the console says why."""
    stage = staged()
    while stage.open:
        _, action = next(iter(stage.open.values()))
        if isinstance(action, Infer) and action.batch_size == 4:
            stage.fail(action, ActionStatus.EXEC_WORKSPACE_POOL_EXHAUSTED, "too little workspace")
        else:
            stage.succeed(action, took_ms=3)
        stage.advance(1)
    assert tuple(stage.role.cluster.models[ModelId(0)].sizes) == (1, 2)
    assert "M-0 is not used at batch size 4: too little workspace" in stage.lines()


def test_a_worker_that_wants_inputs_gets_some() -> None:
    """Requests without inputs are tried first, then zeros of the right size."""
    stage = staged()
    seen: list[tuple[tuple[int, ...], int]] = []
    while stage.open:
        _, action = next(iter(stage.open.values()))
        if not isinstance(action, Infer):
            stage.succeed(action, took_ms=3)
        else:
            effect = next(
                each
                for each in stage.effects
                if isinstance(each, ToWorker) and each.message is action
            )
            seen.append((action.input_sizes, sum(map(len, effect.payloads))))
            if any(action.input_sizes):
                stage.succeed(action, took_ms=3, payload=bytes(8 * action.batch_size))
            else:
                stage.fail(action, ActionStatus.COPY_INPUT_INVALID_INPUT)
        stage.advance(1)
    assert seen[0] == ((0,), 0)
    assert seen[1] == ((16,), 16)
    assert seen[-1] == ((16,) * 4, 64)
    assert stage.role.is_serving


def test_measured_models_are_not_measured_again() -> None:
    """Without a model that lacks something there is no stage."""
    stage = Stage().start(profile())
    assert stage.role.is_serving
    assert not any("Profil" in line for line in stage.lines())
    assert list(sent(stage, Infer)) == []


def test_only_what_lacks_measurements_is_measured() -> None:
    """Known times of other batch sizes stay."""
    stage = staged(profile(exec_ms=(2.5, 0, 5.5), sizes=(1, 2, 4)))
    work(stage)
    sizes = {action.batch_size for action in sent(stage, Infer) if isinstance(action, Infer)}
    assert sizes == {2}
    found = listed(stage)
    assert found.exec_ns == (int(2.5 * MS), 4 * MS, int(5.5 * MS))
    assert found.load_ns == 8 * MS


def test_copies_share_one_measurement() -> None:
    """Four copies and a second load of the same path cost nothing more."""
    stage = staged(copies=4)
    work(stage)
    assert [model.exec_ns[0] for model in stage.role.cluster.models.values()] == [3 * MS] * 4
    count = len(list(sent(stage, LoadWeights)))
    assert count == 3
    stage.request(LoadModelRequest(50, 0, "m", 1))
    work(stage)
    assert len(list(sent(stage, LoadWeights))) == count
    assert stage.responses(LoadModelResponse)[-1].status is Status.SUCCESS


def test_it_can_be_switched_off() -> None:
    """Then models are served with guesses, as the original would."""
    stage = staged(config=ControllerConfig(profile_models=False))
    assert stage.role.is_serving
    assert list(sent(stage, LoadWeights)) == []


def test_models_that_are_loaded_meanwhile_are_measured_too() -> None:
    """The hand-over waits for them."""
    stage = staged()
    stage.profiles["other"] = UNMEASURED
    stage.request(LoadModelRequest(50, 0, "other", 1))
    work(stage)
    assert stage.role.is_serving
    assert [model.exec_ns[0] for model in stage.role.cluster.models.values()] == [3 * MS] * 2
    assert sum("ProfilingStage" in line for line in stage.lines()) == 2


def test_a_model_that_a_worker_held_already_is_measured() -> None:
    """Its warm weights are evicted for that."""
    stage = Stage()
    info = ModelInfo(ModelId(0), "m", UNMEASURED)
    stage.connect(0, stage.state([info], warm=[0]))
    stage.advance(1_500)
    assert not stage.role.is_serving
    work(stage)
    assert stage.role.is_serving
    assert stage.role.cluster.models[ModelId(0)].exec_ns == [3 * MS, 4 * MS, 6 * MS]


def test_a_load_that_fails_three_times_is_given_up() -> None:
    """The reason is told, and nothing stays taken."""
    stage = staged()
    for _ in range(3):
        (action,) = stage.take(LoadWeights)
        stage.fail(action, ActionStatus.RUNTIME_ERROR, "a broken cable")
        stage.advance(5)
    assert stage.role.is_serving
    assert any(line.endswith("served with guesses: a broken cable") for line in stage.lines())
    (gpu,) = stage.role.cluster.gpus
    assert gpu.free_pages == gpu.pages


def test_a_window_that_was_missed_is_tried_again() -> None:
    """An action that could not start is no failure."""
    stage = staged()
    for _ in range(20):
        (action,) = stage.take(LoadWeights)
        stage.fail(action, ActionStatus.LOAD_WEIGHTS_TOO_LATE)
        stage.advance(5)
    work(stage)
    assert stage.role.cluster.models[ModelId(0)].exec_ns[0] == 3 * MS


@pytest.mark.parametrize("make_policy", [Direct, Echo])
def test_other_policies_are_measured_with_as_well(make_policy: type) -> None:
    """The stage is the same whatever the policy."""
    stage = staged(make_policy=make_policy)
    work(stage)
    assert stage.role.is_serving
    assert stage.role.cluster.models[ModelId(0)].exec_ns == [3 * MS, 4 * MS, 6 * MS]


def test_inferences_are_bounced_until_all_is_measured() -> None:
    """They get status 5, as in the phases before."""
    stage = staged()
    (number,) = stage.infer()
    assert stage.responses(InferResponse) == []
    work(stage)
    assert stage.answers()[number].status is Status.INITIALIZING
