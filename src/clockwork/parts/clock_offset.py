"""How far another process's clock is from ours, estimated from the messages it sends.

Every frame carries its sender's clock. Ours at receipt minus the sender's is a *delta*: the time
on the way plus the difference of the clocks. The smallest delta in each direction belongs to the
message that waited least; assuming that the fastest way takes equally long in both directions,
half the difference of the two minima is the difference of the clocks, and their sum is the
fastest round trip. Both sides tell each other their own minimum.

Source: SPEC 2.8. One observation may stand for all messages that one read brought: the last of
them has the smallest delta, and the minimum is all that counts.

Units: nanoseconds. Cost: O(1) amortised per observation.
"""

from collections import deque
from typing import Final

from msgspec.structs import replace

from clockwork.messages.actions import (
    Action,
    EvictWeights,
    EvictWeightsDone,
    Infer,
    InferDone,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    LoadWeightsDone,
    Result,
    Timing,
)
from clockwork.units import FOREVER_NS

WINDOW: Final = 1024
"""Observations that count, per direction (the original's number)."""


class SlidingMinimum:
    """The smallest of the last `window` values."""

    __slots__ = ("_candidates", "_count", "_window", "value")

    def __init__(self, window: int = WINDOW) -> None:
        assert window > 0, f"window {window} holds nothing"
        self._window = window
        self._count = 0
        # (sequence, value), values ascending: each is the minimum once those before it have left.
        self._candidates: deque[tuple[int, int]] = deque()
        # None before the first value.
        self.value: int | None = None

    def add(self, value: int) -> None:
        """Take in a value; the one `window` places before it leaves."""
        candidates = self._candidates
        while candidates and candidates[-1][1] >= value:
            candidates.pop()
        candidates.append((self._count, value))
        self._count += 1
        if candidates[0][0] < self._count - self._window:
            candidates.popleft()
        self.value = candidates[0][1]


class ClockOffset:
    """An estimate of a peer's clock minus ours; 0 until both directions have been heard."""

    __slots__ = ("_local", "_remote", "local_minimum_ns", "offset_ns", "round_trip_ns")

    def __init__(self, window: int = WINDOW) -> None:
        self._local = SlidingMinimum(window)
        self._remote = SlidingMinimum(window)
        # Our smallest delta, to be told to the peer; FOREVER_NS while there is none.
        self.local_minimum_ns = FOREVER_NS
        # The peer's clock minus ours.
        self.offset_ns = 0
        # The fastest way there and back; never the time that the peer took to answer.
        self.round_trip_ns = 0

    def observe(self, delta_ns: int, peer_minimum_ns: int) -> None:
        """Take in a message.

        Args:
            delta_ns: our clock at receipt minus the sender's clock at sending.
            peer_minimum_ns: the smallest delta that the peer has seen; FOREVER_NS if none yet.
        """
        self._local.add(delta_ns)
        local_ns = self._local.value
        assert local_ns is not None
        self.local_minimum_ns = local_ns
        if peer_minimum_ns != FOREVER_NS:
            self._remote.add(peer_minimum_ns)
        remote_ns = self._remote.value
        if remote_ns is not None:
            self.offset_ns = (remote_ns - local_ns) // 2
            self.round_trip_ns = local_ns + remote_ns

    @property
    def delta_ns(self) -> int:
        """What to add to the peer's instants to get ours: the offset with its sign turned."""
        return -self.offset_ns


def shift_ns(instant_ns: int, delta_ns: int) -> int:
    """Return an instant in another clock; 0 and FOREVER_NS mean the same in every clock."""
    if not 0 < instant_ns < FOREVER_NS:
        return instant_ns
    moved_ns = instant_ns + delta_ns
    if 0 <= moved_ns <= FOREVER_NS:
        return moved_ns
    return 0 if moved_ns < 0 else FOREVER_NS


def shift_action(action: Action, delta_ns: int) -> Action:
    """Return `action` with its window moved by `delta_ns`, saturating."""
    if not delta_ns or not isinstance(action, Infer | LoadWeights | EvictWeights | LoadModel):
        return action
    earliest_ns = shift_ns(action.earliest_ns, delta_ns)
    latest_ns = shift_ns(action.latest_ns, delta_ns)
    return replace(action, earliest_ns=earliest_ns, latest_ns=latest_ns)


def shift_result(result: Result, delta_ns: int) -> Result:
    """Return `result` with all its instants moved by `delta_ns`; durations stay."""
    if not delta_ns:
        return result
    moved: dict[str, Timing | int] = {
        "received_at_ns": shift_ns(result.received_at_ns, delta_ns),
        "sent_at_ns": shift_ns(result.sent_at_ns, delta_ns),
    }
    if isinstance(result, InferDone):
        moved["copy_input"] = _shift_timing(result.copy_input, delta_ns)
        moved["exec"] = _shift_timing(result.exec, delta_ns)
        moved["copy_output"] = _shift_timing(result.copy_output, delta_ns)
    elif isinstance(result, LoadWeightsDone | EvictWeightsDone | LoadModelDone):
        moved["timing"] = _shift_timing(result.timing, delta_ns)
    return replace(result, **moved)


def _shift_timing(timing: Timing, delta_ns: int) -> Timing:
    return Timing(
        begin_ns=shift_ns(timing.begin_ns, delta_ns),
        end_ns=shift_ns(timing.end_ns, delta_ns),
        duration_ns=timing.duration_ns,
    )
