"""INFER4, the default policy: deadlines first, the largest batch that makes it, weights on demand.

Three mechanisms, each in a file of its own: admission (what an SLO means), dispatch (which batch,
which GPU, when), placement (which weights where). This module holds them together: it takes in
requests and results, keeps one `Waiting` with each model and refuses what has become hopeless.

Source: clockwork 4.4 to 4.7. Same choice of batches, windows and horizon; ours differs as decided:
hopeless requests are refused when that is known; a batch that failed is tried again while its
deadlines allow, each request alone, so that one bad input fails alone; the way to the worker is
measured, not taken to be 1 ms; `latest` is no later than the batch is of use.

Budget: 12 us per request at batch size 1 on the reference machine.
"""

from typing import Final

from clockwork.controller.action_rows import infer_row, other_row
from clockwork.controller.cluster import Cluster, Gpu, Instance, InstanceState, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.policies.admission import (
    Terms,
    earliest_finish_ns,
    slo_of,
    terms_for,
)
from clockwork.controller.policies.ageing import Ageing
from clockwork.controller.policies.dispatch import Dispatcher, refusal
from clockwork.controller.policies.hopeless import Hopeless
from clockwork.controller.policies.placement import Placement
from clockwork.controller.policies.waiting import Waiting
from clockwork.controller.underway import (
    QUEUED,
    Client,
    PendingEvict,
    PendingInfer,
    PendingLoad,
    Request,
)
from clockwork.messages.actions import (
    ActionFailed,
    EvictWeightsDone,
    InferDone,
    LoadWeightsDone,
)
from clockwork.messages.ids import ActionId
from clockwork.messages.requests import InferRequest
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus, Status
from clockwork.parts.demand import Claim
from clockwork.parts.timers import earliest_ns
from clockwork.units import MS

WEIGHTS_ARE_NOT_THERE: Final = frozenset(
    {ActionStatus.EXEC_WEIGHTS_MISSING, ActionStatus.EXEC_CONCURRENT_WEIGHTS_MODIFICATION}
)
"""Failures which say that belief about an instance is wrong."""
IS_ABOUT_THE_BATCH: Final = frozenset(
    {
        ActionStatus.RUNTIME_ERROR,
        ActionStatus.COPY_INPUT_INVALID_INPUT,
        ActionStatus.COPY_INPUT_BAD_SIZES,
        ActionStatus.COPY_INPUT_BAD_DECOMPRESS,
    }
)
"""Failures that one request's input can cause for all of its batch."""


_SUCCESS: Final = Status.SUCCESS


