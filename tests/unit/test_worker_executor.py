"""States of tasks, queues of executors, and the heap of windows."""

from itertools import product

import pytest
from worker_stage import infer, load_model, load_weights

from clockwork.messages.actions import Infer
from clockwork.messages.ids import TaskId
from clockwork.units import FOREVER_NS
from clockwork.worker import executor as module
from clockwork.worker.executor import Executor, Windows
from clockwork.worker.tasks import MOVES, TOO_LATE, ActionTask, TaskState, TimedAction

ALLOWED = {
    ("WAITING", "RUNNING"),
    ("WAITING", "EXPIRED"),
    ("WAITING", "FAILED"),
    ("WAITING", "CANCELLED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
}


def task(number: int, action: TimedAction | None = None) -> ActionTask:
    """Return a waiting task."""
    return ActionTask(
        task_id=TaskId(number), action=action or infer(), payload=b"", received_at_ns=0
    )


@pytest.mark.parametrize(("before", "after"), [*product(TaskState, TaskState)])
def test_a_task_moves_only_along_the_table(before: TaskState, after: TaskState) -> None:
    """All states times all states: what the drawing shows, and nothing else."""
    one = task(1)
    one.state = before
    if (before.name, after.name) in ALLOWED:
        one.advance(after)
        assert one.state is after
    else:
        with pytest.raises(AssertionError, match=f"cannot become {after.name}"):
            one.advance(after)


def test_every_state_and_every_timed_action_is_in_its_table() -> None:
    """Nothing was forgotten when one was added."""
    assert set(MOVES) == set(TaskState)
    assert set(TOO_LATE) == set(TimedAction.__args__)  # type: ignore[attr-defined]


def test_an_executor_orders_by_earliest_start_then_by_task() -> None:
    """The heap's order is the order of turns."""
    executor = Executor("test")
    for number, earliest in ((1, 30), (2, 10), (3, 20), (4, 10)):
        executor.put(task(number, infer(earliest=earliest)))
    assert [each.task_id for each in executor.drain()] == [2, 4, 3, 1]
    assert executor.head() is None


def test_an_executor_skips_tasks_that_ended_in_the_queue() -> None:
    """The next waiting task is the head."""
    executor = Executor("test")
    first, second = task(1), task(2)
    executor.put(first)
    executor.put(second)
    first.advance(TaskState.EXPIRED)
    assert executor.head() is second
    assert list(executor.waiting()) == [second]


def test_an_executor_runs_one_task() -> None:
    """Beginning a second one, or ending another, is a bug."""
    executor = Executor("test")
    first, second = task(1), task(2)
    executor.put(first)
    executor.put(second)
    assert executor.head() is first
    with pytest.raises(AssertionError, match="is not the head"):
        executor.begin(second)
    executor.begin(first)
    executor.check()
    with pytest.raises(AssertionError, match=r"runs 1 \(RUNNING\)"):
        executor.begin(second)
    with pytest.raises(AssertionError, match=r"not 2 \(WAITING\)"):
        executor.end(second)
    executor.end(first)
    assert executor.running is None


def test_windows_give_tasks_when_they_open_and_after_they_closed() -> None:
    """A task that still waits is given at both instants, in order."""
    windows = Windows()
    one = task(1, infer(earliest=10, latest=20))
    windows.await_closing(one)
    windows.await_opening(one)
    windows.await_opening(one)
    assert len(windows) == 2
    assert (windows.next_ns, windows.pop_due(9)) == (10, None)
    assert windows.pop_due(10) is one
    assert (windows.next_ns, windows.pop_due(20)) == (21, None)
    assert windows.pop_due(21) is one
    assert windows.next_ns is None


def test_windows_forget_tasks_that_no_longer_wait() -> None:
    """An ended task wakes nobody."""
    windows = Windows()
    one, two = task(1, infer(latest=20)), task(2, infer(latest=30))
    windows.await_closing(one)
    windows.await_closing(two)
    one.advance(TaskState.RUNNING)
    assert windows.pop_due(0) is None
    assert windows.next_ns == 31


def test_a_window_that_never_closes_is_not_kept() -> None:
    """Loads of models have no deadline."""
    windows = Windows()
    windows.await_closing(task(1, load_model(latest=FOREVER_NS)))
    assert len(windows) == 0


def test_windows_do_not_grow_with_tasks_that_ended() -> None:
    """Windows far in the future are swept out when they are the majority."""
    windows = Windows()
    waiting = task(0, load_weights(latest=10**15))
    windows.await_closing(waiting)
    for number in range(1, 10_000):
        one = task(number, infer(latest=10**12 + number))
        assert isinstance(one.action, Infer)
        windows.await_closing(one)
        one.advance(TaskState.RUNNING)
        assert len(windows) <= module.SWEEP_MIN
    assert windows.pop_due(0) is None
    assert windows.pop_due(10**15 + 1) is waiting
