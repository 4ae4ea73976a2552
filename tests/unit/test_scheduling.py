"""How threads share the cores of a machine."""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable
from functools import partial
from threading import Thread

import pytest

from clockwork.live.scheduling import (
    allowed_cores,
    answer_promptly,
    give_way,
    stay_on,
    take_precedence,
)
from clockwork.live.worker_devices import own_cores


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_a_thread_that_gives_way_is_nicer_than_the_rest() -> None:
    """Only the thread that asks for it, and threads that it starts, become nicer."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []

    def note() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    def work() -> None:
        give_way()
        note()
        child = Thread(target=note)
        child.start()
        child.join()

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [max(before, 4)] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_a_thread_that_was_nicer_before_stays_so() -> None:
    """Nobody becomes more important by giving way."""
    seen: list[int] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 15)
        give_way()
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [15]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_precedence_is_taken_where_permitted_and_unless_told_otherwise() -> None:
    """A thread of usual niceness comes before others if the system allows it; a nicer one stays."""
    seen: list[tuple[int, int]] = []

    def work(niceness: int, *, is_permitted: bool) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        take_precedence()
        expected = -10 if is_permitted and niceness == 0 else niceness
        seen.append((os.getpriority(os.PRIO_PROCESS, 0), expected))

    own = os.getpriority(os.PRIO_PROCESS, 0)
    is_permitted = _runs(lambda: os.setpriority(os.PRIO_PROCESS, 0, -10))
    for niceness in {own, max(own, 3), max(own, 15)}:
        assert _runs(partial(work, niceness, is_permitted=is_permitted))
    assert [got for got, _ in seen] == [expected for _, expected in seen]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no turns of their own")
def test_threads_that_answer_promptly_take_short_turns_unless_they_compute() -> None:
    """Short turns are inherited by threads and ended by giving way; niceness stays as it was."""
    before_ns, niceness = _turn_ns(), os.getpriority(os.PRIO_PROCESS, 0)
    if before_ns == 0:
        pytest.skip("this kernel lets nobody choose turns")
    seen: list[int] = []

    def compute() -> None:
        seen.append(_turn_ns())
        give_way()
        seen.append(_turn_ns())

    def carry_messages() -> None:
        answer_promptly()
        assert os.getpriority(os.PRIO_PROCESS, 0) == niceness
        child = Thread(target=compute)
        child.start()
        child.join()

    assert _runs(carry_messages)
    assert seen[0] == 100_000
    assert seen[1] > 100_000
    assert _turn_ns() == before_ns


def _turn_ns() -> int:
    """Return the length of this thread's turns as the kernel tells it; 0 if it does not."""
    number = {"x86_64": 315, "aarch64": 275, "riscv64": 275}.get(platform.machine())
    told = ctypes.create_string_buffer(48)
    if number is None or ctypes.CDLL(None).syscall(number, 0, told, len(told), 0):
        return 0
    turn_ns: int = struct.unpack("=IIQiIQQQ", told.raw)[5]
    return turn_ns


def _runs(step: Callable[[], None]) -> bool:
    """Return whether a step is permitted, on a thread that is not used again."""
    outcome: list[bool] = []

    def work() -> None:
        try:
            step()
        except PermissionError:
            outcome.append(False)
        else:
            outcome.append(True)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    return outcome == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="threads cannot be kept on a core")
def test_a_thread_stays_on_its_core() -> None:
    """Only the thread that asks for it is kept on one core."""
    before = allowed_cores()
    seen: list[list[int]] = []

    def work() -> None:
        stay_on(before[-1])
        seen.append(allowed_cores())

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[before[-1]]]
    assert allowed_cores() == before


@pytest.mark.parametrize(
    ("gpus", "cores_per_gpu", "allowed", "expected"),
    [
        (2, 1, [4, 7], (4, 7)),
        (3, 1, [4, 7], (4, 7, 4)),
        (2, 1, [4, 5, 7], ()),
        (1, 2, [4, 7], ()),
        (2, 2, [4, 7], ()),
        (1, 1, [], ()),
    ],
)
def test_devices_keep_to_cores_if_they_need_all(
    gpus: int, cores_per_gpu: int, allowed: list[int], expected: tuple[int, ...]
) -> None:
    """With cores to spare, or where the system does not say which there are, it chooses."""
    assert own_cores(gpus=gpus, cores_per_gpu=cores_per_gpu, allowed=allowed) == expected
