"""Facts about this machine that decide how predictable it is; read once, without changing any."""

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

UNLIMITED: Final = resource.RLIM_INFINITY
_TIME_IS_UNSYNCHRONISED: Final = 5
"""What ``adjtimex`` returns when nobody disciplines the clock (TIME_ERROR of <sys/timex.h>)."""
_QUERY_TIMEOUT_S: Final = 10.0
_GPU_FIELDS: Final = (
    "index,name,compute_cap,compute_mode,persistence_mode,pcie.link.width.current,memory.total"
)


class Gpu(Struct, frozen=True):
    """One GPU as nvidia-smi describes it."""

    index: str
    name: str
    compute_capability: str
    compute_mode: str
    persistence_mode: str
    pcie_width: str
    memory: str


class Host(Struct, frozen=True, kw_only=True):
    """What was found. None: this machine does not say."""

    environ: Mapping[str, str]
    # Cores that this process may use, and all that there are.
    cores: tuple[int, ...]
    core_count: int
    # Soft limits; -1 is unlimited.
    open_files: int
    locked_bytes: int
    realtime_priority: int
    max_map_count: int | None
    memory_bytes: int
    # Cores' worth of time that the control group may use; None: no limit.
    cgroup_cores: float | None
    cgroup_memory_bytes: int | None
    # Distinct settings over all cores.
    governors: tuple[str, ...]
    clock_source: str | None
    huge_pages: str | None
    is_time_synchronised: bool | None
    gpus: tuple[Gpu, ...]


def look_at_host(environ: Mapping[str, str], *, root: Path = Path("/")) -> Host:
    """Return the facts; files are read below `root`, which is another place only in tests."""
    system = root / "sys/devices/system"
    return Host(
        environ=environ,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        core_count=os.cpu_count() or 1,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        locked_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        realtime_priority=resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
        max_map_count=_number(root / "proc/sys/vm/max_map_count"),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_cores=_cgroup_cores(root / "sys/fs/cgroup"),
        cgroup_memory_bytes=_number(root / "sys/fs/cgroup/memory.max"),
        governors=tuple(
            sorted({_text(path) or "" for path in system.glob("cpu/cpu*/cpufreq/scaling_governor")})
        ),
        clock_source=_text(system / "clocksource/clocksource0/current_clocksource"),
        huge_pages=_chosen(_text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        is_time_synchronised=_is_time_synchronised(),
        gpus=_gpus(),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdecimal() else None


def _chosen(text: str | None) -> str | None:
    """Return the word in brackets: ``always [madvise] never``."""
    return text.partition("[")[2].partition("]")[0] if text else None


def _cgroup_cores(folder: Path) -> float | None:
    words = (_text(folder / "cpu.max") or "").split()
    if len(words) != 2 or not words[0].isdecimal():
        return None
    return int(words[0]) / int(words[1])


def _is_time_synchronised() -> bool | None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "adjtimex"):
        return None
    # A zeroed `struct timex` (208 bytes on 64-bit Linux) only asks.
    state = int(libc.adjtimex(ctypes.create_string_buffer(256)))
    return None if state < 0 else state != _TIME_IS_UNSYNCHRONISED


def _gpus() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
    return tuple(Gpu(*row) for row in rows if len(row) == len(_GPU_FIELDS.split(",")))
