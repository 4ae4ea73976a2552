"""Which weights go where, and what leaves for them.

A model is *wanted* when its holders do not satisfy its load demand: none holds it, or all that do
are overloaded. Wanted models are loaded most needed first, if necessary by evicting. A model whose
demand is satisfied is *replicated*, but into free pages only.

Evicted is the least recently used instance whose model nobody needs; only if there is none, one
whose model needs it less than the one to load. An instance with inferences under way stays.

Source: clockwork 4.7.2, 4.7.3. The original lets each GPU pick from its own sorted list, in turn;
ours picks the most wanted model and then the GPU: one with free pages before one that has to
evict, then the least loaded. The original loads satisfied models by evicting others, too (a
defect that makes weights replicate whenever the link is idle).

Budget: `plan` costs nothing while nothing is wanted; a load costs O(`CANDIDATES_MAX`) plus the
evictions. Wanted models without a GPU that can take them are looked at again after `RETRY_NS`.
"""

from collections import OrderedDict
from heapq import heappop, heappush
from typing import Final

from clockwork.controller.action_rows import load_row, other_row
from clockwork.controller.cluster import Cluster, Gpu, Instance, InstanceState, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.policies.waiting import Waiting
from clockwork.controller.underway import PendingEvict, PendingLoad
from clockwork.messages.actions import (
    ActionFailed,
    EvictWeights,
    EvictWeightsDone,
    LoadWeights,
    LoadWeightsDone,
)
from clockwork.messages.ids import ModelId
from clockwork.units import FOREVER_NS, MS

NO_MODEL_PAGES: Final = 1 << 62
"""Pages of the smallest model while there is none."""
CANDIDATES_MAX: Final = 16
"""GPUs compared per load (chosen: more gain nothing once two have room)."""
VICTIMS_MAX: Final = 256
"""Instances looked at per eviction, least recently used first (chosen)."""
BLOCKED_MAX: Final = 8
"""Wanted models passed over per step because no GPU can take them (chosen)."""
LOOK_NS: Final = 2 * MS
"""How often the holders of a model that is asked for are looked at (chosen: O(holders) each)."""
RETRY_NS: Final = 1 * MS
"""Pause before wanted models that fit nowhere are tried again (chosen)."""
REPLICA_GAP_NS: Final = 1 * MS
"""Pause between two loads of replicas. (Without it 100 models spread over 100 GPUs within 3 s, and
planning 10,000 loads left no time for 40 % of the requests.)"""
BLOCK_NS: Final = 100 * MS
"""Pause of a GPU whose load failed (chosen: long enough not to spin, short for a user)."""


