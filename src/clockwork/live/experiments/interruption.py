"""Ctrl-C as a fact that can be asked for, instead of an exception that may strike anywhere.

Why: an experiment is processes, loops that come and go, polars and drawings. Python's own
`KeyboardInterrupt` may come in the middle of any of them, and asyncio puts its default back
whenever a loop ends; what was measured until then would be lost. So one handler stays from the
first run to the last file.

The first signal asks for an end, and whoever listens is told. A second one while nobody listens
means it: `KeyboardInterrupt`.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the user wants an end; a context manager for the main thread.

    Within the context both signals are its own. `asyncio.Runner` leaves a handler of others alone.
    """

    def __init__(self) -> None:
        """Listen to nothing yet."""
        self._signals = 0
        self._listener: Callable[[], object] | None = None
        self._before: list[tuple[signal.Signals, signal._HANDLER]] = []

    def __enter__(self) -> "Interruption":
        """Take both signals."""
        self._before = [(number, signal.signal(number, self._on_signal)) for number in SIGNALS]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give both signals back."""
        for number, handler in self._before:
            # None: a library had put its own there, which Python cannot give back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def is_wanted(self) -> bool:
        """Whether there was a signal."""
        return self._signals > 0

    @contextmanager
    def told_to(self, listener: Callable[[], object]) -> Iterator[None]:
        """Within the context, have `listener` called for each signal, at once for an earlier one.

        It is called between any two steps of the main thread, like all handlers of signals.
        """
        self._listener = listener
        try:
            if self.is_wanted:
                listener()
            yield
        finally:
            self._listener = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._listener is not None:
            self._listener()
        elif self._signals > 1:
            raise KeyboardInterrupt
