"""A whole simulated cluster: unchanged roles in processes, connected, with virtual time under them.

`World` makes everything that a scenario names and lets time pass in slices. What it gives away are
telemetry records and console lines; what it can be asked is who is alive. Taps (judges, digest,
journal) see every batch and every effect of every role.

Not here: what goes wrong (`faults.py`), what must not go wrong (`checkers.py` and its judges).
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from msgspec.structs import replace

from clockwork.client.core import ClientRole
from clockwork.client.workload import Workload
from clockwork.controller.core import ControllerRole
from clockwork.engines.emulated import EmulatedEngine, ProfileSource
from clockwork.messages.client_io import StopAsked
from clockwork.messages.controller_io import Say
from clockwork.messages.ids import ClientId, GpuId, ModelId, WorkerId
from clockwork.messages.models import GpuState
from clockwork.messages.records import Record
from clockwork.messages.remembered import Remembered
from clockwork.messages.requests import UnloadModelRequest
from clockwork.sim.client_shell import ClientShell, Operator
from clockwork.sim.clocks import Clock
from clockwork.sim.controller_shell import ControllerShell
from clockwork.sim.devices import Devices, WorkerFaults
from clockwork.sim.host import Host, Kind, Tap
from clockwork.sim.links import (
    ClientHost,
    ClientLink,
    ControllerHost,
    ControllerLike,
    WorkerHost,
    WorkerLike,
    WorkerLink,
    Zeros,
)
from clockwork.sim.loop import START_NS, Loop
from clockwork.sim.network import Connection, Path
from clockwork.sim.recollection import Recollection
from clockwork.sim.scenario import ClockError, Hardware, Scenario, Turn
from clockwork.sim.worker_shell import WorkerShell
from clockwork.units import MIB, MS
from clockwork.worker.core import WorkerRole

SLICE_NS: Final = 100 * MS
"""How much virtual time passes between two looks from outside (chosen)."""
CLIENT_RESTART_NS: Final = 200 * MS
"""From the loss of the controller to a client's next try (chosen)."""
IO_POOL_BYTES: Final = 512 * MIB
"""The original's; emulated devices never use it."""

MakeController = Callable[[Scenario, Remembered | None], ControllerLike]
"""Makes a controller role, which is told what the one before it left if anything is kept."""
MakeWorker = Callable[[Scenario], WorkerLike]
TakeRecords = Callable[[list[Record]], None]
TakeLine = Callable[[Say], None]


def make_controller(scenario: Scenario, remembered: Remembered | None) -> ControllerRole:
    """Return the real controller role."""
    count = scenario.hardware.workers
    return ControllerRole(scenario.controller, count, remembered=remembered)


def make_worker(scenario: Scenario) -> WorkerRole:
    """Return the real worker role."""
    return WorkerRole(
        page_bytes=scenario.hardware.page_bytes,
        gpus=gpu_states(scenario.hardware),
        may_lack_inputs=True,
    )


def gpu_states(hardware: Hardware) -> list[GpuState]:
    """Return one worker's GPUs, cold."""
    cache_bytes = hardware.cache_pages * hardware.page_bytes
    return [
        GpuState(GpuId(index), cache_bytes, hardware.cache_pages, IO_POOL_BYTES, IO_POOL_BYTES, ())
        for index in range(hardware.gpus_per_worker)
    ]


