"""Tests of clockwork.engines.arena and the memory below it."""

import ctypes
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clockwork.engines import memory
from clockwork.engines.arena import PageArena
from clockwork.errors import ConfigurationError

PAGE = 64 * 1024


def write(arena: PageArena, page: int, value: int) -> None:
    """Fill a page with one value."""
    ctypes.memset(arena.address_of(page), value, arena.page_bytes)


def read(address: int, size_bytes: int) -> set[int]:
    """Return the values that occur in a range."""
    return set(ctypes.string_at(address, size_bytes))


@settings(max_examples=30, deadline=None)
@given(
    joins=st.lists(
        st.lists(st.integers(0, 11), min_size=1, max_size=8, unique=True), min_size=1, max_size=12
    )
)
def test_pages_keep_their_content_wherever_they_go(joins: list[list[int]]) -> None:
    """Any sequence of joins gives consecutive addresses and loses or mixes up no page."""
    arena = PageArena(page_count=12, page_bytes=PAGE)
    for page in range(12):
        write(arena, page, page + 1)
    for pages in joins:
        start = arena.join(pages)
        for index, page in enumerate(pages):
            assert arena.address_of(page) == start + index * PAGE
    for page in range(12):
        assert read(arena.address_of(page), PAGE) == {page + 1}


def test_neighbours_stay_where_they_are() -> None:
    """Pages that are consecutive already are not moved."""
    arena = PageArena(page_count=4, page_bytes=PAGE)
    assert arena.join([1, 2, 3]) == arena.address_of(0) + PAGE


def test_memory_is_given_back() -> None:
    """Closing an arena unmaps its pages, wherever they are."""
    arena = PageArena(page_count=6, page_bytes=PAGE)
    start = arena.join([5, 0, 3])
    arena.close()
    maps = Path("/proc/self/maps").read_text(encoding="ascii")
    assert f"\n{start:x}-" not in maps


def test_a_page_size_that_cannot_be_mapped_is_refused() -> None:
    """The message names the size and proposes another."""
    with pytest.raises(ConfigurationError, match="a page of 1000 bytes is no multiple of 4096"):
        PageArena(page_count=1, page_bytes=1000)


def test_a_cache_larger_than_memory_is_refused() -> None:
    """The message says how much memory there is, instead of a killed process later."""
    with pytest.raises(ConfigurationError, match="lower weights_cache_size"):
        PageArena(page_count=2**20, page_bytes=2**30)


def test_a_block_is_zeroed_and_copied_as_bytes() -> None:
    """A block starts as zeros and takes what is copied into it."""
    source, target = memory.Block(5000), memory.Block(5000)
    assert bytes(target.view()) == bytes(5000)
    source.view()[:] = bytes(i % 251 for i in range(5000))
    memory.copy(target.address, source.address, 5000)
    assert target.view() == source.view()
    assert len(memory.Block(0).view()) == 0
