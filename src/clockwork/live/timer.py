"""A timer of the event loop with a grain of microseconds.

Why: timers of asyncio and uvloop have a grain of 1 ms, and the windows of actions are finer. A
Linux timerfd is a file descriptor that becomes readable at an instant of the monotonic clock, to
which the loop listens like to any other. Python has it from 3.13 on; ctypes works everywhere.

Measured (4 cores, uvloop): the callback runs 60 us (median) after the instant.
"""

import ctypes
import os
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final

from clockwork.live.clock import monotonic_from
from clockwork.units import SECOND

_CLOCK_MONOTONIC: Final = 1
_TFD_TIMER_ABSTIME: Final = 1
_EXPIRATIONS_BYTES: Final = 8
"""What a read from a timerfd yields: how often it expired."""

# PyDLL keeps the GIL: both calls return at once, and giving it away costs more than they do.
_LIBC: Final = ctypes.PyDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    # An interval of zero: the timer fires once.
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class PreciseTimer:
    """Calls back once per `arm`, on the loop, at or shortly after the instant."""

    def __init__(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Make a timer that is not armed; close it before the loop.

        Raises:
            OSError: the system has no timerfd, or no descriptor is left.
        """
        self._loop = loop
        self._callback = callback
        self._spec = _Itimerspec()
        self._spec_pointer = ctypes.byref(self._spec)
        self._descriptor = _LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _last_error("timerfd_create")
        loop.add_reader(self._descriptor, self._on_readable)
        # The instant that is set, in the live clock; None while disarmed.
        self.armed_ns: int | None = None

    def arm(self, at_ns: int) -> None:
        """Call back at `at_ns` of the live clock instead of any instant set before.

        An instant in the past calls back in the next turn of the loop.
        """
        if at_ns == self.armed_ns:
            return
        self.armed_ns = at_ns
        # Zero would disarm.
        self._set(max(monotonic_from(at_ns), 1))

    def disarm(self) -> None:
        """Do not call back."""
        if self.armed_ns is not None:
            self.armed_ns = None
            self._set(0)

    def close(self) -> None:
        """Release the descriptor; the timer must not be used again."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _set(self, monotonic_ns: int) -> None:
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(monotonic_ns, SECOND)
        if _LIBC.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, self._spec_pointer, None):
            raise _last_error("timerfd_settime")

    def _on_readable(self) -> None:
        try:
            os.read(self._descriptor, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            # Set anew after the loop saw it readable: the new instant will call back.
            return
        self.armed_ns = None
        self._callback()


def _last_error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")
