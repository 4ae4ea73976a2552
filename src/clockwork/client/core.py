"""The client role: loads its workload's models, sends its requests, and counts the answers.

::

    CONNECTING --> LOADING --> LISTING --> RUNNING --> DRAINING --> UNLOADING --> ENDED

`phase.py` tells what they are. A run ends by itself when all streams have ended and all is
answered, when its duration is over, or when a ladder passes its end. `StopAsked` ends RUNNING, and
anything else at once.

A connection that breaks while requests are sent or awaited is an outage (`outage.py`): the shell
dials again, the role asks who is there which models it has, sends what is kept, and goes on. The
run fails if that takes longer than `reconnect_ns`, or if its models are gone.

A closed loop puts a place back in use when its request succeeded, after a failure at its deadline:
it would spin on refusals (the original held hopeless requests that long).

Bounds: `SENDS_MAX` requests per call of `handle` (`wakeup_ns` is then in the past, and the shell
calls again), `IN_FLIGHT_MAX` requests without an answer, after which the run ends with an error.
"""

from collections.abc import Callable, Sequence
from typing import Final

from clockwork.client.ladder import Ladders
from clockwork.client.model_calls import ModelCalls, ModelRequest
from clockwork.client.model_table import ModelTable
from clockwork.client.outage import DEFAULT_SLO_NS, Outage, deadline_of
from clockwork.client.phase import DRAIN_NS, DRAIN_STOPPED_NS, MOVES, UNLOAD_NS, Phase
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
    DoneResponse,
    InferRequest,
    InferResponse,
    LoadModelResponse,
    LsResponse,
)
from clockwork.messages.status import Status
from clockwork.parts.pace import Pace
from clockwork.parts.throttle import Throttle
from clockwork.parts.timers import Timers
from clockwork.units import FOREVER_NS, SECOND, format_duration

INTERVAL_NS: Final = 10 * SECOND
"""Between lines on the console (the original's)."""
_SUCCESS: Final = Status.SUCCESS
"""Members of enums are looked up slowly, on the path of every request."""
SENDS_MAX: Final = 1_000
IN_FLIGHT_MAX: Final = 1_000_000


