"""What a policy is to the controller.

The core keeps belief and ledger up to date; a policy reads both and decides. It is told what
changed and then asked once per batch of events to plan, so that it decides on a consistent state.
"""

from typing import Protocol

from clockwork.controller.cluster import Gpu, Instance, Model
from clockwork.controller.underway import Client, PendingEvict, PendingInfer, PendingLoad
from clockwork.messages.actions import (
    ActionFailed,
    EvictWeightsDone,
    InferDone,
    LoadWeightsDone,
)
from clockwork.messages.ids import ActionId
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload


class Policy(Protocol):
    """Decides about requests, batches, loads and evictions."""

    @property
    def wakeup_ns(self) -> int | None:
        """When it wants to plan again although nothing happened."""

    def admit(
        self,
        client: Client,
        message: InferRequest,
        model: Model,
        payload: Payload,
        at_ns: int,
        now_ns: int,
    ) -> None:
        """Take in a request for a known model with an input of the right size.

        Args:
            at_ns: when it arrived, from which its deadline counts.
            now_ns: when it is looked at: it may have waited for that.
        """

    def on_infer(
        self,
        pending: PendingInfer,
        result: InferDone,
        payload: Payload,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Take in a batch that ran."""

    def on_infer_failed(
        self, pending: PendingInfer, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Take in a batch that did not run."""

    def on_load(
        self, pending: PendingLoad, result: LoadWeightsDone, *, received_ns: int, now_ns: int
    ) -> None:
        """Take in a load that succeeded."""

    def on_load_failed(
        self, pending: PendingLoad, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Take in a load that failed."""

    def on_evict(
        self,
        pending: PendingEvict,
        result: EvictWeightsDone | ActionFailed,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Take in the end of an eviction."""

    def on_gpu_up(self, gpu: Gpu) -> None:
        """A GPU can be used (again)."""

    def on_gpu_down(self, gpu: Gpu) -> None:
        """A GPU's worker is gone; its actions have been failed already."""

    def on_model(self, model: Model) -> None:
        """A model can be asked for."""

    def on_place(self, model: Model) -> None:
        """A worker has got a model: its GPUs can take the weights."""

    def on_client_gone(self, client: Client, now_ns: int) -> None:
        """Nobody waits for a client's answers any more."""

    def on_pages_freed(self, gpu: Gpu) -> None:
        """Pages of a GPU became free, or were taken, by others than the policy."""

    def on_warm(self, instance: Instance) -> None:
        """An instance turned out to be warm already."""

    def on_cold(self, model: Model, now_ns: int) -> None:
        """The last GPU that held a model's weights is gone."""

    def evict(self, instance: Instance, now_ns: int) -> None:
        """Evict a warm instance because a client asked for it."""

    def drop_model(self, model: Model, now_ns: int) -> None:
        """Answer everything that waits for a model, because it is being unloaded."""

    def reserve(self, gpu: Gpu, action_id: ActionId, duration_ns: int, now_ns: int) -> None:
        """Others send an Infer to a GPU that has nothing to do."""

    def release(self, gpu: Gpu, action_id: ActionId, now_ns: int) -> None:
        """The Infer of others has ended."""

    def plan(self, now_ns: int) -> None:
        """Decide what to send and whom to answer."""

    def check(self) -> None:
        """Assert invariants."""
