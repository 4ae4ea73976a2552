"""What every role looks like to a shell (DESIGN 3).

A shell collects events, calls `Role.handle` once per batch, and carries out the effects in order.
Live shells and the simulator do nothing else with a role.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

EventT = TypeVar("EventT", contravariant=True)
EffectT = TypeVar("EffectT")

Payload = bytes | bytearray | memoryview
"""Tensor bytes. Roles pass them on, know their length, and never look inside."""


class Wakeup(Struct, frozen=True, gc=False):
    """Nothing happened but time: the instant that the role asked for has come."""


WAKEUP = Wakeup()


class Role(Protocol[EventT, EffectT]):
    """A deterministic object: events in, effects out, time is an argument."""

    @property
    def wakeup_ns(self) -> int | None:
        """The earliest instant at which the role wants a `Wakeup`; None for never."""

    def handle(self, batch: Sequence[EventT], now_ns: int) -> list[EffectT]:
        """Take in a non-empty batch of events that happened by `now_ns`; return the effects.

        `now_ns` never decreases from call to call. Bad input from a peer becomes an effect or a
        status, never an exception.
        """

    def check(self) -> None:
        """Assert every invariant. For tests and the simulator; never called live."""
