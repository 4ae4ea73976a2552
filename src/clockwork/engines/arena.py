"""The pages of one GPU's weights cache in main memory.

The pages of a model may be any free ones, but its weights want one range of addresses: tensors
larger than a page exist, and one large copy is much faster than several of a page each. So pages
have no fixed address. To *join* pages, they are moved (page tables only, 15 us each, measured)
into a fresh range, from wherever they were; the ranges that they leave are free address space.

Invariants: every page is mapped exactly once, at `address_of`; the mapped size never changes.

Source: the original's pages are at fixed places, so that its compiled models address every tensor
as page plus offset (SPEC 5.8). Compared with a file in memory that is mapped twice: that needs no
moves back either, but cannot have huge pages on most systems, and fills page tables per load.
"""

import weakref
from collections.abc import Sequence

from clockwork.engines import memory
from clockwork.errors import ConfigurationError
from clockwork.units import format_bytes


class PageArena:
    """Pages in main memory, all of them filled from the start, so that loads never wait for it."""

    def __init__(self, *, page_count: int, page_bytes: int) -> None:
        """Take the memory.

        Raises:
            ConfigurationError: the page size does not suit the system, or memory is too small.
        """
        if page_bytes < 1 or page_bytes % memory.SMALL_BYTES:
            raise ConfigurationError(
                f"a page of {page_bytes} bytes is no multiple of {memory.SMALL_BYTES}: "
                f"choose another weights_cache_page_size, such as 16MiB"
            )
        self.page_bytes = page_bytes
        start = _fill(page_count * page_bytes)
        self._addresses = [start + page * page_bytes for page in range(page_count)]
        self.close = weakref.finalize(self, _unmap_all, self._addresses, page_bytes)

    @property
    def page_count(self) -> int:
        """Pages in all."""
        return len(self._addresses)

    def address_of(self, page: int) -> int:
        """Return where `page` is now."""
        return self._addresses[page]

    def join(self, pages: Sequence[int]) -> int:
        """Bring `pages` to consecutive addresses in this order; return the first.

        What the pages hold goes with them. Addresses of these pages from before are void.

        Raises:
            OSError: the system refuses; every page is still mapped somewhere.
        """
        addresses = self._addresses
        first = addresses[pages[0]]
        if all(addresses[page] == first + i * self.page_bytes for i, page in enumerate(pages)):
            return first
        size_bytes = len(pages) * self.page_bytes
        start = memory.reserve(size_bytes)
        for index, page in enumerate(pages):
            target = start + index * self.page_bytes
            try:
                memory.move(addresses[page], self.page_bytes, target)
            except OSError:
                memory.unmap(target, start + size_bytes - target)
                raise
            addresses[page] = target
        return start


def _fill(size_bytes: int) -> int:
    available = memory.available_bytes()
    if available is not None and size_bytes > available:
        raise ConfigurationError(
            f"a weights cache of {format_bytes(size_bytes)} is more than the "
            f"{format_bytes(available)} of memory that are free: lower weights_cache_size"
        )
    try:
        start = memory.reserve(max(1, size_bytes))
        memory.populate(start, size_bytes)
    except OSError as error:
        raise ConfigurationError(f"no memory for the weights cache: {error.strerror}") from None
    return start


def _unmap_all(addresses: Sequence[int], page_bytes: int) -> None:
    for address in addresses:
        memory.unmap(address, page_bytes)
