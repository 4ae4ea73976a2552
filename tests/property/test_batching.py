"""The choice of batches, against the original's strategies spelled out."""

from hypothesis import given
from hypothesis import strategies as st

from clockwork.parts.batching import BatchQueue, BatchSizes

SIZES = (1, 2, 4, 8)


def original_choice(
    deadlines_ns: list[int], start_ns: int, exec_ns: list[int]
) -> tuple[int, list[int]] | None:
    """Return (batch size, requests) as clockwork 4.5 and 4.6 decide, for sorted deadlines.

    One strategy per request and batch size, tried in order of latest start; each takes the first
    requests of the queue after skipping those that would hold it back.
    """
    duration = dict(zip(SIZES, exec_ns, strict=True))
    strategies = sorted(
        (deadline_ns - duration[size], -size, request)
        for request, deadline_ns in enumerate(deadlines_ns)
        for size in SIZES
    )
    for _, negative_size, request in strategies:
        size = -negative_size
        available = len(deadlines_ns) - request
        if deadlines_ns[request] < start_ns + duration[size] or available < size:
            continue
        candidate = max(other for other in SIZES if other <= available)
        if start_ns + duration[candidate] > deadlines_ns[request]:
            continue
        done_ns = start_ns + duration[candidate]
        first = 0
        while first < request and deadlines_ns[first] < done_ns:
            first += 1
        return candidate, list(range(first, first + candidate))
    return None


@given(
    deadlines_ns=st.lists(st.integers(1, 120), max_size=24).map(sorted),
    start_ns=st.integers(0, 60),
    steps=st.tuples(*[st.integers(1, 30) for _ in SIZES]),
)
def test_batches_are_those_of_the_original(
    deadlines_ns: list[int], start_ns: int, steps: tuple[int, ...]
) -> None:
    """Whenever the original's strategies find a batch, it is the one that is chosen."""
    exec_ns = [sum(steps[: index + 1]) for index in range(len(SIZES))]
    queue: BatchQueue[int] = BatchQueue(BatchSizes(SIZES))
    for request, deadline_ns in enumerate(deadlines_ns):
        queue.push(deadline_ns, request)
    index, batch, _ = queue.choose(start_ns, exec_ns)
    expected = original_choice(deadlines_ns, start_ns, exec_ns)
    if expected is None:
        assert batch == []
    else:
        assert (SIZES[index], batch) == expected


@given(
    deadlines_ns=st.lists(st.integers(1, 120), max_size=40),
    start_ns=st.integers(0, 60),
)
def test_no_request_is_lost_or_doubled(deadlines_ns: list[int], start_ns: int) -> None:
    """Batch, dropped and queue together are what was pushed, and batches make their deadlines."""
    exec_ns = [10, 15, 25, 45]
    queue: BatchQueue[int] = BatchQueue(BatchSizes(SIZES))
    for request, deadline_ns in enumerate(deadlines_ns):
        queue.push(deadline_ns, request)
    index, batch, dropped = queue.choose(start_ns, exec_ns)
    for request in batch:
        assert deadlines_ns[request] >= start_ns + exec_ns[index]
    everything = batch + dropped + queue.drain()
    assert sorted(everything) == list(range(len(deadlines_ns)))
