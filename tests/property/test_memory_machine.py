"""PagePool against a model made of a set and a dict."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from clockwork.parts.memory import PagePool


class PagePoolMachine(RuleBasedStateMachine):
    """Takes and gives back pages in any order."""

    held = Bundle("held")

    @initialize(total=st.integers(0, 20))
    def start(self, total: int) -> None:
        """Begin with all pages free."""
        self.total = total
        self.pool = PagePool(total)
        self.taken: set[int] = set()

    @rule(target=held, count=st.integers(0, 8))
    def take(self, count: int) -> tuple[int, ...]:
        """Pages are new and distinct, or there are too few."""
        pages = self.pool.take(count)
        if pages is None:
            assert count > self.total - len(self.taken)
            return ()
        assert len(set(pages)) == len(pages) == count
        assert not self.taken & set(pages)
        assert all(0 <= page < self.total for page in pages)
        self.taken |= set(pages)
        return pages

    @rule(pages=consumes(held))
    def give_back(self, pages: tuple[int, ...]) -> None:
        """What was taken can be given back once."""
        self.pool.give_back(pages)
        self.taken -= set(pages)

    @invariant()
    def counts_agree(self) -> None:
        """Free and used always add up."""
        if hasattr(self, "pool"):
            self.pool.check()
            assert self.pool.used_count == len(self.taken)
            assert self.pool.free_count == self.total - len(self.taken)


TestPagePool = PagePoolMachine.TestCase
