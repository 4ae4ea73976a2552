"""The report on a machine: marks, verdict, and how to mend."""

import msgspec
import pytest

from clockwork.live.host import UNLIMITED, Gpu, Host, look_at_host
from clockwork.live.host_check import check_host, is_ready, report_lines, status_lines
from clockwork.units import GIB

GPU = Gpu("0", "V100", "7.0", "Exclusive_Process", "Enabled", "16", "16384 MiB")
GOOD = Host(
    environ={"CUDA_CACHE_DISABLE": "1"},
    cores=(0, 1, 2, 3, 8),
    core_count=16,
    open_files=UNLIMITED,
    locked_bytes=UNLIMITED,
    realtime_priority=UNLIMITED,
    max_map_count=10_000_000,
    memory_bytes=64 * GIB,
    cgroup_cores=None,
    cgroup_memory_bytes=32 * GIB,
    governors=("performance",),
    clock_source="tsc",
    huge_pages="madvise",
    is_time_synchronised=True,
    gpus=(GPU,),
)


def changed(**changes):
    """Return a good host with something else."""
    return msgspec.structs.replace(GOOD, **changes)


def test_a_good_machine_has_only_ticks():
    """Everything as it should be gives a tick per line and a good verdict."""
    lines = report_lines(GOOD)
    assert is_ready(check_host(GOOD))
    assert lines[-1] == "The environment is ready."
    assert not [line for line in lines if line.startswith(("✘", "!"))]


@pytest.mark.parametrize(
    ("changes", "what", "mend"),
    [
        ({"environ": {}}, "CUDA_CACHE_DISABLE is not set", "export CUDA_CACHE_DISABLE=1"),
        (
            {"environ": {"CUDA_CACHE_DISABLE": "1", "CUDA_FORCE_PTX_JIT": "1"}},
            "CUDA_FORCE_PTX_JIT is 1",
            "unset",
        ),
        ({"open_files": 65_534}, "open files: 65534", "nofile 1048576"),
        ({"locked_bytes": 64}, "locked memory: 64", "memlock unlimited"),
        ({"realtime_priority": 0}, "real-time priority: 0", "rtprio unlimited"),
        ({"max_map_count": 65_530}, "vm.max_map_count: 65530", "sysctl -w vm.max_map_count"),
    ],
)
def test_a_required_item_decides_the_verdict(changes, what, mend):
    """A cross comes with what was found, what is needed and how to mend it."""
    host = changed(**changes)
    lines = report_lines(host)
    assert not is_ready(check_host(host))
    number = next(number for number, line in enumerate(lines) if line.startswith(f"✘ {what}"))
    assert mend in lines[number + 1]
    assert "not ready" in lines[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"cores": (0,)},
        {"cgroup_cores": 1.5},
        {"governors": ("performance", "powersave")},
        {"clock_source": "hpet"},
        {"huge_pages": "never"},
        {"is_time_synchronised": False},
        {"gpus": (msgspec.structs.replace(GPU, compute_mode="Default"),)},
        {"gpus": (msgspec.structs.replace(GPU, persistence_mode="Disabled"),)},
    ],
)
def test_advice_does_not_decide_the_verdict(changes):
    """What only makes times less steady is marked, and the verdict stays good."""
    host = changed(**changes)
    assert is_ready(check_host(host))
    assert len([line for line in report_lines(host) if line.startswith("!")]) == 1


def test_gpu_items_appear_only_where_there_is_a_gpu():
    """Without a GPU nobody has to set CUDA variables."""
    assert not [each for each in check_host(changed(gpus=(), environ={})) if "GPU" in each.what]
    assert is_ready(check_host(changed(gpus=(), environ={})))


def test_what_the_machine_does_not_say_is_left_out():
    """An unknown fact is neither good nor bad."""
    silent = changed(
        max_map_count=None,
        governors=(),
        clock_source=None,
        huge_pages=None,
        is_time_synchronised=None,
        cgroup_memory_bytes=None,
    )
    assert len(check_host(silent)) == len(check_host(GOOD)) - 6


def test_status_shows_what_there_is():
    """Cores are shown the way taskset reads them."""
    lines = status_lines(GOOD)
    assert lines[0] == "Cores: 5 of 16 (0-3,8)"
    assert "GPUs: 1" in lines
    assert "compute_capability=7.0" in lines[-1]


def test_facts_are_read_from_files(tmp_path):
    """Control groups, governors, clock and huge pages come from where the kernel shows them."""
    files = {
        "proc/sys/vm/max_map_count": "65530\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    host = look_at_host({}, root=tmp_path)
    assert host.max_map_count == 65_530
    assert host.cgroup_cores == 1.5
    assert host.cgroup_memory_bytes is None
    assert host.governors == ("powersave",)
    assert (host.clock_source, host.huge_pages) == ("tsc", "madvise")


def test_a_machine_without_such_files_can_be_looked_at(tmp_path):
    """Nothing is required to be there."""
    host = look_at_host({}, root=tmp_path)
    assert host.max_map_count is None
    assert host.cgroup_cores is None
    assert host.cores
