"""The worker role answers alike however the events of an instant are cut into batches."""

from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st
from worker_stage import clear_cache, done, evict, gpu_states, infer, load_weights, unload

from clockwork.messages.actions import Action, LoadModel
from clockwork.messages.ids import ActionId, ModelId
from clockwork.messages.role import WAKEUP
from clockwork.messages.worker_io import ActionArrived, StartTask, WorkerEffect, WorkerEvent
from clockwork.units import FOREVER_NS, SECOND
from clockwork.worker.core import WorkerRole

windows = st.tuples(st.integers(0, 40), st.integers(0, 60))


def _timed(build: object) -> st.SearchStrategy[Action]:
    return st.builds(
        lambda model, gpu, window: build(  # type: ignore[operator]
            model, gpu=gpu, earliest=window[0], latest=window[1]
        ),
        st.integers(0, 2),
        st.integers(0, 1),
        windows,
    )


actions = st.one_of(
    _timed(infer),
    _timed(infer),
    _timed(load_weights),
    _timed(evict),
    st.builds(unload, st.integers(0, 2)),
    st.builds(clear_cache),
)


@given(arrivals=st.lists(st.tuples(st.integers(0, 30), actions), max_size=40))
def test_batches_do_not_matter(arrivals: list[tuple[int, Action]]) -> None:
    """One batch per instant, or one event per batch: the same effects in the same order."""
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    assert play(arrivals, is_batched=True) == play(arrivals, is_batched=False)


def play(arrivals: list[tuple[int, Action]], *, is_batched: bool) -> list[WorkerEffect]:
    """Return all effects of a worker whose tasks take 1 to 4 ns."""
    role = WorkerRole(page_bytes=1, gpus=gpu_states(2, 4), may_lack_inputs=True)
    agenda: list[tuple[int, int, WorkerEvent]] = []
    loads = [LoadModel(ActionId(0), ModelId(id), "m", 0, FOREVER_NS, 1, 16, SECOND)
             for id in range(3)]  # fmt: skip
    for sequence, (at_ns, action) in enumerate([*((0, load) for load in loads), *arrivals]):
        heappush(agenda, (at_ns, sequence, ActionArrived(action, b"", at_ns)))
    effects: list[WorkerEffect] = []
    while agenda or role.wakeup_ns is not None:
        batch, now_ns = _next_batch(agenda, role.wakeup_ns)
        for part in [batch] if is_batched else [[event] for event in batch]:
            new = role.handle(part, now_ns)
            role.check()
            effects += new
            for effect in new:
                if isinstance(effect, StartTask):
                    end_ns = now_ns + 1 + effect.task.task_id % 4
                    # After the arrivals of its instant, in the order of starts.
                    sequence = 1_000_000 + effect.task.task_id
                    heappush(agenda, (end_ns, sequence, done(effect.task, end_ns)))
    return effects


def _next_batch(
    agenda: list[tuple[int, int, WorkerEvent]], wakeup_ns: int | None
) -> tuple[list[WorkerEvent], int]:
    now_ns = agenda[0][0] if agenda else FOREVER_NS
    if wakeup_ns is not None and wakeup_ns < now_ns:
        return [WAKEUP], wakeup_ns
    batch = []
    while agenda and agenda[0][0] == now_ns:
        batch.append(heappop(agenda)[2])
    return batch, now_ns
