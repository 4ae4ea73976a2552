"""Judges watch a run from outside and end it as soon as a rule is broken.

A judge sees what crosses the borders of roles (events in, effects out) and says so, with what the
rule is about, by raising `Violation`. `Court` is the tap that shows every record to the judges that
asked for its kind, keeps the recent past, and tells the story of whatever broke a rule.

Not here: the rules (`judge_answers.py`, `judge_actions.py`, `judge_memory.py`, `judge_rest.py`).
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from clockwork.sim.host import AnyHost
from clockwork.sim.loop import START_NS
from clockwork.units import MS

PAST_MAX: Final = 200_000
"""Records that are remembered for stories (chosen: some seconds of a swarm's run)."""
STORY_LINES_MAX: Final = 60
"""Lines of a story, the last ones (chosen: what one reads)."""
LINE_COLUMNS_MAX: Final = 300
"""Columns of a line of a story; LoadModel results carry whole profiles."""


class Subject:
    """What a broken rule is about: fields and values that records about it have."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def __repr__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.fields.items())

    def concerns(self, record: object) -> bool:
        """True if a record, or the message inside it, has one of the values in its field."""
        inner = getattr(record, "message", None) or getattr(record, "task", None)
        request = getattr(record, "request", None)
        return any(
            getattr(each, name, None) == value
            for each in (record, inner, request)
            if each is not None
            for name, value in self.fields.items()
        )


class Violation(AssertionError):  # noqa: N818 - a judge's word, and what the reader looks for
    """A rule was broken.

    Attributes:
        rule: the rule, as a sentence.
        subject: what it is about; None if about everything.
    """

    def __init__(self, rule: str, text: str, subject: Subject | None = None) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.subject = subject


Handler = Callable[[AnyHost, Any, int], None]
"""Takes a process, a record that went in or out, and the process's clock."""


class Judge(Protocol):
    """Knows some rules."""

    def handlers(self) -> Mapping[type, Handler]:
        """Return which records it wants to see, and what takes them."""

    def on_begin(self, host: AnyHost) -> None:
        """A process has been started."""

    def on_end(self, host: AnyHost) -> None:
        """A process is gone, and everything that it owed."""


class Court:
    """A tap that shows records to judges."""

    def __init__(self, judges: Sequence[Judge], *, checks_roles: bool = False) -> None:
        """Seat the judges.

        Args:
            checks_roles: calls `Role.check` after every step, which costs as much as the step
                on a small cluster, and a multiple of it on a large one.
        """
        self._judges = judges
        self._checks_roles = checks_roles
        self._handlers: dict[type, list[Handler]] = {}
        for judge in judges:
            for kind, handler in judge.handlers().items():
                self._handlers.setdefault(kind, []).append(handler)
        # (clock of the process, process, "in" or "out", record), oldest first.
        self._past: deque[tuple[int, str, str, object]] = deque(maxlen=PAST_MAX)

    def on_begin(self, host: AnyHost) -> None:
        """Tell the judges."""
        for judge in self._judges:
            judge.on_begin(host)

    def on_step(
        self, host: AnyHost, batch: Sequence[Any], effects: Sequence[Any], now_ns: int
    ) -> None:
        """Show a step to the judges."""
        name = host.name
        self._show(host, name, "in", batch, now_ns)
        self._show(host, name, "out", effects, now_ns)
        if self._checks_roles:
            host.role.check()

    def on_end(self, host: AnyHost) -> None:
        """Tell the judges."""
        for judge in self._judges:
            judge.on_end(host)

    def story(self, subject: Subject | None) -> list[str]:
        """Return the recent past, or what of it concerns `subject`, one line per record."""
        lines: deque[str] = deque(maxlen=STORY_LINES_MAX)
        for now_ns, name, way, record in self._past:
            if subject is None or subject.concerns(record):
                text = f"{(now_ns - START_NS) / MS:12.3f} ms {name:12} {way:3} {record}"
                lines.append(text[:LINE_COLUMNS_MAX])
        return list(lines)

    def _show(
        self, host: AnyHost, name: str, way: str, records: Sequence[Any], now_ns: int
    ) -> None:
        handlers, past = self._handlers, self._past
        for record in records:
            past.append((now_ns, name, way, record))
            for handler in handlers.get(type(record), ()):
                handler(host, record, now_ns)