class Placement:
    """Loads and evictions."""

    def __init__(self, config: ControllerConfig, cluster: Cluster, ledger: Ledger) -> None:
        self._config = config
        self._capacity = config.default_slo_ns
        self._cluster = cluster
        self._ledger = ledger
        # Wanted models by minus their priority when they were entered; stale ones are skipped.
        self._wanted: list[tuple[int, int, Model]] = []
        self._wanted_key: dict[ModelId, int] = {}
        self._sequence = 0
        # Satisfied models that might get another copy, in order of demand. (An ordered dict: taking
        # the first of a plain one costs a look at every place where others were.)
        self._replicas: OrderedDict[ModelId, Waiting] = OrderedDict()
        # GPUs whose load executor can take one more.
        self._room_mask = 0
        # Models in need that got a place in this step.
        self._placed: list[Model] = []
        # No wanted model is tried before.
        self._retry_at_ns = 0
        # No replica is loaded before.
        self._replicate_at_ns = 0
        # GPUs on which the smallest model would fit, and how often pages became free anywhere.
        self._free_mask = 0
        self._freed_count = 0
        self._smallest_pages = NO_MODEL_PAGES

    @property
    def wakeup_ns(self) -> int | None:
        """When wanted models should be tried again."""
        return self._retry_at_ns if self._wanted and self._room_mask else None

    def on_model(self, model: Model) -> None:
        """A model was registered."""
        if model.pages < self._smallest_pages:
            self._smallest_pages = model.pages
            for gpu in self._cluster.gpus:
                self._note_pages(gpu)

    def on_place(self, model: Model) -> None:
        """Look in this step at a model that more GPUs can take: there may have been none."""
        self._placed.append(model)

    def consider(self, waiting: Waiting, now_ns: int) -> None:
        """Look at a model that a request just arrived for. Constant time."""
        model = waiting.model
        if not model.resident_mask:
            self.want(model, now_ns)
            return
        places = self._free_mask & model.on_workers_mask & ~model.resident_mask
        if places and waiting.futile_count != self._freed_count:
            self._replicas[model.model_id] = waiting
        elif now_ns >= waiting.next_look_ns:
            # No page is free: only holders that are overloaded justify that others leave.
            waiting.next_look_ns = now_ns + LOOK_NS
            if model.demand.may_be_unsatisfied(self._capacity):
                self.want(model, now_ns)

    def want(self, model: Model, now_ns: int) -> None:
        """Have a model loaded if its demand is not satisfied."""
        if model.is_unloading and not model.open_count:
            return
        priority = model.demand.priority(self._capacity, now_ns)
        entered = self._wanted_key.get(model.model_id)
        # A model is entered again when its need has doubled, so the order stays about right at
        # a constant number of entries per load.
        if priority > 0 and (entered is None or priority >= 2 * entered):
            self._sequence += 1
            self._wanted_key[model.model_id] = priority
            heappush(self._wanted, (-priority, self._sequence, model))

    def plan(self, now_ns: int) -> None:
        """Send loads, and the evictions that they need."""
        for model in self._placed:
            self.want(model, now_ns)
        self._placed.clear()
        if self._wanted and now_ns >= self._retry_at_ns:
            self._load_wanted(now_ns)
        if self._replicas and self._room_mask and now_ns >= self._replicate_at_ns:
            self._replicate(now_ns)

    def gpu_up(self, gpu: Gpu) -> None:
        """A GPU can be used."""
        self._note_pages(gpu)
        self._note_room(gpu, 0)

    def gpu_down(self, gpu: Gpu) -> None:
        """A GPU cannot be used any more."""
        self._room_mask &= ~gpu.bit
        self._free_mask &= ~gpu.bit

    def evict(self, instance: Instance, now_ns: int) -> None:
        """Evict a warm instance."""
        copies = instance.model.warm_mask.bit_count()
        instance.advance(InstanceState.COLD)
        self._freed_count += 1
        self._note_pages(instance.gpu)
        action_id = self._ledger.next_action_id()
        self._ledger.send(
            PendingEvict(action_id, instance.gpu.worker.worker_id, instance, now_ns, copies),
            EvictWeights(action_id, instance.model.model_id, instance.gpu.gpu_id, 0, FOREVER_NS),
        )

    def on_load(
        self, pending: PendingLoad, result: LoadWeightsDone, *, received_ns: int, now_ns: int
    ) -> None:
        """Take in a load that succeeded."""
        instance = pending.instance
        gpu = instance.gpu
        gpu.loads.end(pending.action_id, at_ns=min(result.timing.end_ns, now_ns))
        instance.ready_at_ns = 0
        if instance.state is InstanceState.LOADING:
            instance.advance(InstanceState.WARM)
            gpu.touch(instance)
        instance.model.load.add(result.timing.end_ns - result.timing.begin_ns)
        self._note_room(gpu, now_ns)
        self._ledger.effects.append(
            load_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )

    def on_load_failed(
        self, pending: PendingLoad, result: ActionFailed, *, received_ns: int, now_ns: int
    ) -> None:
        """Take in a load that failed: its pages are free again, and the GPU pauses."""
        instance = pending.instance
        gpu = instance.gpu
        gpu.loads.end(pending.action_id, at_ns=now_ns)
        instance.ready_at_ns = 0
        if instance.state is InstanceState.LOADING:
            instance.advance(InstanceState.COLD)
            self._freed_count += 1
            self._note_pages(gpu)
        gpu.load_blocked_until_ns = now_ns + BLOCK_NS
        self._note_room(gpu, now_ns)
        self.want(instance.model, now_ns)
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
        """Take in the end of an eviction. Belief changed when it was sent."""
        self._ledger.effects.append(
            other_row(pending, result, received_ns=received_ns, now_ns=now_ns)
        )

    def on_pages_freed(self, gpu: Gpu) -> None:
        """Pages of a GPU became free for another reason (model unloaded, weights missing)."""
        self._freed_count += 1
        self._note_pages(gpu)

    def forget(self, model: Model) -> None:
        """A model is being unloaded."""
        self._wanted_key.pop(model.model_id, None)
        self._replicas.pop(model.model_id, None)

    def check(self) -> None:
        """Assert that the masks agree with the GPUs."""
        for gpu in self._cluster.gpus:
            is_up = bool(self._cluster.up_mask & gpu.bit)
            is_free = gpu.free_pages >= self._smallest_pages
            assert bool(self._free_mask & gpu.bit) == (is_up and is_free), f"GPU {gpu.index}"

    def _load_wanted(self, now_ns: int) -> None:
        """Load the most wanted models while some GPU can take them."""
        blocked: list[tuple[int, int, Model]] = []
        while self._wanted and self._room_mask and len(blocked) < BLOCKED_MAX:
            entry = heappop(self._wanted)
            model = entry[2]
            if self._wanted_key.get(model.model_id) != -entry[0]:
                continue  # entered again since, or unloaded
            priority = model.demand.priority(self._capacity, now_ns)
            is_leaving = model.is_unloading and not model.open_count
            if (
                priority > 0
                and not is_leaving
                and not self._load_somewhere(model, priority, now_ns)
            ):
                blocked.append(entry)
            else:
                del self._wanted_key[model.model_id]
        if blocked:
            self._retry_at_ns = now_ns + RETRY_NS
        for entry in blocked:
            heappush(self._wanted, entry)

    def _load_somewhere(self, model: Model, priority: int, now_ns: int) -> bool:
        """Load a model on the best GPU; return False if none can take it now."""
        mask = self._room_mask & model.on_workers_mask & ~model.resident_mask
        if not mask:
            # Nowhere to go: held everywhere, or only busy GPUs are left.
            return not (model.on_workers_mask & ~model.resident_mask)
        for gpu in self._candidates(mask, model):
            if gpu.load_blocked_until_ns > now_ns:
                continue
            if self._make_room(gpu, model, priority, now_ns):
                self._load(model, gpu, now_ns)
                return True
        return False

    def _replicate(self, now_ns: int) -> None:
        """Give satisfied models another copy where pages are free.

        First asked for, first served. (The other way round popular models get most copies, and a
        loaded rack serves 93 instead of 100 % of its requests.)
        """
        while self._replicas:
            model_id, waiting = self._replicas.popitem(last=False)
            model = waiting.model
            if model.demand.is_empty or model.is_unloading:
                continue
            model.demand.forget_expired(now_ns)
            if model.demand.is_empty:
                continue
            places = self._free_mask & model.on_workers_mask & ~model.resident_mask
            mask = places & self._room_mask
            if places and not mask:
                # Its turn comes when a load ends.
                self._replicas[model_id] = waiting
                self._replicas.move_to_end(model_id, last=False)
                return
            fitting = [
                gpu for gpu in self._candidates(mask, model) if gpu.free_pages >= model.pages
            ]
            gpu = next((gpu for gpu in fitting if gpu.load_blocked_until_ns <= now_ns), None)
            if gpu is not None:
                self._load(model, gpu, now_ns)
                self._replicate_at_ns = now_ns + REPLICA_GAP_NS
                return
            if not fitting:
                # A GPU that pauses after a failed load is no reason: it will take loads again.
                waiting.futile_count = self._freed_count

    def _candidates(self, mask: int, model: Model) -> list[Gpu]:
        """Return some GPUs of a mask, best first: free pages, then least demand."""
        some = []
        for gpu in self._cluster.gpus_in(mask):
            some.append(gpu)
            if len(some) == CANDIDATES_MAX:
                break
        some.sort(key=lambda gpu: (gpu.free_pages < model.pages, gpu.demand.load, gpu.index))
        return some

    def _make_room(self, gpu: Gpu, model: Model, priority: int, now_ns: int) -> bool:
        """Evict until a model fits on a GPU; evict nothing if it cannot."""
        missing = model.pages - gpu.free_pages
        if missing <= 0:
            return True
        # A further copy never takes the only one of a model that somebody needs.
        is_first = not model.resident_mask
        idle: list[Instance] = []
        needed: list[Instance] = []
        for looked_at, instance in enumerate(gpu.lru.values()):
            if looked_at == VICTIMS_MAX:
                break
            if instance.state is not InstanceState.WARM or instance.inflight:
                continue
            demand = instance.model.demand
            demand.forget_expired(now_ns)
            if demand.is_empty:
                idle.append(instance)
                missing -= instance.model.pages
                if missing <= 0:
                    break
            elif demand.need < priority and (is_first or _has_other(instance)):
                needed.append(instance)
        return self._evict_victims(idle, needed, missing, now_ns)

    def _evict_victims(
        self, idle: list[Instance], needed: list[Instance], missing: int, now_ns: int
    ) -> bool:
        """Evict idle instances, and needed ones as far as pages are still missing."""
        victims = idle
        for instance in needed:
            if missing <= 0:
                break
            victims.append(instance)
            missing -= instance.model.pages
        if missing > 0:
            return False
        for instance in victims:
            self.evict(instance, now_ns)
            if not instance.model.resident_mask:
                self.want(instance.model, now_ns)
        return True

    def _load(self, model: Model, gpu: Gpu, now_ns: int) -> None:
        """Send LoadWeights; pages are taken at once."""
        instance = model.on(gpu)
        copies = model.warm_mask.bit_count()
        instance.advance(InstanceState.LOADING)
        self._note_pages(gpu)
        expected_ns = model.load.estimate_ns
        start_ns = gpu.loads.available_ns(now_ns, gpu.worker.latency.estimate_ns(0))
        instance.ready_at_ns = start_ns + expected_ns
        ahead_ns = self._config.schedule_ahead_ns
        latest_ns = max(now_ns + MS + ahead_ns, start_ns + ahead_ns)
        action_id = self._ledger.next_action_id()
        gpu.loads.add(action_id, duration_ns=expected_ns, now_ns=now_ns)
        self._note_room(gpu, now_ns)
        self._ledger.send(
            PendingLoad(
                action_id,
                gpu.worker.worker_id,
                instance,
                expected_ns,
                start_ns,
                latest_ns,
                now_ns,
                copies,
            ),
            LoadWeights(action_id, model.model_id, gpu.gpu_id, now_ns, latest_ns, expected_ns),
        )

    def _note_room(self, gpu: Gpu, now_ns: int) -> None:
        """Renew a GPU's bit in the mask of those that can take a load."""
        horizon_ns = now_ns + self._config.schedule_ahead_ns
        has_room = len(gpu.loads) < self._config.loads_max and (
            not len(gpu.loads) or gpu.loads.available_ns(now_ns, 0) < horizon_ns
        )
        if has_room and self._cluster.up_mask & gpu.bit:
            self._room_mask |= gpu.bit
        else:
            self._room_mask &= ~gpu.bit

    def _note_pages(self, gpu: Gpu) -> None:
        if gpu.free_pages >= self._smallest_pages and self._cluster.up_mask & gpu.bit:
            self._free_mask |= gpu.bit
        else:
            self._free_mask &= ~gpu.bit


def _has_other(instance: Instance) -> bool:
    """Return whether another GPU holds the model as well."""
    return instance.model.resident_mask != instance.gpu.bit
