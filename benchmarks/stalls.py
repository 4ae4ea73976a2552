"""Tells when the machine itself kept cores from everybody: the baseline for pauses of a program.

One process per core asks to be woken every 10 ms, as a controller's own watch does, but at a
real-time priority, so that no other program delays it. What is late nevertheless is late because of
the machine: its kernel, or, if it is a virtual one, whoever runs it. Each process takes 0.1 ms per
look from whoever runs on its core; looking every millisecond cost a controller as much as it told.

A stall between two looks is not seen, but a virtual machine counts what is stolen from it, and not
all of that either. Before and after a run, when nothing else is there, `spin` sees everything: a
program that only reads the clock, and how long it was kept from that.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rig import pin

STEP_NS: Final = 10_000_000
NOTED_NS: Final = 500_000
"""Wake-ups that are less late than this are on time."""
PRIORITY: Final = 50
"""Chosen: above everything that is not part of the kernel."""
LOOKS: Final = 10
"""Steps between two looks at whether to end."""

_STOLEN: Final = 7
"""Index among the columns of /proc/stat."""

Span = tuple[int, int]
"""Begin and end, in ns of the monotonic clock."""


class StallWatch:
    """Watches cores for as long as it is open; a context manager."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores
        self._processes: list[subprocess.Popen[str]] = []
        # Of all cores; known when the watch is closed. None: a priority is not permitted here.
        self.stalls: list[Span] | None = None

    def __enter__(self) -> "StallWatch":
        """Begin."""
        for core in self._cores:
            command = (sys.executable, __file__, str(core))
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self._processes.append(process)
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        found = [json.loads(process.communicate()[0]) for process in self._processes]
        if None not in found:
            self.stalls = [(begin_ns, end_ns) for each in found for begin_ns, end_ns in each]

    def longest_ns(self, begin_ns: int, end_ns: int) -> int:
        """Return the longest stall that touches a time; 0 without any, or if none are known."""
        return max(
            (
                last - first
                for first, last in self.stalls or ()
                if first < end_ns and last > begin_ns
            ),
            default=0,
        )


def spin(cores: Sequence[int], seconds: float) -> list[int]:
    """Return how long programs that only read the clock were kept from it, in ns, on all cores."""
    spinners = [
        subprocess.Popen(
            [sys.executable, __file__, str(core), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        for core in cores
    ]
    return [gap_ns for each in spinners for gap_ns in json.loads(each.communicate()[0])]


def stolen_ns(cores: Sequence[int]) -> int:
    """Return the time that was stolen from cores since the start, in steps of some 10 ms."""
    ticks = 0
    names = {f"cpu{core}" for core in cores}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            ticks += int(fields[_STOLEN])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def watch(core: int) -> list[Span] | None:
    """Return the stalls of one core until stdin ends; None where we may not have a priority."""
    pin([core])
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        return None
    gc.disable()
    os.set_blocking(sys.stdin.fileno(), False)
    stalls: list[Span] = []
    due_ns = time.monotonic_ns()
    count = 0
    while count % LOOKS or not _has_ended():
        count += 1
        due_ns = max(due_ns + STEP_NS, time.monotonic_ns())
        time.sleep(max(due_ns - time.monotonic_ns(), 0) / 1e9)
        note(stalls, due_ns, time.monotonic_ns())
    return stalls


def gaps(core: int, seconds: float) -> list[int]:
    """Return the gaps above NOTED_NS between two readings of the clock."""
    pin([core])
    gc.disable()
    found: list[int] = []
    now_ns = time.monotonic_ns()
    end_ns = now_ns + round(seconds * 1e9)
    while now_ns < end_ns:
        before_ns, now_ns = now_ns, time.monotonic_ns()
        if now_ns - before_ns > NOTED_NS:
            found.append(now_ns - before_ns)
    return found


def note(stalls: list[Span], due_ns: int, woken_ns: int) -> None:
    """Add a wake-up to the stalls if it came late.

    A machine that lends a core in slices lets us run a little in between: stalls that follow each
    other closely are one.
    """
    if woken_ns - due_ns <= NOTED_NS:
        return
    if stalls and due_ns - stalls[-1][1] < 2 * STEP_NS:
        due_ns = stalls.pop()[0]
    stalls.append((due_ns, woken_ns))


def _has_ended() -> bool:
    """Whether whoever started us has closed our stdin."""
    try:
        return not os.read(sys.stdin.fileno(), 1)
    except BlockingIOError:
        return False


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(gaps(int(sys.argv[1]), float(sys.argv[2]))))
    else:
        print(json.dumps(watch(int(sys.argv[1]))))
