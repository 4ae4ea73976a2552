"""Judges of requests: one answer each, and records that say what really happened.

Watched at the controller's border with its clients, and in its telemetry.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from clockwork.messages.client_io import Finished
from clockwork.messages.controller_io import ClientLost, FromClient, ToClient
from clockwork.messages.ids import ClientId
from clockwork.messages.records import RequestRecord
from clockwork.messages.requests import InferResponse
from clockwork.messages.status import Status
from clockwork.sim.checkers import Handler, Subject, Violation
from clockwork.sim.host import AnyHost, Kind
from clockwork.sim.loop import START_NS
from clockwork.units import MS

ONE_ANSWER: Final = "exactly one answer per request"
TRUE_RECORD: Final = "deadline_met agrees with the true departure"
PROMISE: Final = "with perfect prediction no accepted request misses its deadline"

BUCKET_NS: Final = 100 * MS
"""Width of the buckets in which successes are counted."""


class Counts(Struct, frozen=True):
    """Requests of one tenant."""

    answered: int
    # Answered with success by their deadline.
    good: int

    @property
    def share(self) -> float:
        """Of the answered ones; 0 if there are none."""
        return self.good / self.answered if self.answered else 0.0


_Key = tuple[ClientId, int]


class OneAnswer:
    """Exactly one answer per request, and its latency is true."""

    def __init__(self) -> None:
        # When each open request arrived, by client and its number for it.
        self._open: dict[_Key, int] = {}
        # Clients whose loss the controller was told: nobody waits for their answers.
        self._gone: set[ClientId] = set()

    @property
    def open_count(self) -> int:
        """Requests without an answer."""
        return len(self._open)

    def handlers(self) -> Mapping[type, Handler]:
        """Watch requests and responses."""
        return {
            FromClient: self._on_request,
            ToClient: self._on_response,
            ClientLost: self._on_client_lost,
            Finished: self._on_finished,
        }

    def on_begin(self, host: AnyHost) -> None:
        """Nothing is open at a new controller."""

    def on_end(self, host: AnyHost) -> None:
        """A controller that is gone owes nothing: its clients know."""
        if host.kind is Kind.CONTROLLER:
            self._open.clear()

    def check_all_answered(self) -> None:
        """Raise if a request is open."""
        for client_id, user_request_id in self._open:
            subject = _subject(client_id, user_request_id)
            raise Violation(ONE_ANSWER, f"{len(self._open)} without any, first: {subject}", subject)

    def _on_request(self, host: AnyHost, event: FromClient, now_ns: int) -> None:
        key = (event.client_id, event.message.user_request_id)
        assert key not in self._open, f"client {key[0]} used number {key[1]} twice"
        self._open[key] = event.at_ns

    def _on_response(self, host: AnyHost, effect: ToClient, now_ns: int) -> None:
        if effect.client_id in self._gone:
            return
        message = effect.message
        at_ns = self._open.pop((effect.client_id, message.user_request_id), None)
        subject = _subject(effect.client_id, message.user_request_id)
        if at_ns is None:
            raise Violation(ONE_ANSWER, f"one too many: {message}", subject)
        if isinstance(message, InferResponse) and message.status is Status.SUCCESS:
            latency_ns = now_ns - at_ns
            if message.latency_ns != latency_ns:
                text = f"says {message.latency_ns} ns, took {latency_ns} ns"
                raise Violation(TRUE_RECORD, text, subject)

    def _on_finished(self, host: AnyHost, effect: Finished, now_ns: int) -> None:
        """A client that ends in order has waited long enough for all its answers."""
        summary = effect.summary
        if effect.error is None and summary is not None and summary.unanswered:
            raise Violation(ONE_ANSWER, f"{host!r} waits in vain for {summary.unanswered}")

    def _on_client_lost(self, host: AnyHost, event: ClientLost, now_ns: int) -> None:
        self._gone.add(event.client_id)
        for key in [key for key in self._open if key[0] == event.client_id]:
            del self._open[key]


class TrueRecords:
    """Request records: one per request, times and `deadline_met` as they really were."""

    def __init__(self, *, is_perfect: bool) -> None:
        """Begin.

        Args:
            is_perfect: durations are as predicted and nothing goes wrong, so that whatever
                succeeds has to succeed in time.
        """
        self._is_perfect = is_perfect
        # Ids seen from the current controller.
        self._seen: set[int] = set()
        # Requests answered, and those that succeeded in time, by bucket of time since the begin
        # and by tenant.
        self._answered: Counter[tuple[int, int]] = Counter()
        self._good: Counter[tuple[int, int]] = Counter()

    def counts_between(self, from_ns: int, to_ns: int) -> dict[int, Counts]:
        """Return by tenant what was answered, and what in time, in whole buckets of that time."""
        buckets = range(from_ns // BUCKET_NS, to_ns // BUCKET_NS)
        users = sorted({user_id for _, user_id in self._answered})
        return {
            user_id: Counts(
                answered=sum(self._answered[bucket, user_id] for bucket in buckets),
                good=sum(self._good[bucket, user_id] for bucket in buckets),
            )
            for user_id in users
        }

    def handlers(self) -> Mapping[type, Handler]:
        """Watch records."""
        return {RequestRecord: self._on_record}

    def on_begin(self, host: AnyHost) -> None:
        """A new controller counts anew."""
        if host.kind is Kind.CONTROLLER:
            self._seen.clear()

    def on_end(self, host: AnyHost) -> None:
        """Nothing is owed."""

    def _on_record(self, host: AnyHost, record: RequestRecord, now_ns: int) -> None:
        subject = Subject(request_id=record.request_id)
        if record.request_id in self._seen:
            raise Violation(ONE_ANSWER, f"two records of one request: {record}", subject)
        self._seen.add(record.request_id)
        has_succeeded = record.result is Status.SUCCESS
        departed_ns = record.t + record.latency
        if has_succeeded and departed_ns != now_ns:
            raise Violation(TRUE_RECORD, f"departed at {now_ns}, says {departed_ns}", subject)
        is_met = has_succeeded and record.latency <= record.deadline
        if bool(record.deadline_met) is not is_met:
            raise Violation(TRUE_RECORD, f"is {is_met}, says {record.deadline_met}", subject)
        bucket = ((now_ns - START_NS) // BUCKET_NS, record.user_id)
        self._answered[bucket] += 1
        self._good[bucket] += is_met
        if self._is_perfect and has_succeeded and not is_met:
            late_ms = (record.latency - record.deadline) / MS
            raise Violation(PROMISE, f"{late_ms:.3f} ms late: {record}", subject)


def _subject(client_id: ClientId, user_request_id: int) -> Subject:
    return Subject(user_request_id=user_request_id)