class Infer4:
    """See `clockwork.controller.policy.Policy`."""

    def __init__(self, config: ControllerConfig, cluster: Cluster, ledger: Ledger) -> None:
        self._config = config
        self._cluster = cluster
        self._ledger = ledger
        # When the first request of a model becomes hopeless.
        self._hopeless = Hopeless()
        self._dispatcher = Dispatcher(config, cluster, ledger, self._hopeless)
        self._placement = Placement(config, cluster, ledger)
        self._ageing = Ageing(cluster)

    @property
    def wakeup_ns(self) -> int | None:
        """When it wants to plan again although nothing happened."""
        return earliest_ns(
            self._hopeless.next_ns, self._dispatcher.wakeup_ns, self._placement.wakeup_ns
        )

    def on_model(self, model: Model) -> None:
        """A model can be asked for."""
        model.kept = Waiting(model)
        self._placement.on_model(model)

    def admit(
        self,
        client: Client,
        message: InferRequest,
        model: Model,
        payload: Payload,
        at_ns: int,
        now_ns: int,
    ) -> None:
        """Queue a request, or refuse it at once if no GPU could finish it in time."""
        waiting = model.kept
        assert isinstance(waiting, Waiting), f"M-{model.model_id} was not announced"
        terms = waiting.terms
        slo_ns = slo_of(message, model, self._config)
        if terms is None or terms.slo_ns != slo_ns or terms.load_ns != model.load.estimate_ns:
            terms = waiting.terms = terms_for(model, slo_ns, self._config)
        deadline_ns = at_ns + terms.internal_slo_ns
        # Positional: keywords cost 0.5 us here.
        request = Request(
            self._ledger.next_request_id(),
            client,
            message,
            payload,
            model,
            at_ns,
            at_ns + slo_ns,
            deadline_ns,
            terms.exec_demand,
            terms.load_demand,
            at_ns + terms.load_expiry_ns,
            model.warm_mask.bit_count(),
        )
        self._ledger.open(request)
        model.demand.arrive(request, at_ns)
        earliest_ns = earliest_finish_ns(model, now_ns, self._cluster.up_mask)
        if earliest_ns > deadline_ns:
            self._refuse_at_once(request, terms, earliest_ns, now_ns)
            return
        waiting.payload_bytes = len(payload)
        self._queue(waiting, request)
        self._placement.consider(waiting, at_ns)

    def on_infer(
        self,
        pending: PendingInfer,
        result: InferDone,
        payload: Payload,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """Answer a batch that ran, and learn from its timings."""
        instance, requests = pending.instance, pending.requests
        copy_input, copy_output = result.copy_input, result.copy_output
        self._end(pending, min(copy_output.end_ns, now_ns))
        occupied_ns = copy_output.end_ns - copy_input.begin_ns
        instance.measure(pending.size_index, occupied_ns)
        self._ageing.note(instance, pending.size_index)
        instance.gpu.worker.latency.add(
            size_bytes=pending.sent_bytes, taken_ns=result.received_at_ns - pending.sent_at_ns
        )
        batch_size = len(requests)
        met = 0
        output_bytes = len(payload) // batch_size
        view = memoryview(payload) if output_bytes else None
        begin = 0
        for request in requests:
            output = b"" if view is None else view[begin : begin + output_bytes]
            begin += output_bytes
            met += self._ledger.respond(
                request, _SUCCESS, now_ns, payload=output, batch_size=batch_size
            )
        self._ledger.effects.append(
            infer_row(
                pending,
                result,
                goodput=met / batch_size,
                received_ns=received_ns,
                now_ns=now_ns,
            )
        )

    def on_infer_failed(
        self, pending: PendingInfer, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Queue the requests of a failed batch again while they can still make it."""
        instance = pending.instance
        self._end(pending, now_ns)
        if result.status in WEIGHTS_ARE_NOT_THERE and instance.state is InstanceState.WARM:
            instance.advance(InstanceState.COLD)
            self._placement.on_pages_freed(instance.gpu)
        self._ledger.effects.append(
            other_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )
        is_about_batch = result.status in IS_ABOUT_THE_BATCH
        for request in pending.requests:
            self._try_again(request, result, is_about_batch=is_about_batch, now_ns=now_ns)

    def on_load(
        self, pending: PendingLoad, result: LoadWeightsDone, *, received_ns: int, now_ns: int
    ) -> None:
        """A model is warm on one more GPU."""
        self._placement.on_load(pending, result, received_ns=received_ns, now_ns=now_ns)
        self._ageing.note_load(pending.instance.model)
        self.on_warm(pending.instance)

    def on_load_failed(
        self, pending: PendingLoad, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """A load failed."""
        self._placement.on_load_failed(pending, result, received_ns=received_ns, now_ns=now_ns)

    def on_evict(
        self,
        pending: PendingEvict,
        result: EvictWeightsDone | ActionFailed,
        *,
        received_ns: int,
        now_ns: int,
    ) -> None:
        """An eviction ended."""
        self._placement.on_evict(pending, result, received_ns=received_ns, now_ns=now_ns)

    def on_gpu_up(self, gpu: Gpu) -> None:
        """A GPU can be used (again)."""
        self._dispatcher.gpu_up(gpu)
        self._placement.gpu_up(gpu)
        self._ageing.gpu_up(gpu)

    def on_gpu_down(self, gpu: Gpu) -> None:
        """A GPU's worker is gone."""
        self._dispatcher.gpu_down(gpu)
        self._placement.gpu_down(gpu)

    def on_pages_freed(self, gpu: Gpu) -> None:
        """Pages of a GPU became free for a reason of its own."""
        self._placement.on_pages_freed(gpu)

    def on_warm(self, instance: Instance) -> None:
        """Requests that wait for this model have one more place to go."""
        waiting = _waiting_of(instance.model)
        if waiting is not None and not waiting.is_empty:
            self._dispatcher.add_ready(waiting)

    def on_place(self, model: Model) -> None:
        """Requests that wait for this model can have its weights loaded at last."""
        waiting = _waiting_of(model)
        if waiting is not None and not waiting.is_empty:
            self._placement.on_place(model)

    def on_client_gone(self, client: Client, now_ns: int) -> None:
        """Drop the queued requests of a client that left."""
        queued = [item for item in client.requests.values() if item.state is QUEUED]
        gone = set(queued)
        for model in dict.fromkeys(request.model for request in queued):
            waiting = _waiting_of(model)
            if waiting is not None:
                waiting.discard(gone)
        for request in queued:
            self._ledger.respond(request, Status.ERROR, now_ns, message="the client left")

    def on_cold(self, model: Model, now_ns: int) -> None:
        """Requests that wait for this model need its weights somewhere else."""
        self._placement.want(model, now_ns)

    def evict(self, instance: Instance, now_ns: int) -> None:
        """Evict a warm instance because a client asked for it."""
        self._placement.evict(instance, now_ns)

    def reserve(self, gpu: Gpu, action_id: ActionId, duration_ns: int, now_ns: int) -> None:
        """Count an Infer of others, so that nothing is planned into its time."""
        gpu.exec.add(action_id, duration_ns=duration_ns, now_ns=now_ns)
        self._dispatcher.note_reserved(gpu)

    def release(self, gpu: Gpu, action_id: ActionId, now_ns: int) -> None:
        """The Infer of others has ended."""
        gpu.exec.end(action_id, at_ns=now_ns)
        self._dispatcher.note_done(gpu)

    def drop_model(self, model: Model, now_ns: int) -> None:
        """Answer everything that waits for a model that is being unloaded."""
        waiting = _waiting_of(model)
        model.kept = None
        self._placement.forget(model)
        for request in waiting.drain() if waiting is not None else ():
            self._ledger.respond(
                request, Status.ERROR, now_ns, message=f"model {model.model_id} was unloaded"
            )

    def plan(self, now_ns: int) -> None:
        """Refuse what is hopeless, send what can be sent, load what is needed."""
        while (due := self._hopeless.pop_due(now_ns)) is not None:
            self._drop_hopeless(due, now_ns)
        self._ageing.plan(now_ns)
        self._dispatcher.plan(now_ns)
        self._placement.plan(now_ns)

    def check(self) -> None:
        """Assert invariants of the mechanisms."""
        self._dispatcher.check()
        self._placement.check()
        for model in self._cluster.models.values():
            waiting = _waiting_of(model)
            if waiting is not None and not waiting.is_empty:
                assert waiting.timer_ns is not None, "requests without a timer"

    def _queue(self, waiting: Waiting, request: Request) -> None:
        """Queue a request and see to it that it is looked at."""
        waiting.push(request)
        self._dispatcher.add_ready(waiting)

    def _drop_hopeless(self, waiting: Waiting, now_ns: int) -> None:
        """Refuse the requests of a model that cannot make it any more; set the next timer."""
        exec_ns = waiting.model.exec_ns[0]
        for request in waiting.drop_hopeless(now_ns + exec_ns + 1):
            self._refuse_late(request, now_ns)
        if not waiting.is_empty:
            self._hopeless.watch(waiting)

    def _refuse_late(self, request: Request, now_ns: int) -> None:
        """Answer a request that waited in vain."""
        if request.internal_deadline_ns <= now_ns:
            status, why = Status.TIMEOUT, "no GPU was free by its deadline"
        else:
            status, why = Status.COULD_NOT_START_IN_TIME, "no GPU is free in time"
        request.model.demand.refuse(request, request.deadline_ns)
        self._ledger.respond(request, status, now_ns, message=refusal(request, why))

    def _refuse_at_once(
        self, request: Request, terms: Terms, earliest_ns: int, now_ns: int
    ) -> None:
        """Answer a request that cannot be met; if that is for want of weights, have them loaded."""
        model, at_ns = request.model, request.arrived_at_ns
        is_cold = not model.warm_mask
        needed_ms = (earliest_ns - at_ns + self._config.buffer_ns) / MS
        why = f"needs {needed_ms:.1f} ms" + (" because its weights are not loaded" * is_cold)
        self._ledger.respond(
            request, Status.COULD_NOT_START_IN_TIME, now_ns, message=refusal(request, why)
        )
        if terms.internal_slo_ns >= model.exec_ns[0] and not model.resident_mask:
            claim = Claim(0, terms.load_demand, at_ns + terms.load_expiry_ns)
            model.demand.arrive(claim, at_ns)
            self._placement.want(model, at_ns)

    def _end(self, pending: PendingInfer, at_ns: int) -> None:
        """Take an Infer off its GPU's timeline."""
        instance = pending.instance
        gpu = instance.gpu
        gpu.exec.end(pending.action_id, at_ns=at_ns)
        instance.inflight -= 1
        self._dispatcher.note_done(gpu)

    def _try_again(
        self, request: Request, result: ActionFailed, *, is_about_batch: bool, now_ns: int
    ) -> None:
        """Queue a request of a failed batch again, or give its answer."""
        waiting = _waiting_of(request.model)
        ran_alone = request.must_run_alone
        if result.status is ActionStatus.EXEC_TOO_LATE:
            # It was refused, not tried: only its deadline limits how often that may happen.
            request.attempts -= 1
        can_repeat = request.attempts < self._config.attempts_max
        if waiting is None or not can_repeat or (is_about_batch and ran_alone):
            message = f"{result.message} (worker status {int(result.status)})"
            self._ledger.respond(request, Status.ERROR, now_ns, message=message)
        elif request.internal_deadline_ns < now_ns + request.model.exec_ns[0]:
            self._refuse_late(request, now_ns)
        else:
            self._ledger.advance(request, QUEUED)
            request.must_run_alone = is_about_batch
            self._queue(waiting, request)
            self._placement.want(request.model, now_ns)


def _waiting_of(model: Model) -> Waiting | None:
    """Return the queues of a model; None if it is gone."""
    return model.kept if isinstance(model.kept, Waiting) else None
