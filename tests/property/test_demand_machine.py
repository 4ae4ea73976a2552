"""Demand of models and load of GPUs against lists of requests."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clockwork.parts.demand import IDLE_LOAD, REFUSALS_MAX, Claim, GpuDemand, ModelDemand
from clockwork.units import MS

CAPACITY = 100 * MS
MODELS = 3
GPUS = 4

models = st.integers(0, MODELS - 1)
gpus = st.integers(0, GPUS - 1)
demands = st.integers(1, 40 * MS)
lifetimes = st.integers(0, 30)


class Asked:
    """A request as demand sees it, and what the test remembers of it."""

    def __init__(self, exec_demand: int, load_demand: int, load_expires_at_ns: int) -> None:
        self.claim = Claim(exec_demand, load_demand, load_expires_at_ns)
        # What it was at first, and whether it was put into an action.
        self.wanted = load_demand
        self.is_assigned = False

    def is_alive(self, now_ns: int) -> bool:
        """Return whether loading weights could still help it."""
        return not self.is_assigned and bool(self.wanted) and now_ns < self.claim.load_expires_at_ns


class DemandMachine(RuleBasedStateMachine):
    """Models with lists of their requests and refusals, and sets of the GPUs that hold them."""

    @initialize()
    def begin(self) -> None:
        """Nobody needs anything, and every GPU is idle."""
        self.now_ns = 0
        self.gpus = [GpuDemand() for _ in range(GPUS)]
        self.models = [ModelDemand() for _ in range(MODELS)]
        # Requests without an answer, in order of arrival.
        self.open: list[list[Asked]] = [[] for _ in range(MODELS)]
        # Those of whose load demand nothing was forgotten yet, answered ones included.
        self.arrived: list[list[Asked]] = [[] for _ in range(MODELS)]
        # (until_ns, demand) in order of refusal.
        self.refused: list[list[tuple[int, int]]] = [[] for _ in range(MODELS)]
        self.holders: list[list[int]] = [[] for _ in range(MODELS)]
        # The largest request so far: how far a share may be off is measured in requests.
        self.largest = [0] * MODELS

    @rule(model=models, exec_demand=demands, load_demand=demands, lifetime=lifetimes)
    def arrive(self, model: int, exec_demand: int, load_demand: int, lifetime: int) -> None:
        """A request is admitted; some of them no load could help even now."""
        asked = Asked(exec_demand, load_demand, self.now_ns + lifetime)
        self._forget(model)
        self.models[model].arrive(asked.claim, self.now_ns)
        self.open[model].append(asked)
        self.arrived[model].append(asked)
        self.largest[model] = max(self.largest[model], exec_demand)

    @rule(model=models, data=st.data())
    def assign(self, model: int, data: st.DataObject) -> None:
        """Any request is put into an action, perhaps not for the first time."""
        if self.open[model]:
            asked = data.draw(st.sampled_from(self.open[model]))
            self.models[model].assign(asked.claim)
            asked.is_assigned = True

    @rule(model=models, data=st.data())
    def answer(self, model: int, data: st.DataObject) -> None:
        """Any request is answered, as the ledger does it."""
        if self.open[model]:
            asked = data.draw(st.sampled_from(self.open[model]))
            self.models[model].assign(asked.claim)
            self.models[model].finish(asked.claim)
            asked.is_assigned = True
            self.open[model].remove(asked)

    @rule(model=models, exec_demand=demands, lifetime=lifetimes, count=st.sampled_from([1, 200]))
    def refuse(self, model: int, exec_demand: int, lifetime: int, count: int) -> None:
        """Requests are refused for want of a free GPU; only so many of them are remembered."""
        until_ns = self.now_ns + lifetime
        for _ in range(count):
            self.models[model].refuse(Claim(exec_demand, 0, 0), until_ns)
            self.refused[model].append((until_ns, exec_demand))
        self.refused[model] = self.refused[model][-REFUSALS_MAX:]

    @rule(model=models, gpu=gpus)
    def change_holder(self, model: int, gpu: int) -> None:
        """A GPU gets the model, or loses it; then shares are fair."""
        holders = self.holders[model]
        if gpu in holders:
            holders.remove(gpu)
            self.models[model].remove_holder(self.gpus[gpu])
        else:
            holders.append(gpu)
            self.models[model].add_holder(self.gpus[gpu])
        self._check_shares(model)

    @rule(step_ns=st.integers(0, 20))
    def pass_time(self, step_ns: int) -> None:
        """Time passes, which nobody is told."""
        self.now_ns += step_ns

    @rule(model=models)
    def rank(self, model: int) -> None:
        """The priority is what holders leave unserved; all of it where there is none."""
        priority = self.models[model].priority(CAPACITY, self.now_ns)
        self._forget(model)
        load, refused = self._load(model), sum(demand for _, demand in self.refused[model])
        if not self.holders[model]:
            exec_demand = sum(asked.claim.exec_demand for asked in self.open[model])
            assert priority == max(load, exec_demand) + refused
            return
        weights = [CAPACITY / self.gpus[gpu].load for gpu in self.holders[model]]
        served = load * sum(weight**2 for weight in weights) / sum(weights)
        assert abs(priority - (load - served + refused)) <= 1 + 1e-9 * served

    @rule(model=models)
    def forget(self, model: int) -> None:
        """Expired demand is subtracted: what lives counts, and what waits behind it."""
        self.models[model].forget_expired(self.now_ns)
        self._forget(model)
        refused = sum(demand for _, demand in self.refused[model])
        assert self.models[model].load == self._load(model)
        assert self.models[model].refused == refused
        is_needed = bool(self.open[model] or self.refused[model] or self._load(model))
        assert self.models[model].is_empty is not is_needed

    @precondition(lambda self: any(self.open))
    @rule()
    def drain(self) -> None:
        """When all is answered and all time is over, nothing is left, but for the rounding."""
        for model, demand in enumerate(self.models):
            for asked in self.open[model]:
                demand.assign(asked.claim)
                demand.finish(asked.claim)
                asked.is_assigned = True
            self.open[model].clear()
        self.now_ns += 1_000
        for model, demand in enumerate(self.models):
            demand.forget_expired(self.now_ns)
            self._forget(model)
            assert demand.is_empty

    @invariant()
    def sums_agree(self) -> None:
        """Execution demand is that of open requests; load demand is between living and waiting."""
        for model, demand in enumerate(getattr(self, "models", [])):
            demand.check()
            assert demand.exec_demand == sum(asked.claim.exec_demand for asked in self.open[model])
            waiting = [asked for asked in self.open[model] if not asked.is_assigned]
            living = [asked for asked in waiting if asked.is_alive(self.now_ns)]
            assert sum(asked.wanted for asked in living) <= demand.load
            assert demand.load <= sum(asked.wanted for asked in waiting)

    @invariant()
    def gpus_carry_what_their_models_need(self) -> None:
        """All load together is the demand of held models, off by a quarter request per holder."""
        if not hasattr(self, "models"):
            return
        carried = sum(gpu.load - IDLE_LOAD for gpu in self.gpus)
        held = [model for model in range(MODELS) if self.holders[model]]
        needed = sum(self.models[model].exec_demand for model in held)
        slack = sum(len(self.holders[model]) * (self.largest[model] // 4 + 1) for model in held)
        assert abs(carried - needed) <= slack
        assert all(gpu.load >= IDLE_LOAD for gpu in self.gpus)
        holding = {gpu for holders in self.holders for gpu in holders}
        idle = [gpu for index, gpu in enumerate(self.gpus) if index not in holding]
        assert all(gpu.load == IDLE_LOAD for gpu in idle)

    def _check_shares(self, model: int) -> None:
        """Shares were just dealt out anew: in proportion to how free each holder is without it."""
        holders = [self.gpus[gpu] for gpu in self.holders[model]]
        shares = self.models[model]._shares
        weights = [1 / (gpu.load - share) for gpu, share in zip(holders, shares, strict=True)]
        needed = self.models[model].exec_demand
        for share, weight in zip(shares, weights, strict=True):
            assert abs(share - needed * weight / sum(weights)) <= 1 + 1e-9 * needed

    def _forget(self, model: int) -> None:
        """Forget refusals and arrivals from the front, up to the first that is still alive."""
        while self.refused[model] and self.refused[model][0][0] <= self.now_ns:
            del self.refused[model][0]
        while self.arrived[model] and not self.arrived[model][0].is_alive(self.now_ns):
            self.arrived[model].pop(0).wanted = 0

    def _load(self, model: int) -> int:
        """Return the load demand of what waits behind the first living request."""
        return sum(asked.wanted for asked in self.arrived[model] if not asked.is_assigned)


TestDemand = DemandMachine.TestCase
