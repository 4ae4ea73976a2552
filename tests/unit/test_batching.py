"""The choice of batches."""

import pytest

from clockwork.parts.batching import BatchQueue, BatchSizes

EXEC_NS = [10, 15, 25, 45]
"""Durations at batch sizes 1, 2, 4, 8."""


def queue_of(*deadlines_ns: int) -> BatchQueue[str]:
    """Return a queue of requests named r0, r1, ... with these deadlines."""
    queue: BatchQueue[str] = BatchQueue(BatchSizes([1, 2, 4, 8]))
    for index, deadline_ns in enumerate(deadlines_ns):
        queue.push(deadline_ns, f"r{index}")
    return queue


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([1], 0, None),
        ([1], 1, 1),
        ([1], 9, 1),
        ([2], 1, None),
        ([4], 5, 4),
        ([1, 2, 4], 3, 2),
        ([1, 2, 4, 8, 16], 15, 8),
        ([1, 2, 4, 8, 16], 16, 16),
        ([1, 2, 4, 8, 16], 1000, 16),
    ],
)
def test_the_largest_size_that_a_count_fills(
    sizes: list[int], count: int, expected: int | None
) -> None:
    """The lookup gives the largest size not above the count, and none for too few."""
    batch_sizes = BatchSizes(sizes)
    index = batch_sizes.largest_index(count)
    assert (None if index < 0 else batch_sizes.sizes[index]) == expected


def test_the_largest_batch_that_meets_the_first_deadline_runs() -> None:
    """Five requests in good time run as a batch of four, first deadline first."""
    _, batch, dropped = queue_of(100, 101, 102, 103, 104).choose(0, EXEC_NS)
    assert batch == ["r0", "r1", "r2", "r3"]
    assert dropped == []


def test_requests_are_given_up_for_a_larger_batch() -> None:
    """One that would hold four others back is given up."""
    _, batch, dropped = queue_of(20, 100, 100, 100, 100).choose(0, EXEC_NS)
    assert batch == ["r1", "r2", "r3", "r4"]
    assert dropped == ["r0"]


def test_a_smaller_batch_runs_when_too_few_would_be_left() -> None:
    """Nobody is given up if that would leave the larger batch short."""
    _, batch, dropped = queue_of(20, 100, 100, 100).choose(0, EXEC_NS)
    assert batch == ["r0", "r1"]
    assert dropped == []


def test_what_cannot_make_it_alone_is_dropped() -> None:
    """A queue of hopeless requests gives no batch and loses them all."""
    queue = queue_of(5, 6)
    _, batch, dropped = queue.choose(0, EXEC_NS)
    assert batch == []
    assert dropped == ["r0", "r1"]
    assert not len(queue)


def test_deadlines_decide_the_order_not_arrivals() -> None:
    """A later request with an earlier deadline goes first."""
    assert queue_of(300, 100, 200).choose(0, EXEC_NS)[1] == ["r1", "r2"]


def test_discard_removes_exactly_what_is_named() -> None:
    """A client that leaves takes its requests along, and nobody else's."""
    queue = queue_of(100, 101, 102)
    queue.discard({"r0", "r2"})
    assert queue.drain() == ["r1"]
