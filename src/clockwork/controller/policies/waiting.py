"""Requests of one model that wait, and what the policy remembers about the model meanwhile."""

from collections.abc import Container
from typing import Final

from clockwork.controller.cluster import Model
from clockwork.controller.policies.admission import Terms
from clockwork.controller.underway import Request
from clockwork.parts.batching import BatchQueue, BatchSizes

_ONE_BY_ONE: Final = BatchSizes([1])


class Waiting:
    """One model's queues."""

    __slots__ = (
        "alone",
        "futile_count",
        "is_ready",
        "is_shared",
        "model",
        "next_look_ns",
        "parked_mask",
        "payload_bytes",
        "queue",
        "terms",
        "timer_ns",
    )

    def __init__(self, model: Model) -> None:
        self.model = model
        self.queue: BatchQueue[Request] = BatchQueue(model.batch_sizes)
        # Requests whose batch failed: each runs alone, so that only the culprit fails again. Made
        # at the first of them.
        self.alone: BatchQueue[Request] | None = None
        # GPUs in whose heap the model is parked, and whether it is in the shared one.
        self.parked_mask = 0
        self.is_shared = False
        # True while it is on the list of models to dispatch in this step.
        self.is_ready = False
        # When its first request becomes hopeless, as far as a timer is set; None without timer.
        # (See `hopeless.py`.)
        self.timer_ns: int | None = None
        # What the SLO of the last request meant; None before the first.
        self.terms: Terms | None = None
        # Input size of the last request.
        self.payload_bytes = 0
        # For placement: how often pages had become free when a replica last found no place, and
        # when it is worth while to ask again whether the holders are overloaded.
        self.futile_count = -1
        self.next_look_ns = 0

    @property
    def count(self) -> int:
        """How many requests wait."""
        return len(self.queue.entries) + (0 if self.alone is None else len(self.alone.entries))

    @property
    def is_empty(self) -> bool:
        """True if none waits."""
        return not self.queue.entries and (self.alone is None or not self.alone.entries)

    def push(self, request: Request) -> None:
        """Queue a request."""
        queue = self.queue
        if request.must_run_alone:
            if self.alone is None:
                self.alone = BatchQueue(_ONE_BY_ONE)
            queue = self.alone
        queue.push(request.internal_deadline_ns, request)

    @property
    def hopeless_ns(self) -> int:
        """When its first request can no longer be done in time. Not empty."""
        alone, entries = self.alone, self.queue.entries
        if alone is None or not alone.entries:
            deadline_ns = entries[0][0]
        elif not entries:
            deadline_ns = alone.entries[0][0]
        else:
            deadline_ns = min(entries[0][0], alone.entries[0][0])
        return deadline_ns - self.model.exec_ns[0]

    def urgency_ns(self) -> int:
        """Return the latest start of the batch that would be next. Not empty."""
        alone = self.alone
        queue = self.queue if alone is None or not alone.entries else alone
        return queue.latest_start_ns(self.model.exec_ns)

    def drop_hopeless(self, before_ns: int) -> list[Request]:
        """Remove and return the requests with an internal deadline before `before_ns`."""
        dropped = self.queue.drop_hopeless(before_ns)
        if self.alone is not None:
            dropped += self.alone.drop_hopeless(before_ns)
        return dropped

    def discard(self, gone: Container[Request]) -> None:
        """Remove some requests. O(n)."""
        self.queue.discard(gone)
        if self.alone is not None:
            self.alone.discard(gone)

    def drain(self) -> list[Request]:
        """Remove and return all requests."""
        drained = self.queue.drain()
        if self.alone is not None:
            drained += self.alone.drain()
        return drained
