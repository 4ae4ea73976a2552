"""Demand for models and the load it puts on GPUs."""

from clockwork.parts.demand import IDLE_LOAD, REFUSALS_MAX, Claim, GpuDemand, ModelDemand
from clockwork.units import MS

CAPACITY = 100 * MS


def claim(
    *,
    exec_demand: int = 3_470_000,
    load_demand: int = 13_200_000,
    load_expires_at_ns: int = 25 * MS,
) -> Claim:
    """Return a request's demand. The defaults are the worked example of a ResNet-50."""
    return Claim(exec_demand, load_demand, load_expires_at_ns)


def test_demand_on_no_gpu_is_unsatisfied() -> None:
    """A model that nobody holds is wanted with all its load demand."""
    model = ModelDemand()
    model.arrive(claim(), 0)
    assert model.priority(CAPACITY, 0) == 13_200_000


def test_an_idle_holder_satisfies_demand() -> None:
    """The worked example: one idle GPU serves far more than is required of it."""
    model, gpu = ModelDemand(), GpuDemand()
    model.arrive(claim(), 0)
    model.add_holder(gpu)
    assert gpu.load == IDLE_LOAD + 3_470_000
    assert abs(model.priority(CAPACITY, 0) - -282_000_000) < 1_000_000


def test_an_overloaded_holder_leaves_demand_unsatisfied() -> None:
    """With more than the capacity in front of its holder a model is wanted elsewhere."""
    model, gpu = ModelDemand(), GpuDemand()
    model.add_holder(gpu)
    for _ in range(40):
        model.arrive(claim(), 0)
    assert gpu.load > CAPACITY
    assert model.priority(CAPACITY, 0) > 0


def test_load_demand_expires() -> None:
    """Once loading cannot help a request, it stops counting for loading, not for execution."""
    model = ModelDemand()
    model.arrive(claim(), 0)
    model.add_holder(GpuDemand())
    assert model.priority(CAPACITY, 25 * MS) == 0
    assert not model.is_empty


def test_late_requests_still_need_a_model_that_nobody_holds() -> None:
    """Without any holder an open request has the weight of its execution, however late."""
    model = ModelDemand()
    model.arrive(claim(), 0)
    assert model.priority(CAPACITY, 25 * MS) == 3_470_000


def test_a_request_that_ran_and_expired_is_subtracted_once() -> None:
    """Being put into an action and expiring do not both take load demand away."""
    model, first, second = ModelDemand(), claim(), claim(load_expires_at_ns=50 * MS)
    model.arrive(first, 0)
    model.arrive(second, 0)
    model.assign(first)
    model.forget_expired(30 * MS)
    model.check()
    assert model.load == second.load_demand


def test_finished_requests_leave_nothing() -> None:
    """A model without requests is empty, and its holders are idle again."""
    model, gpu, asked = ModelDemand(), GpuDemand(), claim()
    model.add_holder(gpu)
    model.arrive(asked, 0)
    model.assign(asked)
    model.finish(asked)
    assert model.is_empty
    assert gpu.load == IDLE_LOAD


def test_execution_demand_spreads_over_holders() -> None:
    """Two equal holders carry half each, and one that leaves hands its share over."""
    model, gpus = ModelDemand(), [GpuDemand(), GpuDemand()]
    for gpu in gpus:
        model.add_holder(gpu)
    for _ in range(10):
        model.arrive(claim(), 0)
    shares = [gpu.load - IDLE_LOAD for gpu in gpus]
    assert abs(shares[0] - shares[1]) < 1_000_000
    model.remove_holder(gpus[0])
    assert gpus[0].load == IDLE_LOAD
    assert gpus[1].load == IDLE_LOAD + 34_700_000


def test_a_refused_request_counts_as_unsatisfied_until_its_deadline() -> None:
    """Refusing what cannot be served in time must not make demand look satisfied."""
    demand, holder = ModelDemand(), GpuDemand()
    demand.add_holder(holder)
    demand.refuse(claim(exec_demand=7), 100)
    demand.refuse(claim(exec_demand=5), 200)
    assert demand.priority(1_000, 50) == 12
    assert demand.need == 12
    assert not demand.is_empty
    assert demand.priority(1_000, 100) == 5
    demand.forget_expired(200)
    assert demand.is_empty
    demand.check()


def test_refusals_are_counted_up_to_a_bound() -> None:
    """A flood of refusals takes no more memory than some hundred of them."""
    demand = ModelDemand()
    for _ in range(2 * REFUSALS_MAX):
        demand.refuse(claim(exec_demand=1), 100)
    assert demand.refused == REFUSALS_MAX
    demand.check()


def test_holders_within_their_capacity_satisfy_for_sure() -> None:
    """The quick look agrees with the priority: an idle holder, an overloaded one, a refusal."""
    model, gpu = ModelDemand(), GpuDemand()
    assert model.may_be_unsatisfied(CAPACITY)
    model.add_holder(gpu)
    model.arrive(claim(), 0)
    assert not model.may_be_unsatisfied(CAPACITY)
    assert model.priority(CAPACITY, 0) <= 0
    for _ in range(40):
        model.arrive(claim(), 0)
    assert model.may_be_unsatisfied(CAPACITY)
    other = ModelDemand()
    other.add_holder(GpuDemand())
    other.refuse(claim(), 1_000)
    assert other.may_be_unsatisfied(CAPACITY)
