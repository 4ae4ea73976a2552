"""Deliberately broken roles: typical bugs, each as a wrapper around a real role.

The judges must catch every one of them (`test_broken.py`); a judge that does not is broken itself.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from clockwork.controller.cluster import Cluster
from clockwork.controller.core import ControllerRole
from clockwork.controller.ledger import Ledger
from clockwork.messages.actions import (
    EvictWeights,
    EvictWeightsDone,
    GetWorkerState,
    Infer,
    LoadWeights,
    Timing,
)
from clockwork.messages.controller_io import (
    ControllerEffect,
    ControllerEvent,
    FromClient,
    ToClient,
    WorkerLost,
)
from clockwork.messages.remembered import Remembered
from clockwork.messages.requests import InferRequest, InferResponse
from clockwork.messages.status import Status
from clockwork.messages.worker_io import ActionArrived, SendResult, WorkerEffect, WorkerEvent
from clockwork.sim.scenario import Scenario
from clockwork.sim.world import make_controller, make_worker
from clockwork.units import FOREVER_NS
from clockwork.worker.core import WorkerRole

EVERY: int = 20
"""A bug shows at every so manieth occasion: rare enough to look like one."""


class BrokenController:
    """A controller role that passes everything through; bugs override."""

    def __init__(self, scenario: Scenario, remembered: Remembered | None) -> None:
        self.inner: ControllerRole = make_controller(scenario, remembered)
        self.occasions = 0

    @property
    def cluster(self) -> Cluster:
        """What it believes."""
        return self.inner.cluster

    @property
    def ledger(self) -> Ledger:
        """What it owes."""
        return self.inner.ledger

    @property
    def wakeup_ns(self) -> int | None:
        """As the real one."""
        return self.inner.wakeup_ns

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """As the real one."""
        return self.inner.handle(batch, now_ns)

    def check(self) -> None:
        """A broken role would not notice."""

    def is_the_one(self) -> bool:
        """Count an occasion, and return whether the bug shows now."""
        self.occasions += 1
        return self.occasions % EVERY == 0


class AnswersTwice(BrokenController):
    """Now and then an answer is sent twice."""

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Repeat some responses."""
        effects: list[ControllerEffect] = []
        for effect in self.inner.handle(batch, now_ns):
            effects.append(effect)
            if isinstance(effect, ToClient) and self.is_the_one():
                effects.append(effect)
        return effects


class ForgetsTimeouts(BrokenController):
    """A request that cannot be served is forgotten instead of refused."""

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Swallow some refusals."""
        return [effect for effect in self.inner.handle(batch, now_ns) if not self._forgets(effect)]

    def _forgets(self, effect: ControllerEffect) -> bool:
        if not isinstance(effect, ToClient) or not isinstance(effect.message, InferResponse):
            return False
        return effect.message.status is not Status.SUCCESS and self.is_the_one()


class KeepsStaleBelief(BrokenController):
    """A worker's loss is overlooked: what it had is believed to be there after it is back."""

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Overlook lost connections, and do not ask workers that come back what they have."""
        seen = [event for event in batch if not isinstance(event, WorkerLost)]
        if not seen:
            return []
        effects = self.inner.handle(seen, now_ns)
        return [effect for effect in effects if not self._asks_again(effect)]

    def _asks_again(self, effect: ControllerEffect) -> bool:
        message = getattr(effect, "message", None)
        if not isinstance(message, GetWorkerState):
            return False
        worker_id = getattr(effect, "worker_id", 0)
        return self.inner.cluster.workers[worker_id].is_ready


class BrokenWorker:
    """A worker role that passes everything through; bugs override."""

    def __init__(self, scenario: Scenario) -> None:
        self.inner: WorkerRole = make_worker(scenario)

    @property
    def wakeup_ns(self) -> int | None:
        """As the real one."""
        return self.inner.wakeup_ns

    def handle(self, batch: Sequence[WorkerEvent], now_ns: int) -> list[WorkerEffect]:
        """As the real one."""
        return self.inner.handle(batch, now_ns)

    def check(self) -> None:
        """A broken role would not notice."""


class LeaksPages(BrokenWorker):
    """An eviction is reported as done, but the pages are never given back."""

    def handle(self, batch: Sequence[WorkerEvent], now_ns: int) -> list[WorkerEffect]:
        """Answer evictions without doing them."""
        kept: list[WorkerEvent] = []
        answers: list[WorkerEffect] = []
        for event in batch:
            if isinstance(event, ActionArrived) and isinstance(event.message, EvictWeights):
                done = EvictWeightsDone(
                    event.message.action_id, Timing(now_ns, now_ns, 0), now_ns, now_ns
                )
                answers.append(SendResult(done, ()))
            else:
                kept.append(event)
        return answers + (self.inner.handle(kept, now_ns) if kept else [])


class IgnoresWindows(BrokenWorker):
    """Tasks start when their turn comes, however late that is."""

    def handle(self, batch: Sequence[WorkerEvent], now_ns: int) -> list[WorkerEffect]:
        """Open all windows for ever."""
        return self.inner.handle([_without_window(event) for event in batch], now_ns)


def _without_window(event: WorkerEvent) -> WorkerEvent:
    if isinstance(event, ActionArrived) and isinstance(event.message, Infer | LoadWeights):
        return replace(event, message=replace(event.message, latest_ns=FOREVER_NS))
    return event


class NeverRecovers(BrokenController):
    """Once a worker was lost, requests are refused for ever."""

    def __init__(self, scenario: Scenario, remembered: Remembered | None) -> None:
        super().__init__(scenario, remembered)
        self.has_lost = False

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Take every request for one with an SLO that nobody can meet."""
        self.has_lost |= any(isinstance(event, WorkerLost) for event in batch)
        if self.has_lost:
            batch = [_impatient(event) for event in batch]
        return self.inner.handle(batch, now_ns)


def _impatient(event: ControllerEvent) -> ControllerEvent:
    """Return a request with an SLO of a nanosecond; other events as they are."""
    if isinstance(event, FromClient) and isinstance(event.message, InferRequest):
        return replace(event, message=replace(event.message, slo_ns=1))
    return event
