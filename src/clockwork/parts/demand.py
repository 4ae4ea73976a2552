"""Tracks how much GPU time models need, and tells which model most needs to be loaded.

A demand is execution time scaled by the time that there is for it, in units of a capacity C (the
default SLO): a demand of C keeps one GPU busy. A model has two: *execution demand* counts requests
until they are done; *load demand* counts requests only while loading weights could still help
them. A GPU's load is the share of its models' execution demand that falls to it; a model's demand
spreads over the GPUs that hold it in proportion to their weights C / load.

A request that is refused because no GPU is free in time is still demand that nobody satisfied: it
counts as such until its deadline. Otherwise refusing would make an overloaded model look satisfied.

Invariants: a request's load demand is subtracted once, when it is put into an action or when it
expires; a GPU's load is its idle load plus the sum of the shares given to it.

Source: clockwork 4.7.2 (LoadTracker). The original redistributes over all holders at each change
and keeps sorted lists per GPU. Here a model is redistributed only when its demand has moved by a
quarter of a request per holder since the last time, which makes the cost per request independent
of the number of holders; each holder's load is off by at most that quarter per model.

Not here: which GPU takes a load and what is evicted (``controller/policies/placement.py``).
"""

from collections import deque
from typing import Final

from clockwork.units import MS

IDLE_LOAD: Final = 1 * MS
"""Load of a GPU without demand: always assume a little work (original)."""
REFUSALS_MAX: Final = 256
"""Refusals that count at once per model (chosen: they say "far too much" long before)."""


class Claim:
    """The part of a request that this module reads and writes."""

    __slots__ = ("exec_demand", "load_demand", "load_expires_at_ns")

    def __init__(self, exec_demand: int, load_demand: int, load_expires_at_ns: int) -> None:
        # Demand for execution; constant.
        self.exec_demand = exec_demand
        # Demand for loading; set to 0 when it has been subtracted.
        self.load_demand = load_demand
        # When loading weights stops being of use to it.
        self.load_expires_at_ns = load_expires_at_ns


class GpuDemand:
    """How much demand falls to one GPU."""

    __slots__ = ("load",)

    def __init__(self) -> None:
        self.load = IDLE_LOAD


