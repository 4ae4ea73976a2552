"""Queues that run one task at a time, and the instants at which their windows open and close.

An executor's queue is ordered by the earliest start, first come first among equals. Tasks that
ended while they were queued (expired, cancelled) are skipped when they come to the front.

`Windows` is one heap for all executors of a worker. It holds the opening of windows for which an
idle executor waits, and the closing of the windows of all queued tasks, so that a refusal is sent
when it is certain and not when the executor happens to look.

Bounds: a queue of `QUEUE_MAX` tasks takes no more (the role refuses the action); `Windows` forgets
tasks that no longer wait whenever it has doubled.

Source: SPEC 5.1. The original polls; here each change looks at the executor that it touches.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from clockwork.units import FOREVER_NS
from clockwork.worker.tasks import ActionTask, TaskState

QUEUE_MAX: Final = 65_536
"""Tasks that may wait for one executor: far beyond any plan, and still only some MB (chosen)."""
SWEEP_MIN: Final = 1_024
"""Entries of `Windows` below which a sweep is not worth it (chosen)."""


class Executor:
    """A queue and at most one running task."""

    __slots__ = ("_heap", "name", "running")

    def __init__(self, name: str) -> None:
        self.name = name
        # (earliest_ns, task_id, task): task ids ascend in order of arrival.
        self._heap: list[tuple[int, int, ActionTask]] = []
        # The task that runs now, in state RUNNING.
        self.running: ActionTask | None = None

    @property
    def is_full(self) -> bool:
        """True if the queue takes no more tasks."""
        return len(self._heap) >= QUEUE_MAX

    def put(self, task: ActionTask) -> None:
        """Queue a task in state WAITING; the queue must not be full."""
        assert not self.is_full, f"{self.name} holds {QUEUE_MAX} tasks already"
        heappush(self._heap, (task.action.earliest_ns, task.task_id, task))

    def head(self) -> ActionTask | None:
        """Return the first waiting task without taking it, or None."""
        heap = self._heap
        while heap:
            task = heap[0][2]
            if task.state is TaskState.WAITING:
                return task
            heappop(heap)
        return None

    def begin(self, task: ActionTask) -> None:
        """Take `task`, which must be the head, off the queue and make it the running one."""
        assert self.running is None, f"{self.name} runs {self.running!r} already"
        assert self._heap[0][2] is task, f"{task!r} is not the head of {self.name}"
        heappop(self._heap)
        task.advance(TaskState.RUNNING)
        self.running = task

    def end(self, task: ActionTask) -> None:
        """Become idle; `task` must be the running one."""
        assert self.running is task, f"{self.name} runs {self.running!r}, not {task!r}"
        self.running = None

    def waiting(self) -> Iterator[ActionTask]:
        """Yield all waiting tasks in no particular order."""
        return (task for _, _, task in self._heap if task.state is TaskState.WAITING)

    def drain(self) -> list[ActionTask]:
        """Empty the queue and return its waiting tasks in the order of their turns."""
        tasks = [task for _, _, task in sorted(self._heap) if task.state is TaskState.WAITING]
        self._heap.clear()
        return tasks

    def check(self) -> None:
        """Assert the invariants of queue and running task."""
        if self.running is not None:
            assert self.running.state is TaskState.RUNNING, f"{self.name} runs {self.running!r}"
        for place in range(1, len(self._heap)):
            parent = (place - 1) // 2
            assert self._heap[parent] < self._heap[place], f"{self.name} is out of order at {place}"


class Windows:
    """When waiting tasks want to be looked at again."""

    __slots__ = ("_entries", "_heap", "_sweep_at")

    def __init__(self) -> None:
        # (instant, sequence, task): the opening of its window, or the first instant after it.
        self._heap: list[tuple[int, int, ActionTask]] = []
        # Entries ever made: breaks ties in the order of making.
        self._entries = 0
        # Length of the heap at which stale entries are swept out.
        self._sweep_at = SWEEP_MIN

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_ns(self) -> int | None:
        """The earliest instant asked for, or None."""
        return self._heap[0][0] if self._heap else None

    def await_opening(self, task: ActionTask) -> None:
        """Ask to look at `task` when its window opens; once per task."""
        if not task.is_alarmed:
            task.is_alarmed = True
            self._push(task.action.earliest_ns, task)

    def await_closing(self, task: ActionTask) -> None:
        """Ask to look at `task` when its window has closed; never if it stays open."""
        if task.action.latest_ns < FOREVER_NS:
            self._push(task.action.latest_ns + 1, task)

    def pop_due(self, now_ns: int) -> ActionTask | None:
        """Remove and return the next task to look at by `now_ns`, or None."""
        self.skip_ended()
        if self._heap and self._heap[0][0] <= now_ns:
            return heappop(self._heap)[2]
        return None

    def skip_ended(self) -> None:
        """Make `next_ns` belong to a task that still waits."""
        heap = self._heap
        while heap and heap[0][2].state is not TaskState.WAITING:
            heappop(heap)

    def _push(self, when_ns: int, task: ActionTask) -> None:
        self._entries += 1
        heappush(self._heap, (when_ns, self._entries, task))
        if len(self._heap) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].state is TaskState.WAITING]
        heapify(self._heap)
        self._sweep_at = max(SWEEP_MIN, 2 * len(self._heap))
