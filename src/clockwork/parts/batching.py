"""Requests of one model that wait to be batched, and the choice of the next batch.

The choice is INFER4's: the largest supported batch size that enough waiting requests can fill and
still meet their deadlines when it starts at a given instant; those that cannot make it are given
up, first deadline first.

Source: clockwork 4.5, 4.6. The original pushes one strategy per request, batch size and GPU; its
outcome depends only on the deadlines in order, so one heap of deadlines per model gives the same
batches at a cost that does not grow with GPUs. Requests leave in order of deadline (the original:
of arrival), which is the same while the SLO of a model does not change.

Not here: which GPU, and when (``controller/policies/infer4.py``).
"""

from bisect import bisect_left
from collections.abc import Container, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

Entry = tuple[int, int, T]
"""(deadline_ns, sequence, request)."""


class BatchSizes:
    """The batch sizes that may be used for a model, ascending, and the best one for a count."""

    __slots__ = ("_largest", "sizes")

    def __init__(self, sizes: Sequence[int]) -> None:
        assert sizes, "a model needs at least one batch size"
        self.sizes = tuple(sorted(sizes))
        # Index into `sizes` of the largest size that `count` requests fill, by count.
        self._largest = [-1] * self.sizes[0]
        for index, size in enumerate(self.sizes):
            end = self.sizes[index + 1] if index + 1 < len(self.sizes) else size + 1
            self._largest += [index] * (end - size)

    def largest_index(self, count: int) -> int:
        """Return the index of the largest size that `count` requests fill; -1 if none."""
        table = self._largest
        return table[count] if count < len(table) else len(self.sizes) - 1


@cache
def shared_sizes(sizes: tuple[int, ...]) -> BatchSizes:
    """Return the one object for these sizes: asked for every request, it should stay in reach."""
    return BatchSizes(sizes)


Choice = tuple[int, list[T], list[T]]
"""The index of a batch size, a batch to run (empty: none can make it), and the requests given up
for it. Not a named tuple, which takes 0.3 us to make."""


class BatchQueue(Generic[T]):
    """The waiting requests of one model, first deadline first."""

    __slots__ = ("_sequence", "_sizes", "entries")

    def __init__(self, sizes: BatchSizes) -> None:
        assert sizes.sizes[0] == 1, f"a single request must be able to run: {sizes.sizes}"
        self._sizes = sizes
        # A heap; read it from outside only for its length and its first deadline: ``len(queue)``
        # costs 0.1 us more than looking at the list, five times per request.
        self.entries: list[Entry[T]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self.entries)

    def push(self, deadline_ns: int, item: T) -> None:
        """Append a request; O(1) if its deadline is the latest, else O(log n)."""
        self._sequence += 1
        heappush(self.entries, (deadline_ns, self._sequence, item))

    def latest_start_ns(self, exec_ns: Sequence[int]) -> int:
        """Return the latest start at which the largest fillable batch meets its first deadline.

        Args:
            exec_ns: expected execution time per supported batch size. The queue is not empty.
        """
        index = self._sizes.largest_index(len(self.entries))
        return self.entries[0][0] - exec_ns[index]

    def drop_hopeless(self, before_ns: int) -> list[T]:
        """Remove and return the requests whose deadline is before `before_ns`."""
        heap = self.entries
        dropped = []
        while heap and heap[0][0] < before_ns:
            dropped.append(heappop(heap)[2])
        return dropped

    def drain(self) -> list[T]:
        """Remove and return everything, first deadline first."""
        items = [item for _, _, item in sorted(self.entries, key=_order)]
        self.entries.clear()
        return items

    def discard(self, gone: Container[T]) -> None:
        """Remove the requests that are in `gone`. O(n)."""
        self.entries = [entry for entry in self.entries if entry[2] not in gone]
        heapify(self.entries)

    def choose(self, start_ns: int, exec_ns: Sequence[int]) -> Choice[T]:
        """Remove and return the best batch that can start at `start_ns`, and what it gives up.

        Args:
            exec_ns: expected execution time per supported batch size, on the GPU in question.
        """
        heap = self.entries
        index = self._sizes.largest_index(len(heap))
        if heap and heap[0][0] >= start_ns + exec_ns[index]:
            return index, self._take(index), []
        return self._choose_with_losses(start_ns, exec_ns, index)

    def _choose_with_losses(self, start_ns: int, exec_ns: Sequence[int], index: int) -> Choice[T]:
        """Find the largest batch that can be filled by those who survive waiting for it."""
        lost: list[Entry[T]] = []  # ascending deadlines
        while index >= 0:
            done_ns = start_ns + exec_ns[index]
            size = self._sizes.sizes[index]
            self._move_losses(done_ns, lost, keep=size)
            if len(self.entries) >= size:
                return index, self._take(index), [item for _, _, item in lost]
            index -= 1
            if index >= 0:
                self._restore(start_ns + exec_ns[index], lost)
        return -1, [], [item for _, _, item in lost]

    def _move_losses(self, done_ns: int, lost: list[Entry[T]], *, keep: int) -> None:
        """Move entries that miss `done_ns` to `lost`, until fewer than `keep` are left."""
        heap = self.entries
        while len(heap) >= keep and heap[0][0] < done_ns:
            lost.append(heappop(heap))

    def _restore(self, done_ns: int, lost: list[Entry[T]]) -> None:
        """Take back from `lost` what a smaller batch, done by `done_ns`, can still serve."""
        first = bisect_left(lost, done_ns, key=_deadline)
        for entry in lost[first:]:
            heappush(self.entries, entry)
        del lost[first:]

    def _take(self, index: int) -> list[T]:
        heap = self.entries
        return [heappop(heap)[2] for _ in range(self._sizes.sizes[index])]


def _deadline(entry: Entry[T]) -> int:
    return entry[0]


def _order(entry: Entry[T]) -> tuple[int, int]:
    return entry[:2]