class ModelDemand:
    """How much demand there is for one model, and who carries it."""

    __slots__ = (
        "_claims",
        "_distributed",
        "_holders",
        "_refusals",
        "_shares",
        "_step",
        "exec_demand",
        "load",
        "refused",
    )

    def __init__(self) -> None:
        # Sum of `exec_demand` over requests that are not answered yet.
        self.exec_demand = 0
        # Sum of `load_demand` over claims that are still waiting and young enough.
        self.load = 0
        # Sum of `exec_demand` over requests that were refused for want of a free GPU, until their
        # deadlines; each with that instant, in order of refusal.
        self.refused = 0
        self._refusals: deque[tuple[int, int]] | None = None
        # Claims in order of arrival; those already subtracted are skipped.
        self._claims: deque[Claim] = deque()
        # GPUs that hold or are loading the model, and what each was given last.
        self._holders: list[GpuDemand] = []
        self._shares: list[int] = []
        # `exec_demand` at the last distribution, and how far it may move until the next.
        self._distributed = 0
        self._step = 0

    @property
    def is_empty(self) -> bool:
        """True if nobody needs the model."""
        return self.exec_demand == 0 and self.load == 0 and self.refused == 0

    @property
    def need(self) -> int:
        """How much the model is needed somewhere."""
        open_need = self.load if self.load > self.exec_demand else self.exec_demand
        return open_need + self.refused

    def arrive(self, claim: Claim, now_ns: int) -> None:
        """Count a request that was admitted."""
        self.forget_expired(now_ns)
        self.load += claim.load_demand
        self._claims.append(claim)
        self.exec_demand += claim.exec_demand
        self._step = claim.exec_demand or self._step
        self._redistribute_if_moved()

    def assign(self, claim: Claim) -> None:
        """Stop counting a request for loading: it is in an action, or given up."""
        self.load -= claim.load_demand
        claim.load_demand = 0
        # At once, not when the next one arrives: by then they have left the processor's cache, and
        # with thousands of models giving their memory back takes 1.6 us.
        claims = self._claims
        while claims and claims[0].load_demand == 0:
            claims.popleft()

    def finish(self, claim: Claim) -> None:
        """Stop counting a request for execution: it is answered."""
        self.exec_demand -= claim.exec_demand
        assert self.exec_demand >= 0, f"execution demand {self.exec_demand}"
        self._redistribute_if_moved()

    def refuse(self, claim: Claim, until_ns: int) -> None:
        """Count a request that no holder can serve in time as unsatisfied, until its deadline."""
        if self._refusals is None:
            self._refusals = deque()
        elif len(self._refusals) == REFUSALS_MAX:
            self.refused -= self._refusals.popleft()[1]
        self._refusals.append((until_ns, claim.exec_demand))
        self.refused += claim.exec_demand

    def forget_expired(self, now_ns: int) -> None:
        """Subtract the load demand of claims that loading cannot help any more, and refusals."""
        refusals = self._refusals
        while refusals and refusals[0][0] <= now_ns:
            self.refused -= refusals.popleft()[1]
        claims = self._claims
        while claims and (claims[0].load_demand == 0 or claims[0].load_expires_at_ns <= now_ns):
            claim = claims.popleft()
            self.load -= claim.load_demand
            claim.load_demand = 0

    def add_holder(self, gpu: GpuDemand) -> None:
        """A GPU got the model, or is about to."""
        self._holders.append(gpu)
        self._shares.append(0)
        self._distribute()

    def remove_holder(self, gpu: GpuDemand) -> None:
        """A GPU lost the model."""
        position = self._holders.index(gpu)
        gpu.load -= self._shares[position]
        del self._holders[position], self._shares[position]
        self._distribute()

    def may_be_unsatisfied(self, capacity: int) -> bool:
        """Return False if `priority` cannot be positive, for less than it costs to ask that."""
        if self.refused or not self._holders:
            return True
        return any(gpu.load > capacity for gpu in self._holders)

    def priority(self, capacity: int, now_ns: int) -> int:
        """Return the load demand that the model's holders do not satisfy; <= 0: none.

        A holder serves ``C * required / load`` of what is required of it (its share of the load
        demand), so an overloaded one leaves a part unserved. Without any holder the requests that
        are not answered yet cannot run at all, so that even those for which no load demand counts
        any more (they are late, or were sent back by a GPU) have the weight of their execution.
        O(holders).
        """
        self.forget_expired(now_ns)
        if not self._holders:
            return self.need
        if not self.load:
            return self.refused
        weights = [capacity / gpu.load for gpu in self._holders]
        total = sum(weights)
        served = sum(self.load * weight / total * weight for weight in weights)
        return self.load - int(served) + self.refused

    def check(self) -> None:
        """Assert that sums are the sums of their parts."""
        assert self.refused == sum(demand for _, demand in self._refusals or ()), (
            f"{self.refused} refused"
        )
        load = sum(claim.load_demand for claim in self._claims)
        assert self.load == load, f"load demand {self.load}, claims {load}"
        assert len(self._holders) == len(self._shares)
        assert self.exec_demand >= 0, f"execution demand {self.exec_demand}"

    def _redistribute_if_moved(self) -> None:
        moved = self.exec_demand - self._distributed
        if (moved if moved > 0 else -moved) * 4 >= self._step * len(self._holders):
            self._distribute()

    def _distribute(self) -> None:
        """Share the execution demand out in proportion to how free the holders are."""
        demand = self._distributed = self.exec_demand
        holders, shares = self._holders, self._shares
        if len(holders) == 1:  # the usual case, and the one that has to be quick
            holders[0].load += demand - shares[0]
            shares[0] = demand
            return
        total = 0.0
        for position, gpu in enumerate(holders):
            gpu.load -= shares[position]
            total += 1.0 / gpu.load
        for position, gpu in enumerate(holders):
            share = int(demand / (gpu.load * total))
            shares[position] = share
            gpu.load += share
