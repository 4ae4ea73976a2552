"""The client role: loads its workload's models, sends its requests, and counts the answers.

::

    CONNECTING --> LOADING --> LISTING --> RUNNING --> DRAINING --> ENDED
         \\____________\\___________\\___________\\___________________/

LOADING sends one LoadModel per model set and waits for all of them; LISTING asks for the list of
models until the controller has left its startup phases (both try again each second while it
answers "initializing"); RUNNING sends; DRAINING only waits for what is in flight, up to a limit.

A run ends by itself when all streams have ended and all is answered, when its duration is over, or
when a ladder passes its end. `StopAsked` ends RUNNING, and anything else at once.

A closed loop puts a place back in use when its request succeeded. After a failure it waits until
that request's deadline: the original's controller held hopeless requests until shortly before their
deadline, and where it answers at once a loop would spin on refusals.

Bounds: `SENDS_MAX` requests per call of `handle` (`wakeup_ns` is then in the past, and the shell
calls again), `IN_FLIGHT_MAX` requests without an answer, after which the run ends with an error.
"""

from collections.abc import Callable, Sequence
from typing import Final

from clockwork.client.ladder import Climber
from clockwork.client.model_table import ModelTable
from clockwork.client.phase import MOVES, Phase
from clockwork.client.statistics import Tally
from clockwork.client.streams import Streams
from clockwork.client.workload import Workload
from clockwork.messages.client_io import (
    ClientEffect,
    ClientEvent,
    ControllerClosed,
    ControllerConnected,
    Finished,
    ResponseArrived,
    SendInfer,
    SendRequest,
    StopAsked,
)
from clockwork.messages.controller_io import Say
from clockwork.messages.requests import (
    InferRequest,
    InferResponse,
    LoadModelResponse,
    LsRequest,
    LsResponse,
)
from clockwork.messages.role import Wakeup
from clockwork.messages.status import Status
from clockwork.parts.pace import Pace
from clockwork.parts.timers import Timers
from clockwork.units import FOREVER_NS, MS, SECOND, format_duration

INTERVAL_NS: Final = 10 * SECOND
"""Between lines on the console (the original's)."""
RETRY_NS: Final = 1 * SECOND
"""Between tries while the controller is initializing (the original's)."""
DRAIN_NS: Final = 30 * SECOND
"""How long to wait for answers after the last request (chosen: well above any usual SLO)."""
DRAIN_STOPPED_NS: Final = 1 * SECOND
"""The same when a user is waiting for the end."""
DEFAULT_SLO_NS: Final = 100 * MS
"""The documented default of controllers: what a closed loop waits after a failure."""
SENDS_MAX: Final = 10_000
IN_FLIGHT_MAX: Final = 1_000_000
TUNES_MAX: Final = 128
TUNE_GAP_NS: Final = 4 * MS
"""A ladder turns so many streams at once, the next ones so much later: 12 us each, measured."""


