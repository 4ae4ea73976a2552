"""Pages of one GPU's weights cache: which are free and which are taken.

Pages are interchangeable: a model takes any `count` of them, all or none, so the cache never
fragments and a load fails only if too few are free. Who holds which pages is the holder's matter;
the pool knows only whether a page is out.

Invariant: every page is either free or taken, `free_count + used_count == total_count`.

Source: SPEC 5.6. Eviction is not here: the controller decides what leaves.
"""

from collections.abc import Sequence


class PagePool:
    """`total_count` pages, numbered from 0. Cost of every operation: O(pages moved)."""

    __slots__ = ("_free", "_is_taken", "total_count")

    def __init__(self, total_count: int) -> None:
        assert total_count >= 0, f"a pool cannot have {total_count} pages"
        self.total_count = total_count
        # Free page numbers as a stack whose top is the end: low pages first, then those that
        # were given back last, which are the likeliest to be in a CPU's caches.
        self._free = list(range(total_count - 1, -1, -1))
        # By page: 1 while it is taken.
        self._is_taken = bytearray(total_count)

    @property
    def free_count(self) -> int:
        """Pages that can be taken."""
        return len(self._free)

    @property
    def used_count(self) -> int:
        """Pages that are taken."""
        return self.total_count - len(self._free)

    def take(self, count: int) -> tuple[int, ...] | None:
        """Take `count` pages; return their numbers, or None (and take none) if too few are free."""
        assert count >= 0, f"cannot take {count} pages"
        free = self._free
        if count > len(free):
            return None
        if not count:
            return ()
        pages = tuple(free[: -count - 1 : -1])
        del free[-count:]
        for page in pages:
            assert not self._is_taken[page], f"page {page} of {self.total_count} is taken twice"
            self._is_taken[page] = 1
        return pages

    def give_back(self, pages: Sequence[int]) -> None:
        """Make `pages` free again; each must be taken."""
        for page in reversed(pages):
            assert self._is_taken[page], f"page {page} of {self.total_count} is given back twice"
            self._is_taken[page] = 0
            self._free.append(page)

    def check(self) -> None:
        """Assert that every page is either free or taken, and none is both."""
        assert len(set(self._free)) == len(self._free), f"free twice: {sorted(self._free)}"
        for page in self._free:
            assert not self._is_taken[page], f"page {page} is both free and taken"
        taken = self._is_taken.count(1)
        assert taken == self.used_count, f"{taken} pages are taken, {self.used_count} counted"
