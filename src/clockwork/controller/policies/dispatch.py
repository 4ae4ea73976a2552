"""Which batch goes to which GPU, and when: the part of INFER4 that sends Infer actions.

Theory. A model's *urgency* is the latest start at which the largest batch that its queue fills
meets its first deadline. When a GPU has room (it will be free within the schedule-ahead), the most
urgent model that is warm there gets it; when a model has requests, it goes to the holder that will
be free first, an idle one before any other.

How the cost stays flat as holders grow: masks of GPUs are ints, so finding a holder with room is
one ``and``. Only when no holder has room is the model *parked* (``parking.py``).

Invariants after each step: a model with requests that is warm somewhere is parked; a GPU is idle
exactly when nothing is outstanding there.

Source: clockwork 4.6, 4.7.

Not here: admission and results (``infer4.py``), loads and evictions (``placement.py``).
"""

from heapq import heappop, heappush
from typing import Final

from clockwork.controller.cluster import Cluster, Gpu, Instance, InstanceState
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger, next_free_ns
from clockwork.controller.policies.hopeless import Hopeless
from clockwork.controller.policies.parking import Parking
from clockwork.controller.policies.waiting import Waiting
from clockwork.controller.underway import ASSIGNED, PendingInfer, Request
from clockwork.messages.actions import Infer
from clockwork.messages.role import Payload
from clockwork.messages.status import Status
from clockwork.parts.batching import BatchQueue
from clockwork.parts.timers import Timers
from clockwork.units import FOREVER_NS, MS

COMPARED_MAX: Final = 8
"""Busy holders compared for the one that is free first (chosen: eight choices come within a few
per cent of all, and the cost stays bounded)."""
SLACK_SHARE: Final = 3
"""A GPU that has got room may wait for a third of what it still has to do (chosen)."""

Ready = list[tuple[int, int, Waiting, Gpu | None]]
"""Heap of (urgency, sequence, model, GPU that brought it up if one did): may have a GPU."""


