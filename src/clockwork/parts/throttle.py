"""Holds requests back at the client while the controller, or the way to it, is overloaded.

Refusing a request costs the controller about half of what serving it costs. At twice the load that
it can carry it would have no time left to serve anything, so clients refuse a part themselves: they
let through a little more than what succeeds, which is how they notice when more can. The part is
evened out (every third, say, not a third at random), so runs repeat.

It begins when many answers say `OVERLOADED` or come after their deadline, and ends when those stay
away. Answers are late when requests wait on their way, in buffers that the controller does not
see: with inputs of 600 kB, 2 % more than the wire carries left nothing in time. A few such answers
come from any controller whose machine was busy for a moment. Refusals for want of a free GPU are no
reason: they cost nothing but the request, and the next one may be for a model that has room.

Source: client-side throttling, in "Handling Overload" (Site Reliability Engineering, O'Reilly 2016,
chapter 21); there K is 2, which leaves half of the controller's time to refusals.
"""

from typing import Final

from clockwork.messages.requests import OVERLOADED, InferResponse
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND

PASSED_FACTOR: Final = 1.2
"""Requests let through per request that succeeded: the K of the source (chosen, see above)."""
LATE_FACTOR: Final = 0.4
"""Requests let through per answer that came too late: fewer than are carried, so that what waits
gets less. (Chosen: of what a pipe carries, 65 to 94 % is then in time when 10 to 1.02 times as much
is asked for; with 0, 22 to 96 %.)"""
RENEW_NS: Final = 20 * MS
"""How often the part to be refused is found anew (chosen)."""
DECAY: Final = 0.93
"""What a count is worth after RENEW_NS: half of it after 200 ms, so that a burst is answered in
time and forgotten soon (chosen)."""
FORGOTTEN_NS: Final = 100 * RENEW_NS
"""After a pause of this length nothing is left of the counts."""
OVERLOADS_MIN: Final = 30.0
OVERLOADS_SHARE: Final = 0.05
"""What many overloads are: so many in memory (some hundred per second), and such a part of all
answers (chosen)."""
CALM_NS: Final = 1 * SECOND
"""More passes again when the last time of many overloads is so long ago (chosen)."""
RELAXATION: Final = 0.97
"""By what the refused part shrinks then every RENEW_NS. (Letting everything pass at once floods the
controller every two seconds if the load has not fallen: 8 % of its goodput.)"""
RELAXED: Final = 0.01
"""A part that has shrunk to this counts as none."""

_SUCCESS: Final = Status.SUCCESS


class Throttle:
    """Decides for each request whether it may pass; learns from the answers."""

    __slots__ = (
        "_answered",
        "_asked",
        "_calm_at_ns",
        "_debt",
        "_grip",
        "_let_through",
        "_overloads",
        "_renew_ns",
        "share",
    )

    def __init__(self) -> None:
        # The part of all requests that is refused now, 0 to 1.
        self.share = 0.0
        # Requests, answers, requests that the answers let through, and overloads; all fading.
        self._asked = 0.0
        self._answered = 0.0
        self._let_through = 0.0
        self._overloads = 0.0
        # When the last time of many overloads is long ago, and what is left of the refused part.
        self._calm_at_ns = 0
        self._grip = 0.0
        # A request is refused whenever this reaches 1.
        self._debt = 0.0
        self._renew_ns = 0

    def refuses(self, now_ns: int) -> bool:
        """Return whether a new request must not be sent."""
        if now_ns >= self._renew_ns:
            self._renew(now_ns)
        self._asked += 1.0
        if not self.share:
            return False
        self._debt += self.share
        if self._debt < 1.0:
            return False
        self._debt -= 1.0
        return True

    def note(self, response: InferResponse, *, is_late: bool) -> None:
        """Take in an answer, and whether it came after its deadline."""
        self._answered += 1.0
        if response.status != _SUCCESS:
            self._overloads += response.message == OVERLOADED
        elif is_late:
            self._overloads += 1.0
            self._let_through += LATE_FACTOR
        else:
            self._let_through += PASSED_FACTOR

    def _renew(self, now_ns: int) -> None:
        late_ns = now_ns - self._renew_ns
        fade = DECAY ** (1 + late_ns // RENEW_NS) if late_ns < FORGOTTEN_NS else 0.0
        self._renew_ns = now_ns + RENEW_NS
        self._asked *= fade
        self._answered *= fade
        self._let_through *= fade
        self._overloads *= fade
        if self._overloads >= max(OVERLOADS_MIN, OVERLOADS_SHARE * self._answered):
            self._calm_at_ns = now_ns + CALM_NS
            self._grip = 1.0
        elif now_ns >= self._calm_at_ns:
            self._grip *= RELAXATION
        excess = self._asked - self._let_through
        if excess <= 0.0 or self._grip < RELAXED:
            self._grip = 0.0
        self.share = self._grip * excess / (self._asked + 1.0)
