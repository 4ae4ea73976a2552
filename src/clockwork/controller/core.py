"""The controller role: events -> belief and ledger -> policy once per batch -> effects.

Everything that a peer can send is taken in here and handed to the part that owns it: inference to
the policy, models to the catalogue, workers to the fleet; before the end of the startup phases to
`Startup`. Results that come late, twice, for unknown actions or from a worker that does not owe
them are counted and dropped. An action whose result is overdue is given up; its requests are tried
elsewhere or answered.

A role that has fallen behind takes in some batches before it plans: requests that wait in front of
it would otherwise find idle GPUs and run one by one, which costs more and keeps it behind. (With
both cores taken away for 4 ms of every 13, 92 % of 46,000 requests/s are in time instead of 86 %,
and 66 % of 70,000 instead of 58 %: means of four runs in turns.)

Budget: 1 us per event for the way through this module.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from clockwork.controller.assembly import PolicyFactory, assemble
from clockwork.controller.cluster import Cluster
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.policies.infer4 import Infer4
from clockwork.controller.printing import (
    action_line,
    is_told,
    response_line,
    result_line,
)
from clockwork.controller.reception import NORMAL_WAIT_NS, MakeInput
from clockwork.controller.startup import Phase
from clockwork.controller.underway import (
    Pending,
    PendingEvict,
    PendingInfer,
    PendingLoad,
    PendingOrder,
)
from clockwork.messages.actions import (
    ActionFailed,
    ActionType,
    EvictWeights,
    EvictWeightsDone,
    InferDone,
    LoadWeightsDone,
    Result,
)
from clockwork.messages.controller_io import (
    ClientLost,
    ControllerEffect,
    ControllerEvent,
    FromClient,
    FromWorker,
    Say,
    StopAsked,
    ToClient,
    ToWorker,
    WorkerConnected,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.ids import RequestId
from clockwork.messages.remembered import Remembered
from clockwork.messages.requests import (
    InferRequest,
)
from clockwork.messages.role import Wakeup
from clockwork.messages.status import ActionStatus
from clockwork.parts.timers import earliest_ns
from clockwork.units import FOREVER_NS, MS

GATHER_NS: Final = 8 * MS
"""Longest time without a plan while requests wait in front of the role (chosen: less than GPUs are
planned ahead)."""
SWEEP_NS: Final = 500 * MS
"""How often overdue actions are looked for (chosen)."""


class ControllerRole:
    """See `clockwork.messages.role.Role`; events and effects in `messages.controller_io`."""

    def __init__(
        self,
        config: ControllerConfig,
        worker_count: int,
        *,
        make_policy: PolicyFactory = Infer4,
        make_input: MakeInput | None = None,
        remembered: Remembered | None = None,
        worker_addresses: Sequence[str] = (),
    ) -> None:
        """Begin with no worker connected.

        Args:
            config: what changes decisions.
            worker_count: how many workers there are; their ids begin at 0.
            make_policy: makes the policy.
            make_input: makes inputs for requests that have none (`generate_inputs`); None leaves
                that to the workers.
            remembered: what the last controller left, empty for the first one; None: the shell
                keeps nothing, so nothing is told.
            worker_addresses: where the workers are, by id; only for people to read.
        """
        parts = assemble(
            config=config,
            worker_count=worker_count,
            make_policy=make_policy,
            make_input=make_input,
            remembered=remembered,
            worker_addresses=worker_addresses,
        )
        self._config = config
        self._cluster, self._ledger, self._policy = parts.cluster, parts.ledger, parts.policy
        self._reception, self._orders = parts.reception, parts.orders
        self._catalogue, self._results = parts.catalogue, parts.results
        self._fleet, self._startup, self._ending = parts.fleet, parts.startup, parts.ending
        self._notebook, self._uploads = parts.notebook, parts.uploads
        self._profiler = parts.profiler
        # Results that nobody waited for, by reason.
        self.strays: Counter[str] = Counter()
        self._next_sweep_ns = 0
        # When the policy planned last, and since when it has to again.
        self._planned_ns = 0
        self._unplanned_since_ns: int | None = None
        self._on_event: dict[type, Callable[..., None]] = {
            FromClient: self._on_from_client,
            FromWorker: self._on_from_worker,
            ClientLost: self._on_client_lost,
            WorkerConnected: self._on_worker_connected,
            WorkerLeaving: self._on_worker_leaving,
            StopAsked: self._on_stop_asked,
            WorkerLost: self._on_worker_lost,
            Wakeup: self._on_wakeup,
        }

    @property
    def cluster(self) -> Cluster:
        """The belief, for judges and tests to read."""
        return self._cluster

    @property
    def ledger(self) -> Ledger:
        """Open requests and actions, for judges and tests to read."""
        return self._ledger

    @property
    def is_serving(self) -> bool:
        """True after the startup phases."""
        return self._startup.phase is Phase.SERVING

    @property
    def wakeup_ns(self) -> int | None:
        """The earliest instant at which it wants to be woken."""
        return earliest_ns(
            self._unplanned_since_ns,
            self._policy.wakeup_ns,
            self._startup.wakeup_ns,
            self._notebook.wakeup_ns,
            None if self._profiler.is_idle else self._profiler.wakeup_ns,
            self._catalogue.wakeup_ns if self.is_serving else None,
            self._next_sweep_ns if self._ledger.pending else None,
        )

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Take in events that happened by `now_ns`, decide once, return the effects."""
        if self._startup.phase is not Phase.SERVING:
            self._startup.begin(now_ns)
        for event in batch:
            # The most frequent ones not through the table: compiled, this is a direct call.
            if type(event) is FromWorker:
                self._on_from_worker(event, now_ns)
            else:
                self._on_event[type(event)](event, now_ns)
        if now_ns >= self._next_sweep_ns:
            self._give_up_overdue(now_ns)
        if self._startup.phase is not Phase.SERVING:
            self._startup.plan(now_ns)
            self._finish_step(now_ns)
            return self._narrated(self._ledger.take_effects(), now_ns)
        if self._must_gather(batch, now_ns):
            self._unplanned_since_ns = now_ns
        else:
            self._plan(now_ns)
        self._finish_step(now_ns)
        return self._ledger.take_effects()

    def check(self) -> None:
        """Assert every invariant of belief, ledger and policy."""
        self._cluster.check()
        self._ledger.check()
        if self._unplanned_since_ns is None:
            self._policy.check()

    def story(self, request_id: RequestId) -> str:
        """Return what is known of an open request."""
        for client in self._ledger.clients.values():
            if request_id in client.requests:
                return self._ledger.story(client.requests[request_id])
        return f"request {request_id} is not open: it was answered, or never arrived"

    def _must_gather(self, batch: Sequence[ControllerEvent], now_ns: int) -> bool:
        """Return whether to take in more of the requests that wait, and plan later.

        The wakeup that is asked for meanwhile comes as soon as no request waits any more.
        """
        last = batch[-1]
        return (
            type(last) is FromClient
            and now_ns - last.at_ns > NORMAL_WAIT_NS
            and now_ns - self._planned_ns < GATHER_NS
        )

    def _plan(self, now_ns: int) -> None:
        self._planned_ns, self._unplanned_since_ns = now_ns, None
        self._catalogue.plan(now_ns)
        self._policy.plan(now_ns)
        if not self._profiler.is_idle:
            # Last: it takes what the policy leaves.
            self._profiler.plan(now_ns)

    def _finish_step(self, now_ns: int) -> None:
        """Say what follows from all that was decided."""
        self._fleet.plan()
        remember = self._notebook.take(now_ns)
        if remember is not None:
            self._ledger.effects.append(remember)
        if self._ending.is_awaited:
            self._ending.plan()

    def _on_stop_asked(self, event: StopAsked, now_ns: int) -> None:
        # From now on requests do not come past the ending.
        self._on_event[FromClient] = self._ending.on_from_client
        self._ending.begin()

    def _on_wakeup(self, event: Wakeup, now_ns: int) -> None:
        """Nothing to take in."""

    def _on_from_client(self, event: FromClient, now_ns: int) -> None:
        message = event.message
        if type(message) is InferRequest:
            if self._startup.phase is Phase.SERVING:
                self._reception.admit(event, message, now_ns)
            else:
                self._startup.hold(event.client_id, message, now_ns)
        else:
            self._orders.on_from_client(event, now_ns)

    def _on_client_lost(self, event: ClientLost, now_ns: int) -> None:
        self._uploads.client_lost(event.client_id)
        client = self._ledger.lose_client(event.client_id)
        if client is not None:
            self._policy.on_client_gone(client, now_ns)

    def _on_worker_connected(self, event: WorkerConnected, now_ns: int) -> None:
        self._fleet.connected(event.worker_id)

    def _on_worker_leaving(self, event: WorkerLeaving, now_ns: int) -> None:
        self._fleet.leaving(event.worker_id, event.reason, now_ns)

    def _on_worker_lost(self, event: WorkerLost, now_ns: int) -> None:
        self._fleet.lost(event.worker_id, event.reason, now_ns)

    def _on_from_worker(self, event: FromWorker, now_ns: int) -> None:
        result = event.message
        pending = self._ledger.pending.get(result.action_id)
        if pending is None:
            self.strays["unknown, late or repeated action"] += 1
        elif pending.worker_id != event.worker_id:
            self.strays["another worker's action"] += 1
        else:
            del self._ledger.pending[result.action_id]
            self._on_result(pending, result, event, now_ns)

    def _on_result(self, pending: Pending, result: Result, event: FromWorker, now_ns: int) -> None:
        """Hand a result to the part that sent the action."""
        policy, received_ns = self._policy, event.at_ns
        if isinstance(pending, PendingInfer) and isinstance(result, InferDone):
            policy.on_infer(pending, result, event.payload, received_ns=received_ns, now_ns=now_ns)
            self._notebook.note_result(pending, now_ns)
        elif isinstance(pending, PendingLoad) and isinstance(result, LoadWeightsDone):
            policy.on_load(pending, result, received_ns=received_ns, now_ns=now_ns)
            self._notebook.note_result(pending, now_ns)
        elif isinstance(pending, PendingEvict) and isinstance(result, EvictWeightsDone):
            policy.on_evict(pending, result, received_ns=received_ns, now_ns=now_ns)
        elif isinstance(pending, PendingOrder):
            self._on_order_result(pending, result, now_ns)
        else:
            self._on_failure(pending, self._as_failure(result), received_ns, now_ns)

    def _on_order_result(self, pending: PendingOrder, result: Result, now_ns: int) -> None:
        if not self.is_serving and is_told(result):
            line = f"Worker {pending.worker_id} --> {result_line(result)}"
            self._ledger.effects.append(Say(line))
        if pending.owner is self._fleet:
            self._fleet.on_result(pending, result)
        else:
            self._results.give(pending, result, now_ns)
        self._startup.on_result(now_ns)

    def _on_failure(
        self, pending: Pending, failed: ActionFailed, received_ns: int, now_ns: int
    ) -> None:
        """Take in that an action of the policy was not carried out."""
        policy = self._policy
        if isinstance(pending, PendingInfer):
            policy.on_infer_failed(pending, failed, received_ns=received_ns, now_ns=now_ns)
        elif isinstance(pending, PendingLoad):
            policy.on_load_failed(pending, failed, received_ns=received_ns, now_ns=now_ns)
        elif isinstance(pending, PendingEvict):
            policy.on_evict(pending, failed, received_ns=received_ns, now_ns=now_ns)

    def _as_failure(self, result: Result) -> ActionFailed:
        """Return the failure that a result is; a result of the wrong kind is one as well."""
        if isinstance(result, ActionFailed):
            return result
        self.strays["wrong kind of result"] += 1
        return ActionFailed(
            result.action_id,
            ActionType.INFER,
            ActionStatus.RUNTIME_ERROR,
            f"the worker answered with {type(result).__name__}",
            result.received_at_ns,
            result.sent_at_ns,
        )

    def _give_up_overdue(self, now_ns: int) -> None:
        """Fail the actions whose results should have come long ago. O(actions under way)."""
        self._next_sweep_ns = now_ns + SWEEP_NS
        limit_ns = now_ns - self._config.overdue_after_ns
        for pending in list(self._ledger.pending.values()):
            if not isinstance(pending, (PendingInfer, PendingLoad)):
                continue
            if pending.latest_ns + pending.expected_ns >= limit_ns:
                continue
            del self._ledger.pending[pending.action_id]
            self.strays["overdue action"] += 1
            failed = ActionFailed(
                pending.action_id,
                ActionType.INFER,
                ActionStatus.CANCELLED,
                "the worker did not answer in time",
                now_ns,
                now_ns,
            )
            self._on_failure(pending, failed, now_ns, now_ns)
            if isinstance(pending, PendingLoad):
                self._evict_after(pending, now_ns)

    def _evict_after(self, load: PendingLoad, now_ns: int) -> None:
        """Evict what a load that was given up may bring after all.

        Its pages count as free from now on. Workers keep loads and evictions in order, so they are
        free again before the next load takes them.
        """
        instance, action_id = load.instance, self._ledger.next_action_id()
        self._ledger.send(
            PendingEvict(action_id, load.worker_id, instance, now_ns, load.copies_loaded),
            EvictWeights(action_id, instance.model.model_id, instance.gpu.gpu_id, 0, FOREVER_NS),
        )

    def _narrated(self, effects: list[ControllerEffect], now_ns: int) -> list[ControllerEffect]:
        """Return the effects of a startup step with a console line for each message."""
        told: list[ControllerEffect] = []
        for effect in effects:
            if isinstance(effect, ToWorker) and is_told(effect.message):
                line = action_line(effect.message, now_ns)
                told.append(Say(f"Worker {effect.worker_id} <--  {line}"))
            elif isinstance(effect, ToClient) and is_told(effect.message):
                told.append(Say(f"Client <--  {response_line(effect.message)}"))
            told.append(effect)
        return told
