"""DIRECT: forwards each request to the first worker at once; for debugging one worker.

No batching, no deadlines, no eviction: odd request numbers go to GPU 0, even ones to GPU 1 (to
GPU 0 if there is no other); the first request of a model on a GPU has its weights loaded first.
What a worker answers, the client gets: a failure is status 1 with the worker's message.

Source: clockwork 4.9.
"""

from typing import Final

from clockwork.controller.action_rows import infer_row, load_row, other_row
from clockwork.controller.cluster import Cluster, Gpu, Instance, InstanceState, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger, next_free_ns
from clockwork.controller.policies.admission import slo_of
from clockwork.controller.policies.plain import open_request
from clockwork.controller.underway import (
    ASSIGNED,
    Client,
    PendingEvict,
    PendingInfer,
    PendingLoad,
    Request,
)
from clockwork.messages.actions import (
    ActionFailed,
    EvictWeights,
    EvictWeightsDone,
    Infer,
    InferDone,
    LoadWeights,
    LoadWeightsDone,
)
from clockwork.messages.ids import ActionId, WorkerId
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload
from clockwork.messages.status import Status
from clockwork.units import FOREVER_NS, MS, SECOND

LOAD_EXPECTED_NS: Final = 7 * MS
"""Assumed duration of a load (original)."""
WINDOW_NS: Final = 10 * SECOND
"""How late an inference may start (original)."""