class ClientRole:
    """One client: `ClientEvent` in, `ClientEffect` out."""

    def __init__(
        self,
        workload: Workload,
        *,
        sends_inputs: bool = True,
        interval_ns: int = INTERVAL_NS,
        grain_ns: int = 0,
        reconnect_ns: int = 0,
        unloads: bool = False,
        throttles: bool = False,
    ) -> None:
        """Make a client for one run.

        Args:
            sends_inputs: False sends requests without input, as CLOCKWORK_DISABLE_INPUTS=1.
            interval_ns: between lines on the console.
            reconnect_ns: how long an outage may last; 0: a lost connection ends the run.
            unloads: whether the models of the run are unloaded at its end.
            throttles: whether a part of the requests is refused here while the controller says
                that it is overloaded (`parts.throttle`).
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
        self._reconnects = reconnect_ns > 0
        self._unloads = unloads
        self._throttle = Throttle() if throttles else None
        self._is_connected = False
        # How the run ends; set before models are unloaded.
        self._outcome = Finished(summary=None, error=None)
        say, fail, timers = self._say, self._fail, self._timers
        self._outage = Outage(reconnect_ns, timers, lose=self._lose, fail=fail, say=say)
        self._ladders = Ladders(
            self._streams, timers, say=say, end=lambda at_ns: self._stop(at_ns, DRAIN_NS)
        )
        self._calls = ModelCalls(
            workload, self._models, timers, next_id=self._next_id, ask=self._ask, fail=fail, say=say
        )

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
            # By `type`, which takes a third of the time of `isinstance`.
            if type(event) is ResponseArrived:
                self._on_response(event, now_ns)
            elif isinstance(event, ControllerConnected):
                self._on_connected(now_ns)
            elif isinstance(event, ControllerClosed):
                self._on_closed(event, now_ns)
            elif isinstance(event, StopAsked):
                self._on_stop(now_ns)
        self._advance(now_ns)
        if effects:
            self._pace.note(now_ns)
        self._plan_sending(now_ns)
        return effects

    def check(self) -> None:
        """Assert every invariant."""
        self._streams.check()
        tally, in_flight = self._tally, len(self._in_flight)
        assert tally.sent + tally.uncounted == tally.answered + tally.lost + in_flight, (
            f"{tally.sent} sent, {tally.answered} answered, {tally.lost} lost, {in_flight} open"
        )
        assert len(self._in_flight) <= IN_FLIGHT_MAX, f"{len(self._in_flight)} in flight"
        if self.phase is not Phase.RUNNING:
            assert self._streams.next_ns == FOREVER_NS, f"{self.phase} has arrivals"

    def _on_connected(self, now_ns: int) -> None:
        self._is_connected = True
        if self.phase is not Phase.CONNECTING:
            self._calls.list()
            return
        self._move(Phase.LOADING)
        self._printed_at_ns = now_ns
        self._say(self._tally.lines(1)[1])
        for note in self._workload.notes:
            self._say(note)
        self._calls.load_all()
        self._list_if_loaded()

    def _on_closed(self, event: ControllerClosed, now_ns: int) -> None:
        self._is_connected = False
        error = f"connection to the controller lost: {event.reason}"
        if self._reconnects and self.phase in (Phase.RUNNING, Phase.DRAINING):
            self._outage.begin(error, self._in_flight.values(), now_ns)
        else:
            self._fail(error, now_ns)

    def _on_stop(self, now_ns: int) -> None:
        if self.phase is Phase.RUNNING:
            self._stop(now_ns, DRAIN_STOPPED_NS)
        elif self.phase is Phase.UNLOADING:
            self._end(now_ns)
        else:
            self._finish(now_ns)

    def _on_response(self, event: ResponseArrived, now_ns: int) -> None:
        message = event.message
        if type(message) is InferResponse:
            self._on_infer(event, message, now_ns)
        elif isinstance(message, LoadModelResponse):
            self._calls.on_load(message, now_ns)
            self._list_if_loaded()
        elif isinstance(message, LsResponse):
            self._on_list(message, now_ns)
        elif isinstance(message, DoneResponse):
            self._calls.on_unloaded(message)

    def _on_infer(self, event: ResponseArrived, message: InferResponse, now_ns: int) -> None:
        send = self._in_flight.pop(message.user_request_id, None)
        if send is None:
            return  # Answered twice, or never asked: the controller's mistake.
        self._tally.add_answer(send, message, at_ns=event.at_ns, payload_bytes=event.payload_bytes)
        if self._throttle is not None:
            self._throttle.note(message, is_late=event.at_ns > deadline_of(send))
        ready_ns = now_ns if message.status == _SUCCESS else max(now_ns, deadline_of(send))
        self._streams.on_answer(send.stream, ready_ns)

    def _on_list(self, message: LsResponse, now_ns: int) -> None:
        if self.phase is Phase.LISTING:
            if self._calls.on_list(message, now_ns, is_again=False):
                self._run(now_ns)
        elif self._outage.is_on and self._calls.on_list(message, now_ns, is_again=True):
            self._effects += self._outage.end(now_ns)

    def _list_if_loaded(self) -> None:
        """Ask whether the controller serves, once all models are loaded."""
        if self.phase is Phase.LOADING and self._models.are_loaded:
            self._move(Phase.LISTING)
            self._calls.list()

    def _ask(self, request: ModelRequest) -> None:
        if self._is_connected:
            self._effects.append(SendRequest(request))

    def _lose(self, send: SendInfer, at_ns: int) -> None:
        """Take in that a request will not be answered."""
        del self._in_flight[send.request.user_request_id]
        self._tally.add_lost(send)
        self._streams.on_answer(send.stream, at_ns)

    def _run(self, now_ns: int) -> None:
        self._move(Phase.RUNNING)
        self._started_at_ns = self._printed_at_ns = now_ns
        delays_ns = sorted({stream.start_after_ns for stream in self._workload.streams} - {0})
        for delay_ns in delays_ns:
            self._say(f"Client start delayed by {format_duration(delay_ns)}")
        self._streams.start(now_ns)
        self._ladders.start(self._workload.ladders, now_ns)
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
        if self.phase is Phase.UNLOADING and (self._calls.is_unloaded or not self._is_connected):
            self._end(now_ns)

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
        if self._throttle is not None and self._throttle.refuses(when_ns):
            self._tally.add_throttled(model)
            self._streams.on_answer(index, when_ns + (slo_ns or DEFAULT_SLO_NS))
            return
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
        if self._outage.is_on:
            self._outage.keep(send)
        else:
            self._effects.append(send)

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
            self._ladders.stop()
            self._timers.set(at_ns + drain_ns, self._finish)

    def _fail(self, error: str, now_ns: int) -> None:
        self._finish(now_ns, error)

    def _finish(self, at_ns: int, error: str | None = None) -> None:
        """Sum up, and end, or have models unloaded before."""
        if self.phase in (Phase.UNLOADING, Phase.ENDED):
            return
        has_run = self.phase in (Phase.RUNNING, Phase.DRAINING)
        self._streams.stop()
        self._ladders.stop()
        summary = None
        if has_run:
            end_ns = at_ns if self._stopped_at_ns is None else self._stopped_at_ns
            summary = self._tally.summary(
                self._workload, self._models.ids, end_ns - self._started_at_ns
            )
        self._outcome = Finished(summary=summary, error=error)
        if not self._unloads or self.phase is Phase.CONNECTING:
            self._end(at_ns)
            return
        self._move(Phase.UNLOADING)
        self._calls.unload()
        self._timers.set(at_ns + UNLOAD_NS, self._end)

    def _end(self, at_ns: int) -> None:
        """Tell how the run ended, once."""
        if self.phase is Phase.ENDED:
            return
        if self.phase is Phase.UNLOADING:
            self._calls.sum_up()
        self._move(Phase.ENDED)
        self._effects.append(self._outcome)

    def _move(self, phase: Phase) -> None:
        assert phase in MOVES[self.phase], f"{self.phase} must not become {phase}"
        self.phase = phase

    def _say(self, text: str) -> None:
        self._effects.append(Say(text))

    def _next_id(self) -> int:
        self._next_request_id += 1
        return self._next_request_id - 1
