"""Writes a controller's state file on a thread of its own, so that the event loop never waits.

Everything that came while the last transaction ran goes into the next one. A disk that is full or
broken does not stop the controller: it is told once, and tried again; meanwhile models that come
and go are kept in memory, measurements are dropped (new ones follow).
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

from msgspec.structs import replace

from clockwork.live.seats import Seat
from clockwork.live.state_file import Change, Left, State, open_state
from clockwork.messages.ids import WorkerId
from clockwork.messages.remembered import Remember

RETRY_S: Final = 5.0
"""Pause before a write that failed is tried again (chosen)."""


class StateKeeper:
    """A state file and the thread that writes it; all methods belong to the owner's thread.

    Attributes:
        remembered: what the last controller left.
        seats: of workers that had joined it.
    """

    def __init__(self, path: Path, names: Sequence[str], say: Callable[[str], None]) -> None:
        """Open and read the file, and begin to write.

        Args:
            path: of the file, which need not exist.
            names: of the workers in the controller's own list.
            say: takes console lines, from any thread.

        Raises:
            ConfigurationError: the file cannot be used.
        """
        self._state: State = open_state(path)
        try:
            self.remembered, self.seats = self._state.read(names)
        except BaseException:
            self._state.close()
            raise
        self._say = say
        # None ends the thread.
        self._queue: SimpleQueue[Change | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="clockwork-state", daemon=True)
        self._thread.start()

    def add(self, new: Remember) -> None:
        """Have models and measurements written soon."""
        self._queue.put(new)

    def add_seat(self, seat: Seat) -> None:
        """Have it written that a worker has joined."""
        self._queue.put(seat)

    def remove_seat(self, worker_id: WorkerId) -> None:
        """Have it written that a worker that had joined is not expected back."""
        self._queue.put(Left(worker_id))

    def close(self) -> None:
        """Write the rest, and close the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
            self._state.close()

    def _run(self) -> None:
        waiting: list[Change] = []
        told = ""
        is_ending = False
        while not is_ending:
            news = self._next(RETRY_S if waiting else None)
            is_ending = None in news
            waiting += [change for change in news if change is not None]
            try:
                self._state.write(waiting)
            except sqlite3.Error as error:
                waiting = [each for each in map(_without_measurements, waiting) if each is not None]
                if str(error) != told:
                    told = str(error)
                    self._say(f"Cannot write {self._state.path}: {error}; trying again")
            else:
                waiting, told = [], ""

    def _next(self, timeout_s: float | None) -> list[Change | None]:
        """Return what has come, waiting for the first one up to `timeout_s`."""
        news: list[Change | None] = []
        try:
            news.append(self._queue.get(timeout=timeout_s))
            while True:
                news.append(self._queue.get_nowait())
        except Empty:
            return news


def _without_measurements(change: Change) -> Change | None:
    if not isinstance(change, Remember):
        return change
    if not change.models and not change.removed:
        return None
    return replace(change, measured=(), loads=())
