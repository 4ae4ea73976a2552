"""ECHO: answers every inference at once with an empty output; measures the way to the controller.

Startup runs as usual, so models can be loaded and listed, but workers never see an inference.

Source: clockwork 4.9.
"""

from typing import Never

from clockwork.controller.cluster import Cluster, Gpu, Instance, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.policies.admission import slo_of
from clockwork.controller.policies.plain import open_request
from clockwork.controller.underway import ASSIGNED, Client, PendingEvict, PendingInfer, PendingLoad
from clockwork.messages.actions import ActionFailed, EvictWeightsDone, InferDone, LoadWeightsDone
from clockwork.messages.ids import ActionId
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload
from clockwork.messages.status import Status


class Echo:
    """See `clockwork.controller.policy.Policy`."""

    def __init__(self, config: ControllerConfig, cluster: Cluster, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger

    @property
    def wakeup_ns(self) -> int | None:
        """Never: everything is answered in the step in which it arrives."""
        return None

    def admit(
        self,
        client: Client,
        message: InferRequest,
        model: Model,
        payload: Payload,
        at_ns: int,
        now_ns: int,
    ) -> None:
        """Answer at once."""
        slo_ns = slo_of(message, model, self._config)
        request = open_request(
            self._ledger, client, message, model, b"", at_ns=at_ns, slo_ns=slo_ns
        )
        self._ledger.advance(request, ASSIGNED)
        self._ledger.respond(request, Status.SUCCESS, now_ns, batch_size=1)

    def on_infer(
        self,
        pending: PendingInfer,
        result: InferDone,
        payload: Payload,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Not possible: no Infer is ever sent."""
        self._never_sent(pending)

    def on_infer_failed(
        self, pending: PendingInfer, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Not possible: no Infer is ever sent."""
        self._never_sent(pending)

    def on_load(
        self, pending: PendingLoad, result: LoadWeightsDone, *, received_ns: int, now_ns: int
    ) -> None:
        """Not possible: no LoadWeights is ever sent."""
        self._never_sent(pending)

    def on_load_failed(
        self, pending: PendingLoad, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Not possible: no LoadWeights is ever sent."""
        self._never_sent(pending)

    def on_evict(
        self,
        pending: PendingEvict,
        result: EvictWeightsDone | ActionFailed,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Not possible: no EvictWeights is ever sent."""
        self._never_sent(pending)

    def on_model(self, model: Model) -> None:
        """Nothing is kept per model."""

    def on_gpu_up(self, gpu: Gpu) -> None:
        """GPUs are not used."""

    def on_gpu_down(self, gpu: Gpu) -> None:
        """GPUs are not used."""

    def on_pages_freed(self, gpu: Gpu) -> None:
        """GPUs are not used."""

    def on_warm(self, instance: Instance) -> None:
        """Weights are not used."""

    def on_place(self, model: Model) -> None:
        """Nothing is ever loaded."""

    def on_client_gone(self, client: Client, now_ns: int) -> None:
        """No request outlives its step."""

    def on_cold(self, model: Model, now_ns: int) -> None:
        """The next request has the weights loaded."""

    def evict(self, instance: Instance, now_ns: int) -> None:
        """Weights are not used, so there is nothing to evict."""

    def reserve(self, gpu: Gpu, action_id: ActionId, duration_ns: int, now_ns: int) -> None:
        """GPUs are not used."""

    def release(self, gpu: Gpu, action_id: ActionId, now_ns: int) -> None:
        """GPUs are not used."""

    def drop_model(self, model: Model, now_ns: int) -> None:
        """No request outlives its step."""

    def plan(self, now_ns: int) -> None:
        """Nothing is planned."""

    def check(self) -> None:
        """Assert that nothing is left open."""
        assert self._ledger.open_count == 0, f"{self._ledger.open_count} requests are open"

    def _never_sent(self, pending: PendingInfer | PendingLoad | PendingEvict) -> Never:
        raise AssertionError(f"ECHO sent an action: {pending}")
