"""What every long-running process of ours sets once for itself, and how it speaks.

Not for the client library: these settings hold for a whole process, which is then not ours.
"""

import ctypes
import gc
import os
import sys
from contextlib import suppress
from typing import Final

from clockwork.units import GIB, MIB

# Numbers of <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

_YOUNG_OBJECTS: Final = 1_000
"""Objects between two young collections: measured beside two busy cores, 0.3 to 1 ms."""
_YOUNG_COLLECTIONS: Final = 3
"""Young collections between two middle ones: 4,000 objects, 0.9 to 1.6 ms. (With 5,000 and 5, the
middle ones took 4 to 9 ms while models were loaded; neither ever found anything.)"""
_NEVER: Final = 1_000_000_000
_PRECEDENCE: Final = -10
"""Nine times the weight of others, so that a process which becomes ready runs at once."""
_NICENESS: Final = 4
"""Less than half the weight of others. Nicer threads wait less for each other's turns, but weigh so
little that the kernel may put two of them on one core and leave the other one to the messages."""


def keep_freed_memory() -> None:
    """Have freed buffers stay in the process, for the next buffers.

    Without it every large payload takes new pages from the kernel and gives them back: measured on
    a virtual machine, frames of 602,112 bytes run at 1,900/s without and 4,200/s with it. Does
    nothing where the C library has no `mallopt`.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # 32 MiB is the largest threshold that glibc accepts.
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, GIB)
        libc.mallopt(_M_TOP_PAD, 64 * MIB)


def calm_garbage_collector() -> None:
    """Collect now, leave what lives out of later collections, and keep those short.

    Call it when start-up is over. Full collections never run again: their pause grows with all
    that lives, and records that cross borders are not tracked at all (`gc=False`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_COLLECTIONS, _NEVER)


def take_precedence() -> None:
    """Have this thread, and those that it starts, run before others, where that is permitted.

    For the process that everybody waits for: call it before threads are started. Measured without
    it, on two cores that a controller at half of its capacity shares with its worker and a client:
    of 14 ms it waited up to 7 for a core. A process that was started nicer on purpose stays so, and
    so does one that lacks the right (root, CAP_SYS_NICE, or `ulimit -e 30`).
    """
    if sys.platform == "linux" and os.getpriority(os.PRIO_PROCESS, 0) == 0:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, _PRECEDENCE)


def give_way() -> None:
    """Have this thread, and those that it starts, count less than threads that carry messages.

    For threads that compute: where all cores compute, a message waits for the end of a thread's
    turn, which is 3 ms and more. Measured on two busy cores with real models: 99 of 100 actions
    reach their worker in 2.5 ms instead of 4, and goodput under overload is 6 % higher. Does
    nothing where threads have no niceness of their own.
    """
    if sys.platform == "linux":
        # 0 is the calling thread. A process that was started nicer stays so.
        niceness = max(os.getpriority(os.PRIO_PROCESS, 0), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


def allowed_cores() -> list[int]:
    """Return the cores that this process may use, in order; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def stay_on(core: int) -> None:
    """Have this thread run on one core only; does nothing where the system has no such thing."""
    if sys.platform == "linux":
        # 0 is the calling thread.
        os.sched_setaffinity(0, {core})


def say(text: str, *, end: str = "\n") -> None:
    """Print on the console at once; a console that has gone is no reason to stop."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        # From now on into nothing: what Python still holds would fail again when it exits.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
