"""Predicts when an executor of a GPU will be free, from what was sent to it and has come back.

Why a prediction and not a fact: the controller plans before results arrive. While the head is
overdue by less than the lag allowance the prediction does not move; beyond it the head is taken to
end exactly now minus the allowance, which bounds the backlog behind a stalled head.

Source: clockwork 4.7.1 (WorkerTracker), in nanoseconds instead of clock cycles.
"""

from clockwork.messages.ids import ActionId


class Timeline:
    """Actions outstanding on one executor, in the order in which they will run."""

    __slots__ = ("_begin_ns", "_lag_ns", "_total_ns", "outstanding")

    def __init__(self, lag_ns: int) -> None:
        self._lag_ns = lag_ns
        # (action, expected duration), in sending order; read it from outside only to see whether
        # it is empty. A list, because it is short: what a GPU does within the schedule-ahead.
        self.outstanding: list[tuple[ActionId, int]] = []
        # Sum of the expected durations.
        self._total_ns = 0
        # When the head began, as far as is known.
        self._begin_ns = 0

    def __len__(self) -> int:
        return len(self.outstanding)

    def available_ns(self, now_ns: int, reach_ns: int) -> int:
        """Return when a new action could start; never before it can arrive, `reach_ns` from now."""
        free_ns = now_ns + reach_ns
        if not self.outstanding:
            return free_ns
        # An overdue head ends `lag` ago at the latest. Comparisons instead of `max`: this runs
        # several times per action, and they take a third of the time.
        begin_ns = self._begin_ns
        stalled_ns = now_ns - self._lag_ns - self.outstanding[0][1]
        busy_ns = (begin_ns if begin_ns > stalled_ns else stalled_ns) + self._total_ns
        return busy_ns if busy_ns > free_ns else free_ns

    def add(self, action_id: ActionId, *, duration_ns: int, now_ns: int) -> None:
        """Append an action that was just sent."""
        if not self.outstanding:
            self._begin_ns = now_ns
        self.outstanding.append((action_id, duration_ns))
        self._total_ns += duration_ns

    def end(self, action_id: ActionId, *, at_ns: int) -> None:
        """Remove an action that ended at `at_ns`; its successor began then.

        An action that is not the head (results may overtake each other) leaves its share of time
        to those before it.
        """
        duration_ns = self._remove(action_id, at_ns)
        self._total_ns -= duration_ns
        assert self._total_ns >= 0, f"timeline total {self._total_ns} after {action_id}"

    def clear(self) -> None:
        """Forget everything that is outstanding: the worker is gone."""
        self.outstanding.clear()
        self._total_ns = 0

    def check(self) -> None:
        """Assert that the total is the sum of the parts."""
        total_ns = sum(duration_ns for _, duration_ns in self.outstanding)
        assert total_ns == self._total_ns, f"total {self._total_ns}, parts {total_ns}"

    def _remove(self, action_id: ActionId, at_ns: int) -> int:
        head_id, duration_ns = self.outstanding[0]
        if head_id == action_id:
            del self.outstanding[0]
            self._begin_ns = at_ns
            return duration_ns
        for position, (other_id, duration_ns) in enumerate(self.outstanding):
            if other_id == action_id:
                del self.outstanding[position]
                return duration_ns
        raise AssertionError(f"action {action_id} is not outstanding")