class Dispatcher:
    """Rooms of GPUs, parked models, and the sending of batches."""

    def __init__(
        self, config: ControllerConfig, cluster: Cluster, ledger: Ledger, hopeless: Hopeless
    ) -> None:
        self._ahead_ns = config.schedule_ahead_ns
        self._cluster = cluster
        self._ledger = ledger
        self._hopeless = hopeless
        # GPUs that will be free within the schedule-ahead, and those with nothing outstanding.
        self._room_mask = 0
        self._idle_mask = 0
        self._parking = Parking(cluster)
        # Models with new requests or new holders, and GPUs whose load fell, in this step.
        self._ready: list[Waiting] = []
        self._eased: list[Gpu] = []
        # When a full GPU will have room again if nothing else happens; at most one timer each.
        self._rooms: Timers[Gpu] = Timers()
        self._timed_mask = 0
        # Where the comparison of busy holders begins; moves on so that all get their turn.
        self._cursor = 0
        # Breaks ties of urgency.
        self._sequence = 0

    @property
    def wakeup_ns(self) -> int | None:
        """When a GPU gets room by the mere passing of time, if something waits for that.

        A little later: until then something else may happen, and this is done on the way.
        """
        room_ns = self._rooms.next_ns
        if room_ns is None or not self._parking.entry_count:
            return None
        return room_ns + self._ahead_ns // SLACK_SHARE

    def add_ready(self, waiting: Waiting) -> None:
        """Look at a model in this step: it has a new request or a new holder."""
        if not waiting.is_ready:
            waiting.is_ready = True
            self._ready.append(waiting)

    def gpu_up(self, gpu: Gpu) -> None:
        """A GPU can be used."""
        self._parking.add_gpu(gpu)
        self._idle_mask |= gpu.bit
        self._eased.append(gpu)

    def gpu_down(self, gpu: Gpu) -> None:
        """A GPU cannot be used any more; nothing is outstanding on it."""
        self._room_mask &= ~gpu.bit
        self._idle_mask &= ~gpu.bit

    def plan(self, now_ns: int) -> None:
        """Send what can be sent."""
        ready: Ready = []
        for waiting in self._ready:
            waiting.is_ready = False
            if not waiting.is_empty:
                self._offer(ready, waiting, None)
        self._ready.clear()
        self._find_room(ready, now_ns)
        while ready:
            _, _, waiting, source = heappop(ready)
            self._dispatch(waiting, ready, now_ns)
            if source is not None and self._room_mask & source.bit:
                self._bring_up(source, ready)

    def _bring_up(self, gpu: Gpu, ready: Ready) -> None:
        """Move the most urgent parked model of a GPU with room to `ready`, if there is one."""
        waiting = self._parking.take(gpu)
        if waiting is not None:
            self._offer(ready, waiting, gpu)

    def check(self) -> None:
        """Assert the invariants of the header."""
        for gpu in self._cluster.gpus:
            is_idle = bool(self._idle_mask & gpu.bit)
            is_up = bool(self._cluster.up_mask & gpu.bit)
            assert is_idle == (is_up and not len(gpu.exec)), f"GPU {gpu.index}: idle={is_idle}"
        self._parking.check()

    def _find_room(self, ready: Ready, now_ns: int) -> None:
        """Mark the GPUs that have got room, and bring up what is parked there."""
        while (due := self._rooms.pop_due(now_ns)) is not None:
            self._timed_mask &= ~due.bit
            self._eased.append(due)
        for gpu in self._eased:
            if self._room_mask & gpu.bit or not self._cluster.up_mask & gpu.bit:
                continue
            if self._note_room(gpu, next_free_ns(gpu, now_ns), now_ns):
                self._bring_up(gpu, ready)
        self._eased.clear()

    def _dispatch(self, waiting: Waiting, ready: Ready, now_ns: int) -> None:
        """Send a batch of a model to the best GPU with room, or park it on all its holders."""
        if waiting.is_empty:
            return
        candidates = waiting.model.warm_mask & self._room_mask
        if not candidates:
            self._parking.park(waiting)
            self._hopeless.watch(waiting)
            return
        gpu = self._first_free(candidates, now_ns)
        alone = waiting.alone
        queue = waiting.queue if alone is None or not alone.entries else alone
        size_bytes = waiting.payload_bytes
        if size_bytes:
            size_bytes *= min(len(queue.entries), waiting.model.sizes[-1])
        free_ns = next_free_ns(gpu, now_ns, size_bytes)
        # A busy GPU may have fallen behind since it was marked.
        if not gpu.exec.outstanding or self._note_room(gpu, free_ns, now_ns):
            instance = gpu.lru[waiting.model.model_id]
            free_ns = self._start(waiting, queue, instance, free_ns, now_ns)
            self._note_room(gpu, free_ns, now_ns)
        if not waiting.is_empty:
            self._offer(ready, waiting, None)

    def _offer(self, ready: Ready, waiting: Waiting, source: Gpu | None) -> None:
        self._sequence += 1
        heappush(ready, (waiting.urgency_ns(), self._sequence, waiting, source))

    def _first_free(self, candidates: int, now_ns: int) -> Gpu:
        """Return the GPU of a non-empty mask that will be free first."""
        idle = candidates & self._idle_mask
        if idle:
            return self._cluster.gpus[(idle & -idle).bit_length() - 1]
        gpus = self._cluster.gpus
        mask = candidates >> self._cursor << self._cursor or candidates
        best, best_ns = gpus[(mask & -mask).bit_length() - 1], FOREVER_NS
        for _ in range(COMPARED_MAX):
            gpu = gpus[(mask & -mask).bit_length() - 1]
            free_ns = gpu.exec.available_ns(now_ns, 0)
            if free_ns < best_ns:
                best, best_ns = gpu, free_ns
            mask &= mask - 1
            if not mask:
                break
        self._cursor = best.index + 1
        return best

    def _note_room(self, gpu: Gpu, free_ns: int, now_ns: int) -> bool:
        """Renew the room bit of a GPU that is free at `free_ns`; return whether it has room.

        A full GPU is looked at again when it has room by the mere passing of time.
        """
        room_ns = free_ns - self._ahead_ns
        if room_ns < now_ns or not gpu.exec.outstanding:
            self._room_mask |= gpu.bit
            return True
        self._room_mask &= ~gpu.bit
        if not self._timed_mask & gpu.bit:
            self._timed_mask |= gpu.bit
            self._rooms.set(room_ns + 1, gpu)
        return False

    def _start(
        self,
        waiting: Waiting,
        queue: BatchQueue[Request],
        instance: Instance,
        start_ns: int,
        now_ns: int,
    ) -> int:
        """Send the best batch of a queue to a GPU; return when the GPU will be free then.

        What cannot make it there is refused; nothing may be left to send.
        """
        assert instance.state is InstanceState.WARM, instance.describe()
        index, batch, dropped = queue.choose(start_ns, instance.exec_ns)
        for request in dropped:
            self._refuse(request, instance, start_ns, has_batch=bool(batch), now_ns=now_ns)
        if not batch:
            return start_ns
        self._send(waiting, instance, batch, index, start_ns, now_ns)
        return start_ns + instance.exec_ns[index]

    def _send(
        self,
        waiting: Waiting,
        instance: Instance,
        batch: list[Request],
        size_index: int,
        start_ns: int,
        now_ns: int,
    ) -> None:
        """Send one Infer."""
        gpu, model = instance.gpu, instance.model
        expected_ns = instance.exec_ns[size_index]
        ahead_ns = self._ahead_ns
        latest_ns = min(
            max(now_ns + MS + ahead_ns, start_ns + ahead_ns),
            batch[-1].deadline_ns - expected_ns,
        )
        demand = model.demand
        payloads: list[Payload] = []
        sizes: list[int] = []
        sent_bytes = 0
        for request in batch:
            self._ledger.advance(request, ASSIGNED)
            request.attempts += 1
            demand.assign(request)
            size_bytes = len(request.payload)
            payloads.append(request.payload)
            sizes.append(size_bytes)
            sent_bytes += size_bytes
        instance.inflight += 1
        gpu.touch(instance)
        action_id = self._ledger.next_action_id()
        if not gpu.exec.outstanding:
            self._idle_mask &= ~gpu.bit
        gpu.exec.add(action_id, duration_ns=expected_ns, now_ns=now_ns)
        pending = PendingInfer(
            action_id,
            gpu.worker.worker_id,
            instance,
            batch,
            size_index,
            expected_ns,
            start_ns,
            latest_ns,
            now_ns,
            sent_bytes,
            waiting.count,
            model.warm_mask.bit_count(),
        )
        action = Infer(
            action_id,
            model.model_id,
            gpu.gpu_id,
            now_ns,
            latest_ns,
            expected_ns,
            len(batch),
            tuple(sizes),
        )
        self._ledger.send(pending, action, tuple(payloads) if sent_bytes else ())

    def note_reserved(self, gpu: Gpu) -> None:
        """An Infer of others was sent to a GPU."""
        self._idle_mask &= ~gpu.bit

    def note_done(self, gpu: Gpu) -> None:
        """An Infer of a GPU ended: renew its idle bit and look at it in this step."""
        if not gpu.exec.outstanding and self._cluster.up_mask & gpu.bit:
            self._idle_mask |= gpu.bit
        self._eased.append(gpu)

    def _refuse(
        self, request: Request, instance: Instance, start_ns: int, *, has_batch: bool, now_ns: int
    ) -> None:
        """Answer a request that no batch on the first free GPU can serve in time."""
        done_ns = start_ns + instance.exec_ns[0]
        late_ns = done_ns - request.internal_deadline_ns
        if late_ns <= 0 and has_batch:
            status, why = Status.SKIPPED, "given up for a larger batch of later requests"
        else:
            status = Status.COULD_NOT_START_IN_TIME
            why = f"would be done {late_ns / MS:.1f} ms too late"
        request.model.demand.refuse(request, request.deadline_ns)
        self._ledger.respond(request, status, now_ns, message=refusal(request, why))


def refusal(request: Request, why: str) -> str:
    """Return the message of a refused request: what was predicted, what was allowed."""
    slo_ms = (request.deadline_ns - request.arrived_at_ns) / MS
    return f"{why} (SLO {slo_ms:.1f} ms); try again when load falls, or allow more time"
