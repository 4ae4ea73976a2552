"""The shells of simulated clients: those that play a workload, and one who asks single questions.

A client whose process was killed, or whose controller is gone, is begun anew with a fresh role. It
loads its models anew, too; those of the old one are unloaded if the controller is still the same (a
new one may have given their ids to others), so that a run's models stay about the same.
"""

from collections.abc import Callable
from typing import Any

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
from clockwork.messages.controller_io import ToClient
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import LoadModelResponse, Request
from clockwork.sim.links import FRAME_BYTES, Asked, ClientHost, ClientLink, Zeros
from clockwork.sim.loop import Loop


class ClientShell:
    """A client role and its connection; a new one when the old one is gone."""

    def __init__(
        self,
        loop: Loop,
        *,
        make_host: Callable[["ClientShell"], ClientHost | None],
        connect: Callable[["ClientShell"], ClientLink | None],
        unload: Callable[[int, ModelId], None],
        generation: Callable[[], int],
        restart_ns: int,
        zeros: Zeros,
    ) -> None:
        """Prepare; `start` starts the first process.

        Args:
            make_host: makes a process, or None if its time is over.
            connect: opens a connection to the controller; None if there is no controller.
            unload: has a model unloaded that nobody will ask for any more, if the controller is
                still of the generation in which it was loaded.
            generation: says which controller it is, counted from the first.
            restart_ns: from the loss of the controller to the next try.
            zeros: inputs.
        """
        self._loop = loop
        self._make_host = make_host
        self._connect = connect
        self._unload = unload
        self._generation = generation
        self._restart_ns = restart_ns
        self._zeros = zeros
        self.host: ClientHost | None = None
        self.link: ClientLink | None = None
        # Models that processes before this one had loaded, and those of this one, with the
        # generation of the controller.
        self._old: list[tuple[int, ModelId]] = []
        self._loaded: list[tuple[int, ModelId]] = []
        # How the last process ended; None while it runs.
        self.finished: Finished | None = None
        # No other process is started when this one is gone.
        self.is_last = False
        # True once no process is there, and none will be started.
        self.has_ended = False

    def start(self, _: object = None) -> None:
        """Start a process if there is none, and connect it."""
        if self.host is not None or self.has_ended:
            return
        link = self._connect(self)
        if link is None:
            self._begin_anew(self._restart_ns)
            return
        self.host = self._make_host(self)
        if self.host is None:
            link.die_at_b("the run is over")
            self.has_ended = True
            return
        self.link = link
        self.finished = None
        self.host.deliver([ControllerConnected()])

    def kill(self, down_ns: int) -> None:
        """Kill the process; another one takes its place after `down_ns`."""
        if self.host is None:
            return
        self._end("the client was killed")
        self._begin_anew(down_ns)

    def carry_out(self, effects: list[ClientEffect]) -> None:
        """Send requests in one parcel; a role that has finished ends its process."""
        items: list[Asked] = []
        size_bytes = 0
        end: Finished | None = None
        for effect in effects:
            if type(effect) is SendInfer:
                input_bytes = effect.input_bytes
                items.append((effect.request, self._zeros.of(input_bytes) if input_bytes else b""))
                size_bytes += input_bytes + FRAME_BYTES
            elif isinstance(effect, SendRequest):
                items.append((effect.message, b""))
                size_bytes += FRAME_BYTES
            elif isinstance(effect, Finished):
                end = effect
        if items and self.link is not None:
            self.link.send_to_a(items, size_bytes)
        if end is not None:
            self._on_finished(end)

    def on_responses(self, responses: list[ToClient]) -> None:
        """Hand responses to the role."""
        host = self.host
        if host is not None:
            at_ns = host.now_ns
            events: list[ClientEvent] = []
            for item in responses:
                message = item.message
                if type(message) is LoadModelResponse:
                    self._note_models(message)
                events.append(ResponseArrived(message, len(item.payload), at_ns))
            host.deliver(events)

    def on_lost(self, reason: str) -> None:
        """Tell the role that its controller is gone."""
        self.link = None
        if self.host is not None:
            self.host.deliver([ControllerClosed(reason)])

    def _on_finished(self, end: Finished) -> None:
        """Close the connection; a run that failed is begun anew."""
        self.finished = end
        self._end("the client has finished")
        if end.error is None:
            self.has_ended = True
        else:
            self._begin_anew(self._restart_ns)

    def _note_models(self, response: LoadModelResponse) -> None:
        """Note which models are this process's; have those of its predecessors unloaded."""
        if response.model is not None:
            first, generation = response.model.model_id, self._generation()
            copies = range(response.copies)
            self._loaded += [(generation, ModelId(first + copy)) for copy in copies]
            for old in self._old:
                self._unload(*old)
            self._old.clear()

    def _begin_anew(self, after_ns: int) -> None:
        if self.is_last:
            self.has_ended = True
        else:
            self._loop.at(self._loop.now_ns + after_ns, self.start, None)

    def _end(self, reason: str) -> None:
        assert self.host is not None
        self.host.die()
        self.host = None
        self._old += self._loaded
        self._loaded.clear()
        if self.link is not None:
            self.link.die_at_b(reason)
            self.link = None


class Operator:
    """Somebody who sends single requests and notes the answers."""

    def __init__(self, connect: Callable[["Operator"], ClientLink | None]) -> None:
        self._connect = connect
        self._link: ClientLink | None = None
        self._request_count = 0
        # Requests without an answer, by their number.
        self.open: dict[int, Request] = {}
        # What to do with the answer to each.
        self._on_answer: dict[int, Callable[[Any], None]] = {}

    def next_id(self) -> int:
        """Return an unused request number."""
        self._request_count += 1
        return self._request_count

    def ask(self, request: Request, on_answer: Callable[[Any], None]) -> None:
        """Send a request; it is forgotten if there is no controller, or it is lost."""
        if self._link is None:
            self._link = self._connect(self)
        if self._link is None:
            return
        self.open[request.user_request_id] = request
        self._on_answer[request.user_request_id] = on_answer
        self._link.send_to_a([(request, b"")], FRAME_BYTES)

    def on_responses(self, responses: list[ToClient]) -> None:
        """Note answers."""
        for item in responses:
            message = item.message
            del self.open[message.user_request_id]
            self._on_answer.pop(message.user_request_id)(message)

    def on_lost(self, reason: str) -> None:
        """Forget what the controller that is gone owed."""
        self._link = None
        self.open.clear()
        self._on_answer.clear()
