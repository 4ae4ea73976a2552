"""A small world around the client role: loads at once, answers after a fixed time.

Time is virtual. Every step checks the role's invariants, unless there are so many streams that this
would be all the work: then every hundredth does.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from clockwork.client.core import ClientRole
from clockwork.client.workload import ModelSet, Stream, Workload
from clockwork.messages.client_io import (
    ClientEffect,
    ClientEvent,
    ControllerClosed,
    ControllerConnected,
    Finished,
    ResponseArrived,
    SendInfer,
    SendRequest,
)
from clockwork.messages.controller_io import Say
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, ModelProfile, TensorSpec
from clockwork.messages.requests import (
    DoneResponse,
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    Response,
)
from clockwork.messages.role import WAKEUP
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND

EXEC_NS = 3 * MS
MANY_STREAMS = 50
START_NS = 1_700_000_000 * SECOND
"""Where the clock stands at the start: a real epoch, so that floats of instants would be wrong."""


def profile() -> ModelProfile:
    """Return a model with an input of 600 bytes that runs for 3 ms."""
    return ModelProfile(
        inputs=(TensorSpec("x", "float32", (150,), 4),),
        outputs=(TensorSpec("y", "float32", (10,), 4),),
        batch_sizes=(1, 2),
        exec_ns=(EXEC_NS, 4 * MS),
        load_ns=8 * MS,
        weights_bytes=100,
        weights_pages=1,
    )


def workload(*streams: Stream, models: int = 1, **changes: object) -> Workload:
    """Return a workload of some streams on copies of one model."""
    fields = {"name": "test", "models": (ModelSet("m", "/m", models),), "streams": streams}
    return Workload(**(fields | changes))  # type: ignore[arg-type]


class ClientWorld:
    """A client role, a controller that does what it is told to, and a clock."""

    def __init__(
        self,
        workload: Workload,
        *,
        latency_ns: int = MS,
        answer: Callable[[SendInfer], Status | None] = lambda send: Status.SUCCESS,
        refusal: str = "",
        **options: int | bool,
    ) -> None:
        """Make a world.

        Args:
            answer: status of the answer to a request; None: no answer.
            refusal: message of answers that are no success.
        """
        self._refusal = refusal
        self.role = ClientRole(workload, **options)  # type: ignore[arg-type]
        self.now_ns = START_NS
        self.sends: list[SendInfer] = []
        # Instants at which they were really sent.
        self.sent_at_ns: list[int] = []
        self.lines: list[str] = []
        self.finished: Finished | None = None
        self.most_in_flight = 0
        # What is loaded, how the next lists are answered, and whether models can be unloaded.
        self.models: list[ModelInfo] = []
        self.list_statuses: list[Status] = []
        self.unloads = True
        # When the first request was possible.
        self.begun_at_ns: int | None = None
        self._latency_ns = latency_ns
        self._answer = answer
        self._steps = 0
        self._check_every = 1 if len(workload.streams) <= MANY_STREAMS else 100
        self._next_model_id = 0
        self._sequence = 0
        self._due: list[tuple[int, int, Response]] = []

    def start(self) -> "ClientWorld":
        """Connect."""
        self.step([ControllerConnected()])
        return self

    def run(self, duration_ns: int) -> "ClientWorld":
        """Let time pass until the run ends, at most `duration_ns`."""
        end_ns = self.now_ns + duration_ns
        if self.now_ns == START_NS:
            self.start()
        while self.finished is None:
            due_ns = min(
                self._due[0][0] if self._due else end_ns + 1,
                end_ns + 1 if self.role.wakeup_ns is None else self.role.wakeup_ns,
            )
            if due_ns > end_ns:
                self.now_ns = end_ns
                break
            self.now_ns = max(self.now_ns, due_ns)
            self.step(self._responses() or [WAKEUP])
        return self

    def disconnect(self) -> None:
        """The connection breaks; what was on its way is lost."""
        self._due.clear()
        self.step([ControllerClosed("gone")])

    def step(self, events: list[ClientEvent]) -> list[ClientEffect]:
        """Hand events to the role and take its effects in."""
        effects = self.role.handle(events, self.now_ns)
        self._steps += 1
        if self._steps % self._check_every == 0 or self.role.wakeup_ns is None:
            self.role.check()
        for effect in effects:
            if isinstance(effect, SendInfer):
                self._take_infer(effect)
            elif isinstance(effect, SendRequest):
                self._take_request(effect)
            elif isinstance(effect, Say):
                self.lines.append(effect.text)
            else:
                assert self.finished is None, "a run ends once"
                self.finished = effect
        self.most_in_flight = max(self.most_in_flight, self.role.in_flight)
        return effects

    def arrivals_s(self, stream: int | None = None) -> list[float]:
        """Return the scheduled arrivals of one or all streams, in seconds from the start."""
        assert self.begun_at_ns is not None, "nothing could be sent yet"
        return [
            (send.arrival_ns - self.begun_at_ns) / SECOND
            for send in self.sends
            if stream is None or send.stream == stream
        ]

    def _responses(self) -> list[ClientEvent]:
        events: list[ClientEvent] = []
        while self._due and self._due[0][0] <= self.now_ns:
            when_ns, _, message = heappop(self._due)
            if isinstance(message, LsResponse):
                self.begun_at_ns = self.now_ns
            events.append(ResponseArrived(message, 40, when_ns))
        return events

    def _take_infer(self, send: SendInfer) -> None:
        self.sends.append(send)
        self.sent_at_ns.append(self.now_ns)
        status = self._answer(send)
        if status is not None:
            request, text = send.request, "" if status is Status.SUCCESS else self._refusal
            self._respond(
                InferResponse(request.user_request_id, status, text, request.model_id, 1, MS, False)
            )

    def _take_request(self, effect: SendRequest) -> None:
        message = effect.message
        if isinstance(message, LoadModelRequest):
            info = ModelInfo(ModelId(self._next_model_id), message.path, profile())
            self._next_model_id += message.copies
            self.models += [
                ModelInfo(ModelId(info.model_id + copy), info.source, info.profile)
                for copy in range(message.copies)
            ]
            self._respond(
                LoadModelResponse(message.user_request_id, Status.SUCCESS, "", message.copies, info)
            )
        elif isinstance(message, LsRequest):
            status = self.list_statuses.pop(0) if self.list_statuses else Status.SUCCESS
            models = tuple(self.models)
            self._respond(LsResponse(message.user_request_id, status, "why", models))
        elif self.unloads:
            model = next(each for each in self.models if each.model_id == message.model_id)
            self.models.remove(model)
            self._respond(DoneResponse(message.user_request_id, Status.SUCCESS, ""))

    def _respond(self, message: Response) -> None:
        self._sequence += 1
        heappush(self._due, (self.now_ns + self._latency_ns, self._sequence, message))
