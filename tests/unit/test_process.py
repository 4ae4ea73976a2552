"""What long-running processes set for themselves."""

import os
import sys
from threading import Thread

import pytest

from clockwork.live.process import give_way


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
