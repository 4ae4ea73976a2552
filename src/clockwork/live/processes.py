"""Child processes that run ``clockwork`` commands, and that never outlive their parent.

Why: whoever starts a controller and a worker wants one thing to stop. Children get a session of
their own, so that Ctrl-C reaches the parent alone and the parent ends them in order; should the
parent die without a word, the kernel sends them SIGTERM (`PR_SET_PDEATHSIG`).
"""

import asyncio
import ctypes
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from clockwork.errors import ClockworkError

STOP_TIMEOUT_S: Final = 15.0
"""How long a child may take to end by itself; chosen: a large model's load fits in."""
TAIL_LINES: Final = 12
"""Lines of output that are kept to explain a death."""

_PR_SET_PDEATHSIG: Final = 1

OnLine = Callable[[str, str], None]
"""Takes a child's name and a line that it printed."""


class ChildError(ClockworkError):
    """A child process ended, or did not come up; the message holds its last lines."""


def die_with_parent(parent_pid: int | None) -> None:
    """Have the kernel end this process with SIGTERM when `parent_pid` ends; None: do nothing.

    To be called by the child, first thing.
    """
    if parent_pid is None:
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        # It died before we could say so.
        sys.exit(1)


class Child:
    """A running ``clockwork`` command; made by `start_child`."""

    def __init__(self, name: str, process: Process, on_line: OnLine) -> None:
        """Use `start_child` instead."""
        self.name = name
        self._process = process
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        # Patterns that somebody waits for.
        self._waiting: list[tuple[re.Pattern[str], asyncio.Future[re.Match[str]]]] = []
        self._reader = asyncio.ensure_future(self._read())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait_for_line(self, pattern: str, *, timeout_s: float) -> re.Match[str]:
        """Return the match of the next line that contains `pattern`.

        Raises:
            ChildError: the process ended first, or did not print it in time.
        """
        found: asyncio.Future[re.Match[str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((re.compile(pattern), found))
        ended = asyncio.ensure_future(self.wait())
        either: list[asyncio.Future[Any]] = [found, ended]
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if found.done():
            return found.result()
        found.cancel()
        raise self.failure(f"did not come up within {timeout_s:g} s")

    async def wait(self) -> int:
        """Wait until the process has ended and all its output was read; return its exit code."""
        await asyncio.wait([self._reader])
        return await self._process.wait()

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL if it does not obey."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self.wait()

    def failure(self, what: str) -> ChildError:
        """Return the error that tells what happened to this process, with its last lines."""
        code = self._process.returncode
        if code is not None:
            what = f"ended with signal {-code}" if code < 0 else f"ended with code {code}"
        tail = "".join(f"\n  {line}" for line in self._tail)
        return ChildError(f"the {self.name} {what}; its last lines:{tail or ' none'}")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while raw := await self._process.stdout.readline():
            # A countdown rewrites its line: the last version counts.
            line = raw.decode(errors="replace").rstrip("\n").split("\r")[-1]
            self._tail.append(line)
            self._on_line(self.name, line)
            self._waiting = [each for each in self._waiting if not _offer(line, *each)]


async def start_child(name: str, arguments: Sequence[str], on_line: OnLine) -> Child:
    """Start ``clockwork ARGUMENTS`` on the running loop; to be called from the main thread."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "clockwork",
        *arguments,
        "--parent",
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    return Child(name, process, on_line)


def _offer(line: str, pattern: re.Pattern[str], found: asyncio.Future[re.Match[str]]) -> bool:
    """Return whether nobody has to wait for `pattern` any more."""
    if not found.done() and (match := pattern.search(line)):
        found.set_result(match)
    return found.done()
