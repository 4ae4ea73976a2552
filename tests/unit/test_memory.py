"""Pages of a weights cache."""

import pytest

from clockwork.parts.memory import PagePool


def test_low_pages_are_taken_first() -> None:
    """A fresh pool hands out pages in ascending order."""
    pool = PagePool(4)
    assert pool.take(3) == (0, 1, 2)
    assert (pool.used_count, pool.free_count, pool.total_count) == (3, 1, 4)


def test_too_many_pages_are_refused_without_taking_any() -> None:
    """A request that does not fit leaves the pool as it was."""
    pool = PagePool(4)
    assert pool.take(5) is None
    assert pool.free_count == 4
    assert pool.take(4) == (0, 1, 2, 3)
    assert pool.take(1) is None


def test_given_back_pages_are_taken_again_in_their_order() -> None:
    """The pages of a model that left serve the next one."""
    pool = PagePool(4)
    pages = pool.take(2)
    assert pages is not None
    pool.take(1)
    pool.give_back(pages)
    assert pool.take(2) == pages
    pool.check()


def test_nothing_may_be_taken_from_an_empty_pool() -> None:
    """A pool without pages gives zero pages and no more."""
    pool = PagePool(0)
    assert pool.take(0) == ()
    assert pool.take(1) is None


def test_a_page_given_back_twice_is_a_bug() -> None:
    """Giving back a free page fails loudly, with the page's number."""
    pool = PagePool(2)
    pages = pool.take(1)
    assert pages is not None
    pool.give_back(pages)
    with pytest.raises(AssertionError, match="page 0 of 2 is given back twice"):
        pool.give_back(pages)


def test_impossible_counts_are_bugs() -> None:
    """Negative totals and counts fail loudly."""
    with pytest.raises(AssertionError, match="cannot have -1 pages"):
        PagePool(-1)
    with pytest.raises(AssertionError, match="cannot take -1 pages"):
        PagePool(1).take(-1)
