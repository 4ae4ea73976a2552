"""Memory from the operating system, by address: reserved, moved and copied without Python objects.

Why apart: a weights cache needs what `mmap.mmap` cannot do. Pages of memory are *moved* between
addresses (``mremap``), which changes page tables and copies nothing.

Units: addresses and sizes are bytes; blocks start at multiples of 2 MiB, so that they can be huge
pages.

Not here: which pages belong to whom (`engines.arena`).
"""

import ctypes
import os
import weakref
from pathlib import Path
from typing import Final

HUGE_BYTES: Final = 2 * 1024 * 1024
"""A huge page on x86-64 and most of aarch64."""
SMALL_BYTES: Final = 4096
"""Grain of addresses that the kernel maps."""

_READ_WRITE: Final = 0x3
_PRIVATE: Final = 0x02
_ANONYMOUS: Final = 0x20
_NO_RESERVE: Final = 0x4000
_MAY_MOVE_FIXED: Final = 0x1 | 0x2
_ADVISE_HUGE: Final = 14
_ADVISE_POPULATE_WRITE: Final = 23
_FAILED: Final = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mremap.restype = ctypes.c_void_p
_libc.mremap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
]


class Block:
    """A block of zeroed memory that is unmapped when nobody refers to this object any more."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.address = reserve(max(1, size_bytes))
        weakref.finalize(self, unmap, self.address, _mapped(max(1, size_bytes)))

    def view(self) -> memoryview:
        """Return the block as bytes; the view must not outlive this object."""
        array = (ctypes.c_char * self.size_bytes).from_address(self.address)
        return memoryview(array).cast("B")


def reserve(size_bytes: int) -> int:
    """Return the address of zeroed memory; it takes no physical memory until it is touched.

    Raises:
        OSError: there is no such memory.
    """
    mapped = _mapped(size_bytes)
    flags = _PRIVATE | _ANONYMOUS | _NO_RESERVE
    start = _libc.mmap(None, mapped + HUGE_BYTES, _READ_WRITE, flags, -1, 0)
    if start == _FAILED:
        raise _os_error(f"cannot reserve {size_bytes} bytes of memory")
    address: int = -(-start // HUGE_BYTES) * HUGE_BYTES
    if address > start:
        unmap(start, address - start)
    unmap(address + mapped, start + HUGE_BYTES - address)
    # Where huge pages are off, this fails and nothing but a few percent of speed is lost.
    _libc.madvise(address, mapped, _ADVISE_HUGE)
    return address


def unmap(address: int, size_bytes: int) -> None:
    """Give memory back to the system."""
    if size_bytes:
        _libc.munmap(address, size_bytes)


def populate(address: int, size_bytes: int) -> None:
    """Touch memory, so that no later write waits for the system.

    Raises:
        OSError: there is not that much memory.
    """
    mapped = _mapped(size_bytes)
    if _libc.madvise(address, mapped, _ADVISE_POPULATE_WRITE) == 0:
        return
    if ctypes.get_errno() != 22:
        raise _os_error(f"cannot fill {size_bytes} bytes of memory")
    # Kernels before 5.14 do not know the advice.
    ctypes.memset(address, 0, mapped)


def move(address: int, size_bytes: int, target: int) -> None:
    """Move memory, content included, to `target`; what was mapped there is gone.

    Raises:
        OSError: the system refuses; nothing has moved.
    """
    if _libc.mremap(address, size_bytes, size_bytes, _MAY_MOVE_FIXED, target) != target:
        raise _os_error(f"cannot move {size_bytes} bytes of memory")


def copy(target: int, source: int, size_bytes: int) -> None:
    """Copy bytes; other Python threads run meanwhile.

    One large call beats several small ones: beyond some size (48 MiB measured with 260 MiB of
    shared cache) the C library writes past the caches, which is 1.6 times as fast.
    """
    ctypes.memmove(target, source, size_bytes)


def available_bytes() -> int | None:
    """Return how much memory programs can still get; None if the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    words = text.partition("MemAvailable:")[2].split(maxsplit=1)
    return int(words[0]) * 1024 if words else None


def _mapped(size_bytes: int) -> int:
    return -(-size_bytes // SMALL_BYTES) * SMALL_BYTES


def _os_error(text: str) -> OSError:
    errno = ctypes.get_errno()
    return OSError(errno, f"{text}: {os.strerror(errno)}")