class Direct:
    """See `clockwork.controller.policy.Policy`."""

    def __init__(self, config: ControllerConfig, cluster: Cluster, ledger: Ledger) -> None:
        self._config = config
        self._cluster = cluster
        self._ledger = ledger

    @property
    def wakeup_ns(self) -> int | None:
        """Never: everything is sent in the step in which it arrives."""
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
        """Send the request to its GPU, after its weights if they are not there yet."""
        slo_ns = slo_of(message, model, self._config)
        request = open_request(
            self._ledger, client, message, model, payload, at_ns=at_ns, slo_ns=slo_ns
        )
        self._ledger.advance(request, ASSIGNED)
        worker = self._cluster.workers[WorkerId(0)]
        if not worker.is_ready or not worker.gpus:
            text = "worker 0 is not connected, and DIRECT uses no other"
            self._ledger.respond(request, Status.ERROR, now_ns, message=text)
            return
        wanted = 1 if message.user_request_id % 2 == 0 else 0
        instance = model.on(worker.gpus[min(wanted, len(worker.gpus) - 1)])
        if instance.state is InstanceState.COLD and not self._load(instance, now_ns):
            text = f"GPU {instance.gpu.gpu_id} is full, and DIRECT evicts nothing: use `evict`"
            self._ledger.respond(request, Status.ERROR, now_ns, message=text)
            return
        self._infer(request, instance, now_ns)

    def on_infer(
        self,
        pending: PendingInfer,
        result: InferDone,
        payload: Payload,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Answer the request."""
        self._end(pending, now_ns)
        (request,) = pending.requests
        is_met = self._ledger.respond(
            request, Status.SUCCESS, now_ns, payload=payload, batch_size=1
        )
        self._ledger.effects.append(
            infer_row(
                pending, result, goodput=float(is_met), received_ns=received_ns, now_ns=now_ns
            )
        )

    def on_infer_failed(
        self, pending: PendingInfer, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Hand the worker's failure to the client."""
        self._end(pending, now_ns)
        (request,) = pending.requests
        text = f"{result.message} (worker status {int(result.status)})"
        self._ledger.respond(request, Status.ERROR, now_ns, message=text)
        self._ledger.effects.append(
            other_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )

    def on_load(
        self, pending: PendingLoad, result: LoadWeightsDone, *, received_ns: int, now_ns: int
    ) -> None:
        """A model is warm."""
        pending.instance.gpu.loads.end(pending.action_id, at_ns=now_ns)
        pending.instance.ready_at_ns = 0
        if pending.instance.state is InstanceState.LOADING:
            pending.instance.advance(InstanceState.WARM)
        self._ledger.effects.append(
            load_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )

    def on_load_failed(
        self, pending: PendingLoad, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """A model stays cold; its next request tries again."""
        pending.instance.gpu.loads.end(pending.action_id, at_ns=now_ns)
        pending.instance.ready_at_ns = 0
        if pending.instance.state is InstanceState.LOADING:
            pending.instance.advance(InstanceState.COLD)
        self._ledger.effects.append(
            other_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )

    def on_evict(
        self,
        pending: PendingEvict,
        result: EvictWeightsDone | ActionFailed,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Belief changed when it was sent."""
        self._ledger.effects.append(
            other_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )

    def on_model(self, model: Model) -> None:
        """Nothing is kept per model."""

    def on_gpu_up(self, gpu: Gpu) -> None:
        """Nothing is kept per GPU."""

    def on_gpu_down(self, gpu: Gpu) -> None:
        """Nothing is kept per GPU."""

    def on_pages_freed(self, gpu: Gpu) -> None:
        """Nothing waits for pages."""

    def on_warm(self, instance: Instance) -> None:
        """Nothing waits for weights."""

    def on_place(self, model: Model) -> None:
        """The next request has the weights loaded."""

    def on_client_gone(self, client: Client, now_ns: int) -> None:
        """Its requests are at the worker already; their results are dropped."""

    def on_cold(self, model: Model, now_ns: int) -> None:
        """The next request has the weights loaded."""

    def evict(self, instance: Instance, now_ns: int) -> None:
        """Evict a warm instance because a client asked for it."""
        copies = instance.model.warm_mask.bit_count()
        instance.advance(InstanceState.COLD)
        action_id, gpu = self._ledger.next_action_id(), instance.gpu
        self._ledger.send(
            PendingEvict(action_id, gpu.worker.worker_id, instance, now_ns, copies),
            EvictWeights(action_id, instance.model.model_id, gpu.gpu_id, 0, FOREVER_NS),
        )

    def reserve(self, gpu: Gpu, action_id: ActionId, duration_ns: int, now_ns: int) -> None:
        """Count an Infer of others."""
        gpu.exec.add(action_id, duration_ns=duration_ns, now_ns=now_ns)

    def release(self, gpu: Gpu, action_id: ActionId, now_ns: int) -> None:
        """The Infer of others has ended."""
        gpu.exec.end(action_id, at_ns=now_ns)

    def drop_model(self, model: Model, now_ns: int) -> None:
        """No request waits at the controller."""

    def plan(self, now_ns: int) -> None:
        """Nothing is planned."""

    def check(self) -> None:
        """Nothing of its own can be wrong."""

    def _load(self, instance: Instance, now_ns: int) -> bool:
        """Send LoadWeights; return False if its pages are not free."""
        gpu, model = instance.gpu, instance.model
        if gpu.free_pages < model.pages:
            return False
        copies = model.warm_mask.bit_count()
        instance.advance(InstanceState.LOADING)
        action_id, latest_ns = self._ledger.next_action_id(), now_ns + WINDOW_NS
        start_ns = gpu.loads.available_ns(now_ns, gpu.worker.latency.estimate_ns(0))
        gpu.loads.add(action_id, duration_ns=LOAD_EXPECTED_NS, now_ns=now_ns)
        pending = PendingLoad(
            action_id=action_id,
            worker_id=gpu.worker.worker_id,
            instance=instance,
            expected_ns=LOAD_EXPECTED_NS,
            start_ns=start_ns,
            latest_ns=latest_ns,
            sent_at_ns=now_ns,
            copies_loaded=copies,
        )
        self._ledger.send(
            pending,
            LoadWeights(action_id, model.model_id, gpu.gpu_id, now_ns, latest_ns, LOAD_EXPECTED_NS),
        )
        return True

    def _infer(self, request: Request, instance: Instance, now_ns: int) -> None:
        """Send an Infer of one request; it starts when a load under way should be done."""
        gpu, expected_ns = instance.gpu, instance.exec_ns[0]
        earliest_ns = now_ns
        if instance.state is InstanceState.LOADING:
            earliest_ns = gpu.loads.available_ns(now_ns, 0)
        action_id, size_bytes = self._ledger.next_action_id(), len(request.payload)
        start_ns = max(next_free_ns(gpu, now_ns, size_bytes), earliest_ns)
        gpu.exec.add(action_id, duration_ns=expected_ns, now_ns=now_ns)
        instance.inflight += 1
        pending = PendingInfer(
            action_id=action_id,
            worker_id=gpu.worker.worker_id,
            instance=instance,
            requests=[request],
            size_index=0,
            expected_ns=expected_ns,
            start_ns=start_ns,
            latest_ns=now_ns + WINDOW_NS,
            sent_at_ns=now_ns,
            sent_bytes=size_bytes,
            queued_after=0,
            copies_loaded=instance.model.warm_mask.bit_count(),
        )
        action = Infer(
            action_id,
            instance.model.model_id,
            gpu.gpu_id,
            earliest_ns,
            now_ns + WINDOW_NS,
            expected_ns,
            1,
            (size_bytes,),
        )
        self._ledger.send(pending, action, (request.payload,) if size_bytes else ())

    def _end(self, pending: PendingInfer, now_ns: int) -> None:
        pending.instance.gpu.exec.end(pending.action_id, at_ns=now_ns)
        pending.instance.inflight -= 1
