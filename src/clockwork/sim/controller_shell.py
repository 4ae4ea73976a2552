"""The shell of simulated controllers: dials workers for ever, accepts clients, sends and hands on.

One process after the other: what replaces a killed controller is a fresh role that dials anew.

Not here: what is on the other ends (`worker_shell.py`, `client_shell.py`), who connects them
(`world.py`).
"""

from collections.abc import Callable

from clockwork.messages.controller_io import (
    ClientLost,
    ControllerEffect,
    ControllerEvent,
    Dismiss,
    FromClient,
    FromWorker,
    Say,
    ToClient,
    ToWorker,
    WorkerConnected,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.ids import ClientId, WorkerId
from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.messages.remembered import Remember
from clockwork.messages.role import WAKEUP
from clockwork.messages.worker_io import SendResult
from clockwork.sim.links import (
    FRAME_BYTES,
    Asked,
    ClientLink,
    ControllerHost,
    Leaving,
    WorkerLink,
    Zeros,
    frames_bytes,
    responses_bytes,
)
from clockwork.sim.loop import Loop
from clockwork.sim.network import Path


class ControllerShell:
    """One controller process after the other, and what they are connected to."""

    def __init__(
        self,
        loop: Loop,
        *,
        make_host: Callable[["ControllerShell"], ControllerHost],
        dial: Callable[[WorkerId], WorkerLink | None],
        redial_ns: int,
        paths: list[Path],
        take_record: Callable[[Record], None],
        remember: Callable[[Remember], None],
        say: Callable[[Say], None],
    ) -> None:
        """Prepare; `start` starts the first process.

        Args:
            make_host: makes a process whose effects go to `carry_out`.
            dial: opens a connection to a worker; None if the worker does not take it now.
            redial_ns: between two tries.
            paths: the way to each worker.
            take_record: takes telemetry records.
            remember: takes what the next controller will want to know.
            say: takes console lines.
        """
        self._loop = loop
        self._make_host = make_host
        self._dial = dial
        self._redial_ns = redial_ns
        self._paths = paths
        self._take_record = take_record
        self._remember = remember
        self._say = say
        # None while no process is alive.
        self.host: ControllerHost | None = None
        self.workers: list[WorkerLink | None] = [None] * len(paths)
        # Workers that have said hello: the role knows of them.
        self._greeted: set[WorkerId] = set()
        self.clients: dict[ClientId, ClientLink] = {}
        self._client_count = 0
        # Processes started so far.
        self.generation = 0

    def start(self) -> None:
        """Start a process, which dials all workers."""
        self.generation += 1
        self.host = host = self._make_host(self)
        host.deliver([WAKEUP])
        for index in range(len(self.workers)):
            self._try(WorkerId(index), host)

    def ensure(self) -> None:
        """Start a process unless one is alive."""
        if self.host is None:
            self.start()

    def kill(self, reason: str) -> None:
        """Kill the process; its peers learn it."""
        assert self.host is not None
        self.host.die()
        self.host = None
        for link in self.workers:
            if link is not None:
                link.die_at_a(reason)
        for client in self.clients.values():
            client.die_at_a(reason)
        self.workers = [None] * len(self._paths)
        self._greeted.clear()
        self.clients = {}

    def carry_out(self, effects: list[ControllerEffect]) -> None:
        """Send what the role wants sent: one parcel per peer; hand on records and lines."""
        to_workers: dict[WorkerId, list[ToWorker]] = {}
        to_clients: dict[ClientId, list[ToClient]] = {}
        take_record = self._take_record
        for effect in effects:
            # By `type`, which takes a third of the time of `isinstance`.
            if type(effect) is ToClient:
                to_clients.setdefault(effect.client_id, []).append(effect)
            elif type(effect) is RequestRecord or type(effect) is ActionRecord:
                take_record(effect)
            elif type(effect) is ToWorker:
                to_workers.setdefault(effect.worker_id, []).append(effect)
            elif isinstance(effect, Say):
                self._say(effect)
            elif isinstance(effect, Remember):
                self._remember(effect)
            elif isinstance(effect, Dismiss):
                self._dismiss(effect.worker_id)
        for worker_id, actions in to_workers.items():
            link = self.workers[worker_id]
            if link is not None:
                link.send_to_b(actions, frames_bytes(actions) if link.counts_bytes else 0)
        for client_id, responses in to_clients.items():
            client = self.clients.get(client_id)
            if client is not None:
                size_bytes = responses_bytes(responses) if client.counts_bytes else 0
                client.send_to_b(responses, size_bytes)

    def accept(self, connect: Callable[[ClientId], ClientLink]) -> ClientLink | None:
        """Take and return a client's connection, made by `connect`; None without a process."""
        if self.host is None:
            return None
        client_id = ClientId(self._client_count)
        self._client_count += 1
        link = self.clients[client_id] = connect(client_id)
        return link

    def on_worker_ready(self, worker_id: WorkerId, link: WorkerLink) -> None:
        """Tell the role that a worker is there."""
        if self.host is not None and self.workers[worker_id] is link:
            self._greeted.add(worker_id)
            self.host.deliver([WorkerConnected(worker_id)])

    def on_results(
        self, worker_id: WorkerId, results: list[SendResult | Leaving], zeros: Zeros
    ) -> None:
        """Hand results to the role, or the word that the worker leaves."""
        host = self.host
        if host is not None:
            at_ns = host.now_ns
            events: list[ControllerEvent] = []
            for item in results:
                if isinstance(item, SendResult):
                    payload = zeros.joined(item.payloads)
                    events.append(FromWorker(worker_id, item.message, payload, at_ns))
                else:
                    events.append(WorkerLeaving(worker_id, item.reason))
            host.deliver(events)

    def on_worker_lost(self, worker_id: WorkerId, reason: str) -> None:
        """Tell the role that a worker is gone, and dial it again."""
        self.workers[worker_id] = None
        host = self.host
        if host is not None:
            if worker_id in self._greeted:
                self._greeted.discard(worker_id)
                host.deliver([WorkerLost(worker_id, reason)])
            again_ns = self._loop.now_ns + self._redial_ns
            self._loop.at(again_ns, lambda each: self._try(worker_id, each), host)

    def _dismiss(self, worker_id: WorkerId) -> None:
        """Let a worker that is leaving go, and dial the one that comes after it."""
        link = self.workers[worker_id]
        if link is not None:
            reason = "it was leaving, and has finished"
            link.die_at_a(reason)
            self.on_worker_lost(worker_id, reason)

    def on_requests(self, client_id: ClientId, items: list[Asked]) -> None:
        """Hand requests to the role."""
        host = self.host
        if host is not None:
            at_ns = host.now_ns
            host.deliver(
                [FromClient(client_id, message, payload, at_ns) for message, payload in items]
            )

    def on_client_lost(self, client_id: ClientId, reason: str) -> None:
        """Tell the role that a client is gone."""
        if self.clients.pop(client_id, None) is not None and self.host is not None:
            self.host.deliver([ClientLost(client_id)])

    def _try(self, worker_id: WorkerId, host: ControllerHost) -> None:
        """Begin to connect: a hello takes its time on the way there."""
        if host.is_alive and self.workers[worker_id] is None:
            arrives_ns = self._loop.now_ns + self._paths[worker_id].travel_ns(FRAME_BYTES)
            self._loop.at(arrives_ns, lambda each: self._on_hello(worker_id, each), host)

    def _on_hello(self, worker_id: WorkerId, host: ControllerHost) -> None:
        """Connect if the worker takes the connection now; else try again later."""
        if not host.is_alive or self.workers[worker_id] is not None:
            return
        link = self._dial(worker_id)
        if link is None:
            again_ns = self._loop.now_ns + self._redial_ns
            self._loop.at(again_ns, lambda each: self._try(worker_id, each), host)
            return
        self.workers[worker_id] = link
