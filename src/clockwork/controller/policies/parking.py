"""Models whose requests wait because no GPU that holds them has room.

Two places, by how many GPUs hold the model. A model with few holders is entered into the heap of
each. One with many is entered once into a shared heap, in which a GPU with room looks for the
first model that it holds: with at least one holder in `SHARED_SHARE` GPUs that is a few entries
away. (With entries at all holders, 60 GPUs that hold 100 models spent 45 % of the controller's
time on entries that another GPU had used already.)

Entries are checked when they are met: the queue may be empty by then, its urgency later, or the
weights gone. An entry whose urgency has become later is entered again with it.

Invariants: a model has at most one entry in the shared heap, and one per GPU in the others.
"""

from heapq import heappop, heappush
from typing import Final

from clockwork.controller.cluster import Cluster, Gpu
from clockwork.controller.policies.waiting import Waiting
from clockwork.units import FOREVER_NS

FEW_HOLDERS: Final = 4
"""Up to so many holders each gets an entry (chosen: four pushes cost as much as one search)."""
SHARED_SHARE: Final = 8
"""With at least every eighth GPU holding it, a model goes to the shared heap (chosen)."""
SKIPPED_MAX: Final = 64
"""Entries of the shared heap that a GPU passes over before it gives up for this step (chosen; a
GPU that holds one in eight of them finds one within 64 in all but 2 of 10,000 cases)."""

Entry = tuple[int, int, Waiting]
"""(urgency when entered, sequence, the model's queues)."""


class Parking:
    """Waiting models, found by GPU and urgency."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # By GPU index.
        self._own: list[list[Entry]] = []
        self._shared: list[Entry] = []
        # Entries everywhere, stale ones included.
        self.entry_count = 0
        self._sequence = 0

    def add_gpu(self, gpu: Gpu) -> None:
        """Make place for a GPU's entries."""
        while len(self._own) <= gpu.index:
            self._own.append([])

    def park(self, waiting: Waiting) -> None:
        """Enter a model with requests wherever it has to be found and is not entered yet."""
        warm_mask = waiting.model.warm_mask
        holders = warm_mask.bit_count()
        if holders > FEW_HOLDERS and holders * SHARED_SHARE >= len(self._own):
            if not waiting.is_shared:
                waiting.is_shared = True
                self._enter(self._shared, waiting, waiting.urgency_ns())
            return
        missing = warm_mask & ~waiting.parked_mask
        if missing:
            waiting.parked_mask |= missing
            urgency_ns = waiting.urgency_ns()
            for gpu in self._cluster.gpus_in(missing):
                self._enter(self._own[gpu.index], waiting, urgency_ns)

    def take(self, gpu: Gpu) -> Waiting | None:
        """Remove and return the most urgent model that can run on `gpu`, or None."""
        own = self._own[gpu.index]
        urgency_ns = self._first_own_ns(own, gpu)
        if self._shared:
            found = self._take_shared(gpu, urgency_ns)
            if found is not None:
                return found
        if not own:
            return None
        waiting = self._leave(own)[2]
        waiting.parked_mask &= ~gpu.bit
        return waiting

    def check(self) -> None:
        """Assert the invariants of the header."""
        count = len(self._shared) + sum(len(own) for own in self._own)
        assert count == self.entry_count, f"{self.entry_count} entries counted, {count} there"
        shared = [waiting.model.model_id for _, _, waiting in self._shared]
        assert len(shared) == len(set(shared)), "a model is in the shared heap twice"
        for index, own in enumerate(self._own):
            for _, _, waiting in own:
                assert waiting.parked_mask >> index & 1, f"M-{waiting.model.model_id} unmarked"

    def _first_own_ns(self, own: list[Entry], gpu: Gpu) -> int:
        """Drop and renew stale entries at the top of a GPU's heap; return its first urgency."""
        while own:
            entered_ns, _, waiting = own[0]
            if waiting.is_empty or not waiting.model.warm_mask & gpu.bit:
                self._leave(own)
                waiting.parked_mask &= ~gpu.bit
                continue
            urgency_ns = waiting.urgency_ns()
            if urgency_ns <= entered_ns:
                return entered_ns
            self._leave(own)
            self._enter(own, waiting, urgency_ns)
        return FOREVER_NS

    def _take_shared(self, gpu: Gpu, before_ns: int) -> Waiting | None:
        """Take the first model of the shared heap that `gpu` holds, if it is more urgent."""
        shared = self._shared
        skipped: list[Entry] = []
        found = None
        while shared and shared[0][0] < before_ns and len(skipped) < SKIPPED_MAX:
            entry = self._leave(shared)
            entered_ns, _, waiting = entry
            if waiting.is_empty or not waiting.model.warm_mask:
                waiting.is_shared = False
                continue
            urgency_ns = waiting.urgency_ns()
            if urgency_ns > entered_ns:
                self._enter(shared, waiting, urgency_ns)
            elif waiting.model.warm_mask & gpu.bit:
                waiting.is_shared = False
                found = waiting
                break
            else:
                skipped.append(entry)
        for entry in skipped:
            heappush(shared, entry)
        self.entry_count += len(skipped)
        return found

    def _enter(self, heap: list[Entry], waiting: Waiting, urgency_ns: int) -> None:
        self._sequence += 1
        self.entry_count += 1
        heappush(heap, (urgency_ns, self._sequence, waiting))

    def _leave(self, heap: list[Entry]) -> Entry:
        self.entry_count -= 1
        return heappop(heap)
