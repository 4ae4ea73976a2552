"""What this machine calls its processor, and what its devices are called in measurements."""

import platform
from functools import cache
from pathlib import Path
from typing import Final

# What decides how ONNX Runtime's convolutions lay out their weights: the widest vectors that it
# has kernels for. Listed from the best.
_FEATURES: Final = ("avx512f", "avx2", "avx")


@cache
def processor_kind() -> str:
    """Return the kind of this processor: equal kinds can run each other's tuned code."""
    machine = platform.machine()
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2]
    except OSError:
        return machine
    words = set(flags.partition("\n")[0].split())
    return "-".join([machine, *(name for name in _FEATURES if name in words)][:2])


def device_kind(cores: int) -> str:
    """Return the name under which measurements of a device of so many cores are stored."""
    return f"cpu-{cores}core"
