"""Results of orders (actions that are not about one GPU) go to the part that sent them.

A part that sends orders of its own registers the type of their owners; the catalogue takes the
rest. The same way is gone by the failures of orders whose worker was lost.
"""

from collections.abc import Callable

from clockwork.controller.underway import PendingOrder
from clockwork.messages.actions import Result

TakeResult = Callable[[PendingOrder, Result, int], None]
"""Takes an order, its result, and now."""


class OrderResults:
    """Who takes which results."""

    def __init__(self, otherwise: TakeResult) -> None:
        """Begin with one part that takes all."""
        self._otherwise = otherwise
        self._by_owner: dict[type, TakeResult] = {}

    def register(self, owner: type, take: TakeResult) -> None:
        """Have another part take the results of orders with such owners."""
        self._by_owner[owner] = take

    def give(self, pending: PendingOrder, result: Result, now_ns: int) -> None:
        """Hand a result to whom it concerns."""
        self._by_owner.get(type(pending.owner), self._otherwise)(pending, result, now_ns)
