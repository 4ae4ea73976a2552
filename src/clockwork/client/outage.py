"""What becomes of requests while there is no connection to the controller.

Those that were under way when it broke, and those that come before there is another one, are kept
until their deadlines. On the next connection the rest of them is sent (again), with what is left of
their SLO; an inference may be carried out twice without harm. A request whose deadline has passed
is lost: it never gets an answer. What has no SLO of its own has the controllers' documented default
here, since nobody waits for ever. An outage that lasts too long ends the run.

Not here: dialling (the shell), and what the next controller has to have (``model_calls.py``).
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec.structs import replace

from clockwork.messages.client_io import SendInfer
from clockwork.parts.timers import Timers
from clockwork.units import MS, format_duration

DEFAULT_SLO_NS: Final = 100 * MS
"""The documented default of controllers."""


def deadline_of(send: SendInfer) -> int:
    """Return when nobody waits for the answer to a request any more."""
    return send.deadline_ns or send.arrival_ns + DEFAULT_SLO_NS


class Outage:
    """Whether there is no connection, and the requests that wait for one."""

    __slots__ = (
        "_began_at_ns",
        "_count",
        "_fail",
        "_kept",
        "_lose",
        "_lost_count",
        "_patience_ns",
        "_say",
        "_timers",
        "is_on",
    )

    def __init__(
        self,
        patience_ns: int,
        timers: Timers[Callable[[int], None]],
        *,
        lose: Callable[[SendInfer, int], None],
        fail: Callable[[str, int], None],
        say: Callable[[str], None],
    ) -> None:
        """Begin with a connection.

        Args:
            patience_ns: how long an outage may last.
            timers: call what is set there at its instant.
            lose: is given each request that is lost, and when.
            fail: is told why and when the run fails.
            say: takes lines for the console.
        """
        self._patience_ns = patience_ns
        self._timers = timers
        self._lose = lose
        self._fail = fail
        self._say = say
        # From the loss of a connection until requests can be sent on the next one.
        self.is_on = False
        # Outages so far: tells timers of an old one that it is over.
        self._count = 0
        self._began_at_ns = 0
        self._lost_count = 0
        # By number, in the order in which they came.
        self._kept: dict[int, SendInfer] = {}

    def begin(self, error: str, sends: Iterable[SendInfer], now_ns: int) -> None:
        """Keep what is in flight; nothing changes if there was no connection anyway."""
        if self.is_on:
            return
        self.is_on = True
        self._count += 1
        self._began_at_ns = now_ns
        self._lost_count = 0
        self._say(f"{error}; dialling again")
        for send in sends:
            self.keep(send)
        self._when_still_on(now_ns + self._patience_ns, lambda at_ns: self._give_up(error, at_ns))

    def keep(self, send: SendInfer) -> None:
        """Keep a request for the next connection, until its deadline."""
        self._kept[send.request.user_request_id] = send
        self._when_still_on(deadline_of(send), lambda at_ns: self._drop(send, at_ns))

    def end(self, now_ns: int) -> list[SendInfer]:
        """Return the requests that can still be sent, now that there is a connection."""
        for send in [send for send in self._kept.values() if deadline_of(send) <= now_ns]:
            self._drop(send, now_ns)
        kept, self._kept = self._kept, {}
        self.is_on = False
        took = format_duration(round(now_ns - self._began_at_ns, -6))
        self._say(
            f"Connected again after {took}: {len(kept)} requests are sent (again), "
            f"{self._lost_count} were lost"
        )
        return [_what_is_left(send, now_ns) for send in kept.values()]

    def _when_still_on(self, when_ns: int, action: Callable[[int], None]) -> None:
        """Do something at an instant unless this outage is over then."""
        count = self._count

        def look(at_ns: int) -> None:
            if self.is_on and self._count == count:
                action(at_ns)

        self._timers.set(when_ns, look)

    def _drop(self, send: SendInfer, at_ns: int) -> None:
        del self._kept[send.request.user_request_id]
        self._lost_count += 1
        self._lose(send, at_ns)

    def _give_up(self, error: str, at_ns: int) -> None:
        waited = format_duration(self._patience_ns)
        self._fail(f"{error} (dialled again for {waited})", at_ns)


def _what_is_left(send: SendInfer, now_ns: int) -> SendInfer:
    """Return a request with the rest of its SLO, if it was given as a time."""
    if not send.request.slo_ns or send.deadline_ns is None:
        return send
    return replace(send, request=replace(send.request, slo_ns=send.deadline_ns - now_ns))
