"""What every long-running process of ours sets once for itself, and how it speaks.

Not for the client library: these settings hold for a whole process, which is then not ours.
"""

import ctypes
import gc
import os
import sys
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


def say(text: str, *, end: str = "\n") -> None:
    """Print on the console at once; a console that has gone is no reason to stop."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        # From now on into nothing: what Python still holds would fail again when it exits.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