class World:
    """One run of a scenario; see the module."""

    def __init__(
        self,
        scenario: Scenario,
        profiles: ProfileSource,
        *,
        taps: Sequence[Tap] = (),
        take_records: TakeRecords | None = None,
        take_line: TakeLine | None = None,
        make_controller: MakeController = make_controller,
        make_worker: MakeWorker = make_worker,
    ) -> None:
        """Start all processes; nothing happens before `run`.

        Args:
            profiles: what paths of models stand for.
            taps: see every step of every process.
            take_records: takes telemetry, once per slice; the list is the receiver's.
            take_line: takes the controller's console lines.
        """
        self.scenario = scenario
        self.loop = Loop()
        self.taps = taps
        self._profiles = profiles
        self._make_controller = make_controller
        self._make_worker = make_worker
        self._take_records = take_records
        self._take_line = take_line
        self._records: list[Record] = []
        self._recollection = Recollection()
        self._zeros = Zeros()
        self._has_stamps = not scenario.are_clocks_perfect
        count = scenario.hardware.workers
        self.clocks = [self._clock_of(index) for index in range(count)]
        self._true_clock = Clock(start_ns=START_NS)
        # By worker: the way to it, and what is wrong with its hardware.
        self.paths = [self._path(f"worker:{index}") for index in range(count)]
        self.faults = [WorkerFaults(scenario.hardware.gpus_per_worker) for _ in range(count)]
        self.workers = [self._worker(WorkerId(index)) for index in range(count)]
        self.controller = ControllerShell(
            self.loop,
            make_host=self._controller_host,
            dial=self._dial,
            redial_ns=scenario.network.redial_ns,
            paths=self.paths,
            take_record=self._records.append,
            remember=self._recollection.add,
            say=self._say,
        )
        self.controller.start()
        # Clients share one way: faults are between the controller and its workers.
        self._way_of_clients = self._path("clients")
        self.clients: list[ClientShell] = []
        for workload in scenario.workloads:
            self._add_client(workload).is_last = not scenario.restarts_clients
        self.operator = Operator(self._connect)

    @property
    def elapsed_ns(self) -> int:
        """Virtual time since the begin."""
        return self.loop.now_ns - START_NS

    @property
    def have_clients_ended(self) -> bool:
        """True if no client will ever send again, and all have their answers."""
        return all(client.has_ended for client in self.clients)

    def run(self, for_ns: int) -> None:
        """Let virtual time pass in slices, and give away what each has brought."""
        until_ns = self.loop.now_ns + for_ns
        while self.loop.now_ns < until_ns:
            self.loop.run(min(self.loop.now_ns + SLICE_NS, until_ns))
            self.flush()

    def flush(self) -> None:
        """Give away the records of the time since the last call."""
        if self._records and self._take_records is not None:
            self._take_records(self._records.copy())
        self._records.clear()

    def stop_clients(self) -> None:
        """Tell every client to stop sending; those that are down stay down."""
        for client in self.clients:
            client.is_last = True
            if client.host is None:
                client.has_ended = True
            else:
                client.host.deliver([StopAsked()])

    def visit(self, workload: Workload) -> None:
        """Start one more client, which does not come back if it fails."""
        self._add_client(workload).is_last = True

    # Making processes.

    def _clock_of(self, index: int) -> Clock:
        clocks = self.scenario.clocks
        error = clocks[index % len(clocks)] if clocks else ClockError()
        return Clock(start_ns=START_NS, offset_ns=error.offset_ns, drift_ppm=error.drift_ppm)

    def _path(self, name: str) -> Path:
        network = self.scenario.network
        return Path(
            delay_ns=network.delay_ns,
            jitter_ns=network.jitter_ns,
            bytes_per_s=network.bytes_per_s,
            rng=Random(f"{self.scenario.seed}:path:{name}"),
        )

    def _controller_host(self, shell: ControllerShell) -> ControllerHost:
        remembered = self._recollection.remembered() if self.scenario.keeps_state else None
        return Host(
            self.loop,
            self._make_controller(self.scenario, remembered),
            kind=Kind.CONTROLLER,
            index=0,
            clock=self._true_clock,
            turn=self.scenario.controller_turn,
            taps=self.taps,
            carry_out=shell.carry_out,
        )

    def _worker(self, worker_id: WorkerId) -> WorkerShell:
        rng = Random(f"{self.scenario.seed}:devices:{worker_id}")
        return WorkerShell(lambda shell: self._worker_process(shell, worker_id, rng), self._zeros)

    def _worker_process(
        self, shell: WorkerShell, worker_id: WorkerId, rng: Random
    ) -> tuple[WorkerHost, Devices]:
        scenario, clock = self.scenario, self.clocks[worker_id]
        host: WorkerHost = Host(
            self.loop,
            self._make_worker(scenario),
            kind=Kind.WORKER,
            index=worker_id,
            clock=clock,
            turn=Turn(),
            taps=self.taps,
            carry_out=shell.carry_out,
        )
        engine = EmulatedEngine(
            gpus=gpu_states(scenario.hardware),
            page_bytes=scenario.hardware.page_bytes,
            profiles=self._profiles,
        )
        devices = Devices(
            self.loop,
            engine,
            clock=clock,
            noise=scenario.noise,
            faults=self.faults[worker_id],
            rng=rng,
            on_end=shell.on_task_done,
        )
        return host, devices

    def _add_client(self, workload: Workload) -> ClientShell:
        index = len(self.clients)
        client = ClientShell(
            self.loop,
            make_host=lambda shell: self._client_host(shell, workload, index),
            connect=self._connect,
            unload=self._unload,
            generation=lambda: self.controller.generation,
            restart_ns=CLIENT_RESTART_NS,
            zeros=self._zeros,
        )
        self.clients.append(client)
        self.loop.at(self.loop.now_ns, client.start, None)
        return client

    def _client_host(self, shell: ClientShell, workload: Workload, index: int) -> ClientHost | None:
        left_ns = self.scenario.duration_ns - self.elapsed_ns
        if left_ns <= 0:
            return None
        if workload.duration_ns is None or workload.duration_ns > left_ns:
            workload = replace(workload, duration_ns=left_ns)
        role = ClientRole(workload, sends_inputs=self.scenario.sends_inputs)
        return Host(
            self.loop,
            role,
            kind=Kind.CLIENT,
            index=index,
            clock=self._true_clock,
            turn=self.scenario.client_turn,
            taps=self.taps,
            carry_out=shell.carry_out,
        )

    # Connecting them.

    def _dial(self, worker_id: WorkerId) -> WorkerLink | None:
        """Connect the controller to a worker that is there and has no other controller."""
        worker, path = self.workers[worker_id], self.paths[worker_id]
        is_taken = worker.link is not None or worker.is_leaving
        if path.is_cut or worker.host is None or is_taken:
            return None
        controller = self.controller
        link: WorkerLink = Connection(
            self.loop,
            path,
            clock_a=self._true_clock,
            clock_b=self.clocks[worker_id],
            has_stamps=self._has_stamps,
            deliver_to_a=lambda results: (
                controller.on_results(worker_id, results, self._zeros)
                if results
                else controller.on_worker_ready(worker_id, link)
            ),
            deliver_to_b=worker.on_actions,
            a_lost=lambda reason: controller.on_worker_lost(worker_id, reason),
            b_lost=lambda _: worker.on_controller_lost(link),
        )
        worker.link = link
        # The two hellos.
        link.send_to_a([])
        link.send_to_b([])
        return link

    def _unload(self, generation: int, model_id: ModelId) -> None:
        """Have a model unloaded, as a person would, if the controller is still the same."""
        if self.controller.generation == generation:
            operator = self.operator
            operator.ask(UnloadModelRequest(operator.next_id(), 0, model_id), lambda _: None)

    def _connect(self, client: ClientShell | Operator) -> ClientLink | None:
        """Connect a client to the controller, if there is one."""
        return self.controller.accept(lambda client_id: self._client_link(client_id, client))

    def _client_link(self, client_id: ClientId, client: ClientShell | Operator) -> ClientLink:
        controller = self.controller
        return Connection(
            self.loop,
            self._way_of_clients,
            clock_a=self._true_clock,
            clock_b=self._true_clock,
            has_stamps=False,
            deliver_to_a=lambda items: controller.on_requests(client_id, items),
            deliver_to_b=client.on_responses,
            a_lost=lambda reason: controller.on_client_lost(client_id, reason),
            b_lost=client.on_lost,
        )

    def _say(self, effect: Say) -> None:
        if self._take_line is not None:
            self._take_line(effect)