class ClientRole:
    """One client: `ClientEvent` in, `ClientEffect` out."""

    def __init__(
        self,
        workload: Workload,
        *,
        sends_inputs: bool = True,
        interval_ns: int = INTERVAL_NS,
        grain_ns: int = 0,
    ) -> None:
        """Make a client for one run.

        Args:
            sends_inputs: False sends requests without input, as CLOCKWORK_DISABLE_INPUTS=1.
            interval_ns: between lines on the console.
            grain_ns: least time between two wake-ups for sending, on average (`parts.pace`). Live
                shells pay for each one; what is sent later for it shows in the latencies.
        """
        self._pace = Pace(grain_ns)
        # When the role wants to be woken for sending.
        self._send_at_ns = FOREVER_NS
        self._workload = workload
        self._interval_ns = interval_ns
        self.phase = Phase.CONNECTING
        self._effects: list[ClientEffect] = []
        # What is to be done at an instant; called with that instant.
        self._timers: Timers[Callable[[int], None]] = Timers()
        self._streams = Streams(workload)
        self._models = ModelTable(workload, sends_inputs=sends_inputs)
        self._tally = Tally(workload.model_count)
        self._next_request_id = 0
        self._in_flight: dict[int, SendInfer] = {}
        self._started_at_ns = 0
        # When it was told to stop sending; None if it ends by itself.
        self._stopped_at_ns: int | None = None
        self._printed_at_ns = 0
        self._error: str | None = None

    @property
    def wakeup_ns(self) -> int | None:
        """The earliest instant at which the role wants a `Wakeup`; None for never."""
        if self.phase is Phase.ENDED:
            return None
        timer_ns = self._timers.next_ns
        next_ns = min(self._send_at_ns, FOREVER_NS if timer_ns is None else timer_ns)
        return None if next_ns == FOREVER_NS else next_ns

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return len(self._in_flight)

    def handle(self, batch: Sequence[ClientEvent], now_ns: int) -> list[ClientEffect]:
        """Take in events, then do all that is due by `now_ns` in the order of its time."""
        effects: list[ClientEffect] = []
        self._effects = effects
        for event in batch:
            match event:
                case ResponseArrived():
                    self._on_response(event, now_ns)
                case ControllerConnected():
                    self._on_connected(now_ns)
                case ControllerClosed():
                    self._on_closed(event, now_ns)
                case StopAsked():
                    self._on_stop(now_ns)
                case Wakeup():
                    pass
        self._advance(now_ns)
        if effects:
            self._pace.note(now_ns)
        self._plan_sending(now_ns)
        return effects

    def check(self) -> None:
        """Assert every invariant."""
        self._streams.check()
        tally = self._tally
        assert tally.sent + tally.uncounted == tally.answered + len(self._in_flight), (
            f"{tally.sent} sent, {tally.answered} answered, {len(self._in_flight)} in flight"
        )
        assert len(self._in_flight) <= IN_FLIGHT_MAX, f"{len(self._in_flight)} in flight"
        is_sending = self.phase is Phase.RUNNING
        assert is_sending or self._streams.next_ns == FOREVER_NS, f"{self.phase} has arrivals"

    # Events

    def _on_connected(self, now_ns: int) -> None:
        self._move(Phase.LOADING)
        self._printed_at_ns = now_ns
        self._say(self._tally.lines(1)[1])
        for note in self._workload.notes:
            self._say(note)
        for index in range(len(self._workload.models)):
            self._load(index)
        if self._models.are_loaded:
            self._list(now_ns)

    def _on_closed(self, event: ControllerClosed, now_ns: int) -> None:
        self._fail(f"connection to the controller lost: {event.reason}", now_ns)

    def _on_stop(self, now_ns: int) -> None:
        if self.phase is Phase.RUNNING:
            self._stop(now_ns, DRAIN_STOPPED_NS)
        elif self.phase is not Phase.ENDED:
            self._finish(now_ns)

    def _on_response(self, event: ResponseArrived, now_ns: int) -> None:
        message = event.message
        if isinstance(message, InferResponse):
            self._on_infer(event, message, now_ns)
        elif isinstance(message, LoadModelResponse):
            self._on_load(message, now_ns)
        elif isinstance(message, LsResponse) and self.phase is Phase.LISTING:
            self._on_list(message, now_ns)

    def _on_infer(self, event: ResponseArrived, message: InferResponse, now_ns: int) -> None:
        send = self._in_flight.pop(message.user_request_id, None)
        if send is None:
            return  # Answered twice, or never asked: the controller's mistake.
        self._tally.add_answer(send, message, at_ns=event.at_ns, payload_bytes=event.payload_bytes)
        ready_ns = now_ns
        if message.status != Status.SUCCESS:
            deadline_ns = send.deadline_ns or send.arrival_ns + DEFAULT_SLO_NS
            ready_ns = max(now_ns, deadline_ns)
        self._streams.on_answer(send.stream, ready_ns)

    def _on_load(self, message: LoadModelResponse, now_ns: int) -> None:
        index = self._models.take_set(message)
        if index is None or self.phase is not Phase.LOADING:
            return
        if message.status == Status.INITIALIZING:
            self._say(f"Clockwork initializing, retrying {message.message}")
            self._timers.set(now_ns + RETRY_NS, lambda _: self._load(index))
            return
        if message.status != Status.SUCCESS or message.model is None:
            failed = self._workload.models[index]
            self._fail(f"cannot load {failed.name} from {failed.path}: {message.message}", now_ns)
            return
        self._models.adopt(index, message.model)
        if self._models.are_loaded:
            self._list(now_ns)

    def _on_list(self, message: LsResponse, now_ns: int) -> None:
        if message.status == Status.INITIALIZING:
            self._say(f"Clockwork initializing, retrying {message.message}")
            self._timers.set(now_ns + RETRY_NS, self._ask_list)
        elif message.status != Status.SUCCESS:
            self._fail(f"LS error: {message.message}", now_ns)
        else:
            self._run(now_ns)

    # Loading

    def _load(self, set_index: int) -> None:
        request = self._models.load(set_index, self._take_request_id())
        self._effects.append(SendRequest(request))

    def _list(self, now_ns: int) -> None:
        self._move(Phase.LISTING)
        self._ask_list(now_ns)

    def _ask_list(self, now_ns: int) -> None:
        request_id = self._take_request_id()
        self._effects.append(SendRequest(LsRequest(user_request_id=request_id, user_id=0)))

    # Running

    def _run(self, now_ns: int) -> None:
        self._move(Phase.RUNNING)
        self._started_at_ns = self._printed_at_ns = now_ns
        delays_ns = sorted({stream.start_after_ns for stream in self._workload.streams} - {0})
        for delay_ns in delays_ns:
            self._say(f"Client start delayed by {format_duration(delay_ns)}")
        self._streams.start(now_ns)
        for ladder in self._workload.ladders:
            self._wait_on(Climber(ladder), now_ns)
        begin_ns, duration_ns = now_ns + self._workload.warm_up_ns, self._workload.duration_ns
        if begin_ns > now_ns:
            self._timers.set(begin_ns, self._count_anew)
        if duration_ns is not None:
            self._timers.set(begin_ns + duration_ns, lambda at_ns: self._stop(at_ns, DRAIN_NS))
        self._timers.set(now_ns + self._interval_ns, self._print)

    def _advance(self, now_ns: int) -> None:
        """Send what is due and do what timers say, in the order of time."""
        while self.phase is not Phase.ENDED:
            timer_ns = self._timers.next_ns
            until_ns = now_ns if timer_ns is None else min(timer_ns, now_ns)
            if not self._send_until(until_ns, now_ns):
                return
            action = self._timers.pop_due(now_ns)
            if action is None:
                break
            assert timer_ns is not None, "a timer that is due has an instant"
            action(timer_ns)
        if self.phase is Phase.RUNNING and self._streams.have_ended:
            self._stop(now_ns, DRAIN_NS)
            # A run that ends by itself lasts until its last answer.
            self._stopped_at_ns = None
        if self.phase is Phase.DRAINING and not self._in_flight:
            self._finish(now_ns)

    def _send_until(self, until_ns: int, now_ns: int) -> bool:
        """Send all requests due by `until_ns`; return False if there are too many for one go."""
        room = SENDS_MAX - len(self._effects)
        if room <= 0:
            return False
        for when_ns, index in self._streams.due(until_ns):
            self._send(index, when_ns)
            room -= 1
            if not room:
                return False
            if len(self._in_flight) == IN_FLIGHT_MAX:
                self._fail(f"{IN_FLIGHT_MAX:,} requests without an answer", now_ns)
                return False
        return True

    def _plan_sending(self, now_ns: int) -> None:
        """Set when to be woken for sending; an instant that still serves is kept.

        Setting a live timer anew for every batch of responses cost a tenth of the client's time.
        """
        next_ns = self._streams.next_ns
        if not now_ns < self._send_at_ns or not next_ns <= self._send_at_ns < FOREVER_NS:
            self._send_at_ns = max(next_ns, self._pace.next_ns)

    def _send(self, index: int, when_ns: int) -> None:
        stream, models = self._streams.running[index], self._models
        model = stream.choose()
        slo_ns = models.slo_of(model, stream.slo_ns, stream.slo_factor)
        request_id = self._next_request_id
        self._next_request_id = request_id + 1
        # Positional: half the time of keywords, on the path of every request.
        send = SendInfer(
            InferRequest(
                request_id, stream.user_id, models.ids[model], stream.slo_ns, stream.slo_factor
            ),
            models.input_bytes[model],
            when_ns,
            model,
            None if slo_ns is None else when_ns + slo_ns,
            index,
        )
        self._in_flight[request_id] = send
        self._tally.add_sent(send)
        self._effects.append(send)

    def _wait_on(self, climber: Climber, from_ns: int) -> None:
        """Have a ladder take its next step one period after `from_ns`."""
        self._timers.set(
            from_ns + climber.ladder.period_ns, lambda at_ns: self._climb(climber, at_ns)
        )

    def _climb(self, climber: Climber, at_ns: int) -> None:
        if self.phase is not Phase.RUNNING:
            return
        rung = climber.climb()
        for line in rung.lines:
            self._say(line)
        if rung.applies:
            self._tune(climber, 0, at_ns)
        if rung.ends:
            self._stop(at_ns, DRAIN_NS)
        else:
            self._wait_on(climber, at_ns)

    def _tune(self, climber: Climber, first: int, at_ns: int) -> None:
        """Give the ladder's value to its streams from place `first` on, bit by bit."""
        ladder, last = climber.ladder, first + TUNES_MAX
        self._streams.tune(ladder.streams[first:last], ladder.knob, climber.value, at_ns)
        if last < len(ladder.streams):
            self._timers.set(at_ns + TUNE_GAP_NS, lambda ns: self._tune(climber, last, ns))

    def _print(self, at_ns: int) -> None:
        """Say the lines of the console, and again after another interval."""
        for line in self._tally.lines(at_ns - self._printed_at_ns):
            self._say(line)
        self._printed_at_ns = at_ns
        self._timers.set(at_ns + self._interval_ns, self._print)

    def _count_anew(self, at_ns: int) -> None:
        """Count from now on: the warm-up is over."""
        self._say("Warm-up over, counting")
        models, uncounted = self._workload.model_count, len(self._in_flight)
        self._tally = Tally(models, from_ns=at_ns + 1, uncounted=uncounted)
        self._started_at_ns = self._printed_at_ns = at_ns

    # The end

    def _stop(self, at_ns: int, drain_ns: int) -> None:
        """Stop sending, and wait up to `drain_ns` for what is in flight."""
        if self.phase is Phase.RUNNING:
            self._move(Phase.DRAINING)
            self._stopped_at_ns = at_ns
            self._streams.stop()
            self._timers.set(at_ns + drain_ns, self._finish)

    def _fail(self, error: str, now_ns: int) -> None:
        self._error = error
        self._finish(now_ns)

    def _finish(self, at_ns: int) -> None:
        if self.phase is Phase.ENDED:
            return
        has_run = self.phase in (Phase.RUNNING, Phase.DRAINING)
        self._move(Phase.ENDED)
        self._streams.stop()
        summary = None
        if has_run:
            end_ns = at_ns if self._stopped_at_ns is None else self._stopped_at_ns
            summary = self._tally.summary(
                self._workload, self._models.ids, end_ns - self._started_at_ns
            )
        self._effects.append(Finished(summary=summary, error=self._error))

    def _move(self, phase: Phase) -> None:
        assert phase in MOVES[self.phase], f"{self.phase} must not become {phase}"
        self.phase = phase

    def _say(self, text: str) -> None:
        self._effects.append(Say(text))

    def _take_request_id(self) -> int:
        self._next_request_id += 1
        return self._next_request_id - 1
