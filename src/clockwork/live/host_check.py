"""Judges a machine: one item per fact, and how to mend what is not as it should be.

Required items decide the verdict; they are the original's (SPEC 1.9). The others make times less
predictable, and Clockwork runs without them.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from clockwork.live.host import UNLIMITED, Host
from clockwork.live.options import CONFIG_FILE_ENV
from clockwork.units import format_bytes

OPEN_FILES_MIN: Final = 65_535
MAX_MAP_COUNT_MIN: Final = 10_000_000
CORES_MIN: Final = 2
STEADY_CLOCKS: Final = frozenset({"tsc", "arch_sys_counter", "kvm-clock"})
"""Clock sources that are read without a system call."""


class Item(Struct, frozen=True):
    """One line of the report."""

    what: str
    is_good: bool
    # What to do if it is not.
    mend: str
    # Whether it counts for the verdict.
    is_required: bool = False


def check_host(host: Host) -> list[Item]:
    """Return all items that apply to this machine, the required ones first."""
    return [*_gpu_environment(host), *_limits(host), *_steadiness(host), *_gpu_modes(host)]


def is_ready(items: list[Item]) -> bool:
    """Return the verdict."""
    return all(item.is_good for item in items if item.is_required)


def report_lines(host: Host) -> list[str]:
    """Return the report with its verdict as the last line."""
    items = check_host(host)
    lines = []
    for item in items:
        mark = "✓" if item.is_good else "✘" if item.is_required else "!"
        lines.append(f"{mark} {item.what}")
        if not item.is_good:
            lines.append(f"    {item.mend}")
    used = host.environ.get(CONFIG_FILE_ENV)
    lines.append(
        f"  {CONFIG_FILE_ENV} is {used}" if used else f"  {CONFIG_FILE_ENV} is not set: defaults"
    )
    lines.append("")
    if is_ready(items):
        lines.append("The environment is ready.")
    else:
        lines.append("The environment is not ready: mend the lines with ✘ (docs/environment.md).")
    return lines


def status_lines(host: Host) -> list[str]:
    """Return what this machine has."""
    lines = [
        f"Cores: {len(host.cores)} of {host.core_count} ({_ranges(host.cores)})",
        f"Memory: {format_bytes(host.memory_bytes)}",
        f"GPUs: {len(host.gpus)}",
    ]
    for gpu in host.gpus:
        lines.append(
            f"  GPU {gpu.index} {gpu.name} compute_capability={gpu.compute_capability} "
            f"compute_mode={gpu.compute_mode} pcie_width={gpu.pcie_width} memory={gpu.memory}"
        )
    return lines


def _gpu_environment(host: Host) -> Iterator[Item]:
    if not host.gpus:
        return
    cache = host.environ.get("CUDA_CACHE_DISABLE")
    yield Item(
        f"CUDA_CACHE_DISABLE is {cache or 'not set'}",
        cache == "1",
        "export CUDA_CACHE_DISABLE=1",
        is_required=True,
    )
    jit = host.environ.get("CUDA_FORCE_PTX_JIT")
    yield Item(
        f"CUDA_FORCE_PTX_JIT is {jit or 'not set'}",
        jit != "1",
        "unset CUDA_FORCE_PTX_JIT",
        is_required=True,
    )


def _limits(host: Host) -> Iterator[Item]:
    yield Item(
        f"open files: {_limit(host.open_files)}, at least {OPEN_FILES_MIN} needed",
        host.open_files == UNLIMITED or host.open_files >= OPEN_FILES_MIN,
        _limits_conf("nofile", "1048576"),
        is_required=True,
    )
    for what, value, name in (
        ("locked memory", host.locked_bytes, "memlock"),
        ("real-time priority", host.realtime_priority, "rtprio"),
    ):
        yield Item(
            f"{what}: {_limit(value)}, unlimited needed",
            value == UNLIMITED,
            _limits_conf(name, "unlimited"),
            is_required=True,
        )
    if host.max_map_count is not None:
        yield Item(
            f"vm.max_map_count: {host.max_map_count}, at least {MAX_MAP_COUNT_MIN} needed",
            host.max_map_count >= MAX_MAP_COUNT_MIN,
            f"sudo sysctl -w vm.max_map_count={MAX_MAP_COUNT_MIN}",
            is_required=True,
        )


def _steadiness(host: Host) -> Iterator[Item]:
    yield Item(
        f"cores: {len(host.cores)} of {host.core_count}",
        len(host.cores) >= CORES_MIN,
        f"give it {CORES_MIN} cores or more: one computes, another one answers",
    )
    if host.cgroup_cores is not None:
        yield Item(
            f"control group: {host.cgroup_cores:g} cores' worth of time",
            host.cgroup_cores >= len(host.cores),
            "raise the CPU limit to the number of cores: a group that used up its share stands "
            "still for tens of ms",
        )
    if host.cgroup_memory_bytes is not None:
        yield Item(
            f"control group: {format_bytes(host.cgroup_memory_bytes)} of memory",
            True,
            "",
        )
    if host.governors:
        yield Item(
            f"CPU governor: {', '.join(host.governors)}",
            host.governors == ("performance",),
            "sudo cpupower frequency-set -g performance",
        )
    if host.clock_source is not None:
        yield Item(
            f"clock source: {host.clock_source}",
            host.clock_source in STEADY_CLOCKS,
            f"boot with clocksource=tsc if the machine has one; steady are "
            f"{', '.join(sorted(STEADY_CLOCKS))}",
        )
    if host.huge_pages is not None:
        yield Item(
            f"transparent huge pages: {host.huge_pages}",
            host.huge_pages in {"always", "madvise"},
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        )
    if host.is_time_synchronised is not None:
        yield Item(
            f"time: {'synchronised' if host.is_time_synchronised else 'not synchronised'}",
            host.is_time_synchronised,
            "run chrony or systemd-timesyncd, so that logs of several machines can be compared",
        )


def _gpu_modes(host: Host) -> Iterator[Item]:
    for gpu in host.gpus:
        yield Item(
            f"GPU {gpu.index} compute mode: {gpu.compute_mode}",
            gpu.compute_mode == "Exclusive_Process",
            f"sudo nvidia-smi -i {gpu.index} -c 3",
        )
        yield Item(
            f"GPU {gpu.index} persistence mode: {gpu.persistence_mode}",
            gpu.persistence_mode == "Enabled",
            f"sudo nvidia-smi -i {gpu.index} -pm 1",
        )


def _limit(value: int) -> str:
    return "unlimited" if value == UNLIMITED else str(value)


def _limits_conf(name: str, value: str) -> str:
    return f"add '* - {name} {value}' to /etc/security/limits.conf, and log in again"


def _ranges(cores: tuple[int, ...]) -> str:
    """Return numbers the way taskset reads them: ``0-3,8``."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
