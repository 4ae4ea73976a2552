"""How threads of our processes share the cores of a machine, where that can be chosen: on Linux.

Threads that carry messages wake up often and run for less than a millisecond; threads that compute
run for 3 to 100 ms. A message that waits for the end of a computing thread's turn is late by up to
4 ms, which is a fifth of a tight SLO.

Here is asked for (1) short turns of the threads that carry messages, which may then interrupt
longer ones at once (needs no right, but Linux 6.12); (2) precedence of the controller (needs a
right); (3) less weight for threads that compute; (4) a core of their own for these.

Not here: what is set for a whole process (``process.py``).
"""

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress
from typing import Final

_PRECEDENCE: Final = -10
"""Nine times the weight of others, so that a process which becomes ready runs at once."""
_NICENESS: Final = 4
"""Less than half the weight of others. Nicer threads wait less for each other's turns, but weigh so
little that the kernel may put two of them on one core and leave the other one to the messages."""

_SHORT_NS: Final = 100_000
"""A turn of a thread that carries messages: the shortest that the kernel accepts. Longer work just
takes several turns."""
_USUAL_NS: Final = 0
"""Asks for the turns that the kernel gives to everybody."""
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""Number of the system call by machine; few C libraries have a function for it."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
"""Size, policy, flags, niceness, priority, turn (runtime) in ns, deadline, period."""


def answer_promptly() -> None:
    """Have this thread, and those that it starts, interrupt threads that compute.

    It gets no more time by that, only sooner. Measured on a core that another program keeps busy:
    a thread that sleeps and wakes up again and again waits for 0.1 ms at most, and without this for
    3.8 ms in phases that last for seconds. Before Linux 6.12 it changes nothing.
    """
    _take_turns_of(_SHORT_NS)


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
        _take_turns_of(_USUAL_NS)


def allowed_cores() -> list[int]:
    """Return the cores that this process may use, in order; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def stay_on(core: int) -> None:
    """Have this thread run on one core only; does nothing where the system has no such thing."""
    if sys.platform == "linux":
        # 0 is the calling thread.
        os.sched_setaffinity(0, {core})


def _take_turns_of(turn_ns: int) -> None:
    """Ask for a length of this thread's turns; one that was given another policy is left alone."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, niceness, 0, turn_ns, 0, 0)
    system_call = ctypes.CDLL(None).syscall
    system_call.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_long)
    # It may be forbidden here, or unknown: then turns stay as they are.
    system_call(number, 0, wanted, 0)
