"""Everything that defines a simulated run, as records: hardware, workloads, faults, seed.

Equal scenarios give equal runs, event by event. A scenario can be written to a file and read back
(msgspec: JSON or TOML), which is how a failing run travels.

Units: instants of faults count from the begin of the run. Worker, GPU and client numbers are
0-based; numbers beyond what there is wrap around, so that any fault suits any cluster.
"""

from msgspec import Struct

from clockwork.client.workload import Workload
from clockwork.controller.config import ControllerConfig
from clockwork.units import MIB, MS, SECOND, US


class Hardware(Struct, frozen=True):
    """The workers' machines; all alike."""

    workers: int = 1
    gpus_per_worker: int = 1
    # Pages of each GPU's weights cache; the default is the original's.
    cache_pages: int = 1376
    page_bytes: int = 16 * MIB


class Network(Struct, frozen=True):
    """Ways between processes; all alike. Defaults resemble one rack."""

    delay_ns: int = 50 * US
    # Up to so much more per parcel, drawn uniformly.
    jitter_ns: int = 0
    # Per direction of a connection; None: unlimited.
    bytes_per_s: int | None = None
    # A partition that lasts longer breaks the connection (TCP keep-alive of the live worker).
    dead_after_ns: int = 10 * SECOND
    # Between two tries to connect.
    redial_ns: int = 100 * MS


class Turn(Struct, frozen=True):
    """How quickly a process gets round to what has arrived."""

    # From the first event to the batch that holds it.
    latency_ns: int = 0
    # Computing time per event; the process does nothing else meanwhile.
    event_ns: int = 0


class Noise(Struct, frozen=True):
    """How far durations are from the measured ones; never shorter."""

    # Standard deviation of the (one-sided, normal) relative excess.
    spread: float = 0.0
    # A task takes `outlier_factor` times as long with this probability.
    outlier_chance: float = 0.0
    outlier_factor: float = 1.0

    @property
    def is_none(self) -> bool:
        """True if predictions are perfect."""
        return not self.spread and not self.outlier_chance


class ClockError(Struct, frozen=True):
    """How wrong a worker's clock is at the begin."""

    offset_ns: int = 0
    drift_ppm: int = 0


class KillWorker(Struct, frozen=True, tag=True):
    """A worker process dies; after `down_ns` an empty one takes its place."""

    at_ns: int
    worker: int
    down_ns: int


class CutConnection(Struct, frozen=True, tag=True):
    """A worker's connection is reset; what is on its way is lost."""

    at_ns: int
    worker: int


class Partition(Struct, frozen=True, tag=True):
    """Nothing gets through between the controller and a worker for a while."""

    at_ns: int
    worker: int
    for_ns: int


class DelayMessages(Struct, frozen=True, tag=True):
    """Everything takes `extra_ns` longer between the controller and a worker for a while."""

    at_ns: int
    worker: int
    for_ns: int
    extra_ns: int


class StallGpu(Struct, frozen=True, tag=True):
    """A device stands still for a while."""

    at_ns: int
    worker: int
    gpu: int
    for_ns: int


class SlowGpu(Struct, frozen=True, tag=True):
    """A device takes `factor` times as long for a while."""

    at_ns: int
    worker: int
    gpu: int
    for_ns: int
    factor: float


class FailExecutions(Struct, frozen=True, tag=True):
    """The next executions on a device fail."""

    at_ns: int
    worker: int
    gpu: int
    count: int


class FailLoads(Struct, frozen=True, tag=True):
    """The next loads of weights on a device fail."""

    at_ns: int
    worker: int
    gpu: int
    count: int


class ShortMemory(Struct, frozen=True, tag=True):
    """A worker's host memory is too short for the next models."""

    at_ns: int
    worker: int
    count: int


class DriftClock(Struct, frozen=True, tag=True):
    """A worker's clock begins to run at another speed."""

    at_ns: int
    worker: int
    drift_ppm: int


class RestartController(Struct, frozen=True, tag=True):
    """The controller dies; after `down_ns` a new one takes its place.

    It knows what the old one had it told to remember, if the scenario `keeps_state`, else nothing.
    """

    at_ns: int
    down_ns: int


class LeaveWorker(Struct, frozen=True, tag=True):
    """A worker is asked to end: it finishes what it has; an empty one comes after `down_ns`."""

    at_ns: int
    worker: int
    down_ns: int


class PauseController(Struct, frozen=True, tag=True):
    """The controller does nothing for a while (a page fault, a pause of the collector)."""

    at_ns: int
    for_ns: int


class DropClient(Struct, frozen=True, tag=True):
    """A client dies with requests in flight; after `down_ns` it is started again."""

    at_ns: int
    client: int
    down_ns: int


class Burst(Struct, frozen=True, tag=True):
    """One more client comes, does its workload, and goes."""

    at_ns: int
    workload: Workload


class AddModel(Struct, frozen=True, tag=True):
    """Somebody loads one more model."""

    at_ns: int
    path: str
    copies: int


class RemoveModel(Struct, frozen=True, tag=True):
    """Somebody unloads a model that was added; nothing happens if there is none."""

    at_ns: int


class EvictModel(Struct, frozen=True, tag=True):
    """Somebody evicts the weights of a model from everywhere."""

    at_ns: int
    # Id of the model, whether there is one or not.
    model: int


Fault = (
    KillWorker
    | CutConnection
    | Partition
    | DelayMessages
    | StallGpu
    | SlowGpu
    | FailExecutions
    | FailLoads
    | ShortMemory
    | DriftClock
    | RestartController
    | LeaveWorker
    | PauseController
    | DropClient
    | Burst
    | AddModel
    | RemoveModel
    | EvictModel
)


class Scenario(Struct, frozen=True, kw_only=True):
    """A run, from the start of all processes to the last answer."""

    name: str
    # Everything random follows from it; workloads have seeds of their own besides.
    seed: int = 0
    hardware: Hardware = Hardware()
    network: Network = Network()
    # Of the controller and of clients; workers act as of the instant, like emulated devices.
    controller_turn: Turn = Turn()
    client_turn: Turn = Turn()
    noise: Noise = Noise()
    # One per worker; empty: all perfect.
    clocks: tuple[ClockError, ...] = ()
    controller: ControllerConfig = ControllerConfig()
    # One per client.
    workloads: tuple[Workload, ...] = ()
    # Whether controllers have something remembered for those that take their place.
    keeps_state: bool = False
    # Whether a client that was killed, or lost its controller, is begun anew.
    restarts_clients: bool = True
    # Whether requests carry inputs, and responses outputs.
    sends_inputs: bool = False
    # In any order.
    faults: tuple[Fault, ...] = ()
    # When everything that lasts is mended; None: when it ends by itself.
    heal_at_ns: int | None = None
    # When every client has been told to stop, if it has not stopped by itself.
    duration_ns: int = 20 * SECOND

    @property
    def are_clocks_perfect(self) -> bool:
        """True if no clock is ever wrong: borders then have nothing to translate."""
        drifts = any(isinstance(fault, DriftClock) for fault in self.faults)
        return not drifts and all(clock == ClockError() for clock in self.clocks)
