"""Estimates that nothing confirms any more."""

from controller_stage import Stage, profile

from clockwork.controller.cluster import Cluster, Gpu, Instance, Model
from clockwork.controller.policies.ageing import AGEING_NS, OLD_SWEEPS, Ageing
from clockwork.messages.actions import Infer
from clockwork.messages.ids import GpuId, ModelId
from clockwork.messages.models import ModelInfo
from clockwork.messages.status import Status
from clockwork.parts.estimator import Estimator
from clockwork.parts.latency import INITIAL_NS, SendLatency
from clockwork.units import MS, SECOND


def test_a_model_that_was_slow_for_a_while_is_served_again() -> None:
    """Requests that high estimates refuse come back although nothing measures a better time."""
    stage = Stage().start(profile(exec_ms=(3.0,), sizes=(1,)))
    stage.warm()
    for _ in range(12):
        stage.infer(slo_ms=1_000)
        (infer,) = stage.take(Infer)
        stage.succeed(infer, took_ms=50)
    (refused,) = stage.infer(slo_ms=20)
    assert stage.answers()[refused].status is Status.COULD_NOT_START_IN_TIME
    for _ in range(10):
        stage.infer(slo_ms=20)
        if stage.take(Infer):
            return
        stage.advance(200)
    raise AssertionError("refused for ever")


def test_slow_loads_are_forgotten_unless_they_are_still_slow() -> None:
    """An estimate of a load that is not measured any more returns to the profile; others stay."""
    info = ModelInfo(ModelId(0), "model0", profile(load_ms=8.0))
    idle, busy = (Model(info, batch_max=16, exec_max_ns=SECOND) for _ in range(2))
    busy.model_id = ModelId(1)
    ageing = Ageing(Cluster(1))
    for step in range(20):
        for model in (idle, busy) if step < 10 else (busy,):
            model.load.add(60 * MS)
            ageing.note_load(model)
        ageing.plan(step * AGEING_NS)
    assert not idle.load.is_raised
    assert busy.load.is_raised


def test_doubting_halves_what_exceeds_the_profile() -> None:
    """A doubted estimate comes half of the way back, and in the end is raised no more."""
    estimator = Estimator(1_000)
    for _ in range(10):
        estimator.add(9_000)
    assert estimator.is_raised
    before_ns = estimator.estimate_ns
    estimator.doubt(estimator.profile_ns)
    assert estimator.estimate_ns == 1_000 + (before_ns - 1_000) // 2
    for _ in range(6):
        estimator.doubt(estimator.profile_ns)
    assert not estimator.is_raised


def test_a_low_estimate_is_not_doubted() -> None:
    """What is faster than its profile stays so."""
    estimator = Estimator(1_000)
    for _ in range(10):
        estimator.add(500)
    assert not estimator.is_raised


def test_a_way_that_was_slow_is_tried_again() -> None:
    """Without measurements the way to a worker is soon expected to be as short as at first."""
    latency = SendLatency()
    for _ in range(20):
        latency.add(size_bytes=0, taken_ns=16 * MS)
    latency.doubt()
    assert latency.estimate_ns(0) > 15 * MS, "it has just been measured"
    for _ in range(10):
        latency.doubt()
    assert latency.estimate_ns(0) < INITIAL_NS + MS // 10


def test_a_slow_device_is_not_expected_to_be_as_profiled() -> None:
    """While others take 40 % longer, a model that nobody asked for is expected to do so, too."""
    ageing, popular, rare = two_models_on_a_gpu()
    for _ in range(30):
        popular.measure(0, 14 * MS)
        ageing.note(popular, 0)
    rare.measure(0, 16 * MS)
    ageing.note(rare, 0)
    for step in range(4):
        popular.measure(0, 14 * MS)
        ageing.plan(step * AGEING_NS)
    assert 13 * MS < rare.exec_ns[0] < 15 * MS


def test_what_is_true_of_others_is_doubted_in_the_end() -> None:
    """A model whose high estimate refuses everything gets its chance beside slow ones."""
    ageing, popular, rare = two_models_on_a_gpu()
    rare.measure(0, 16 * MS)
    ageing.note(rare, 0)
    for step in range(2 * OLD_SWEEPS):
        popular.measure(0, 14 * MS)
        ageing.note(popular, 0)
        ageing.plan(step * AGEING_NS)
    assert rare.exec_ns[0] == 10 * MS
    assert popular.exec_ns[0] >= 14 * MS


def two_models_on_a_gpu() -> tuple[Ageing, Instance, Instance]:
    """Return what ages, and two models that take 10 ms according to their profiles."""
    cluster = Cluster(1)
    gpu = Gpu(index=0, worker=cluster.workers[0], gpu_id=GpuId(0), pages=8, lag_ns=MS)
    cluster.gpus.append(gpu)
    popular, rare = (
        Model(
            ModelInfo(ModelId(number), "model", profile(exec_ms=(10.0,), sizes=(1,))),
            batch_max=16,
            exec_max_ns=SECOND,
        ).on(gpu)
        for number in range(2)
    )
    return Ageing(cluster), popular, rare
