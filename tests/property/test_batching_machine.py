"""BatchQueue against a sorted list of deadlines."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from clockwork.parts.batching import BatchQueue, BatchSizes

# Small, so that deadlines are often met to the nanosecond.
instants = st.integers(0, 25)
Waiting = list[tuple[int, int]]
"""(deadline, request), first deadline first, earlier requests first among equals."""


def expected_choice(
    waiting: Waiting, start_ns: int, sizes: Sequence[int], exec_ns: Sequence[int]
) -> tuple[int, list[int], list[int]]:
    """Return the index of the size, the batch and who is given up, by trying every size.

    The largest size wins that those can fill who would still be in time; requests in good time are
    taken by their deadlines, and those that are given up are the ones which this size makes late.
    """
    for index in reversed(range(len(sizes))):
        done_ns = start_ns + exec_ns[index]
        in_time = [request for deadline_ns, request in waiting if deadline_ns >= done_ns]
        late = [request for deadline_ns, request in waiting if deadline_ns < done_ns]
        if len(in_time) >= sizes[index]:
            return index, in_time[: sizes[index]], late
    return -1, [], [request for _, request in waiting]


class BatchQueueMachine(RuleBasedStateMachine):
    """Requests come, leave in batches, become hopeless, and go with their client."""

    @initialize(more=st.sets(st.integers(2, 12), max_size=4))
    def begin(self, more: set[int]) -> None:
        """Nobody waits."""
        self.sizes = (1, *sorted(more))
        self.queue: BatchQueue[int] = BatchQueue(BatchSizes(self.sizes))
        self.waiting: Waiting = []
        self.count = 0

    @rule(deadlines_ns=st.lists(instants, min_size=1, max_size=8))
    def push(self, deadlines_ns: list[int]) -> None:
        """Requests come."""
        for deadline_ns in deadlines_ns:
            self.count += 1
            self.queue.push(deadline_ns, self.count)
            self.waiting.append((deadline_ns, self.count))
        self.waiting.sort()

    @rule(start_ns=instants, data=st.data())
    def choose(self, start_ns: int, data: st.DataObject) -> None:
        """A batch leaves, and those that it makes late."""
        # Measured times need not grow with the size.
        exec_ns = [data.draw(st.integers(1, 10)) for _ in self.sizes]
        if self.waiting:
            size = max(size for size in self.sizes if size <= len(self.waiting))
            latest_ns = self.waiting[0][0] - exec_ns[self.sizes.index(size)]
            assert self.queue.latest_start_ns(exec_ns) == latest_ns
        expected = expected_choice(self.waiting, start_ns, self.sizes, exec_ns)
        index, batch, dropped = self.queue.choose(start_ns, exec_ns)
        assert (index, batch, dropped) == expected
        self._leave(batch + dropped)

    @rule(before_ns=instants)
    def drop_hopeless(self, before_ns: int) -> None:
        """Those whose deadline is too early leave, first deadline first."""
        expected = [request for deadline_ns, request in self.waiting if deadline_ns < before_ns]
        assert self.queue.drop_hopeless(before_ns) == expected
        self._leave(expected)

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """Some leave with their client; naming others as well does no harm."""
        everybody = range(self.count + 2)
        gone = data.draw(st.sets(st.sampled_from(everybody)))
        self.queue.discard(gone)
        self._leave(list(gone))

    @rule()
    def drain(self) -> None:
        """All leave in their order."""
        assert self.queue.drain() == [request for _, request in self.waiting]
        self.waiting.clear()

    @invariant()
    def agrees(self) -> None:
        """Count and first deadline are those of the list."""
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.queue.entries) == len(self.waiting)
            if self.waiting:
                assert self.queue.entries[0][0] == self.waiting[0][0]

    def _leave(self, gone: list[int]) -> None:
        self.waiting = [entry for entry in self.waiting if entry[1] not in gone]


TestBatchQueue = BatchQueueMachine.TestCase
