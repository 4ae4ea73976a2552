"""Figures of an interval, gathered record by record: what the console and the live table show.

Why: both want the same minimum, maximum, mean and rate, at different intervals. Gathering costs a
few comparisons per record (about 0.2 us) and no memory per record, so that it can run on the
controller's event loop; taking the figures costs one step per GPU.

Source: SPEC 6.3. A late success counts as a success, as in the original.

Not here: the client's figures, which its role keeps (`client/statistics.py`).
"""

from typing import Final

from msgspec import Struct

from clockwork.messages.actions import ActionType
from clockwork.messages.ids import GpuId, WorkerId
from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import SECOND

REFERENCE_CLOCK_MHZ: Final = 1380
"""The clock that durations are normalised to: the V100 of the paper."""

# Looked up once: a member of an enum costs as much as the comparison that it is for.
_INFER: Final = ActionType.INFER
_LOAD_WEIGHTS: Final = ActionType.LOAD_WEIGHTS
_ACTION_SUCCESS: Final = ActionStatus.SUCCESS
_SUCCESS: Final = Status.SUCCESS


class Spread(Struct, frozen=True):
    """Count, extremes and sum of durations. Extremes are 0 when there are none."""

    count: int
    min_ns: int
    max_ns: int
    sum_ns: int

    @property
    def mean_ns(self) -> float:
        """Sum by count; 0 when there are none."""
        return self.sum_ns / self.count if self.count else 0.0


class GpuFigures(Struct, frozen=True):
    """Successful actions of one type on one GPU within an interval; at least one."""

    worker_id: WorkerId
    gpu_id: GpuId
    # LOAD_WEIGHTS or INFER.
    action_type: ActionType
    # Measured durations on the device.
    duration: Spread
    # From sending the action to receiving its result.
    end_to_end: Spread
    # Extremes of the GPU's clock; 0 where it is unknown.
    clock_min_mhz: int
    clock_max_mhz: int
    # Durations times clock by `REFERENCE_CLOCK_MHZ`.
    norm_max_ns: float
    norm_sum_ns: float


class ControllerFigures(Struct, frozen=True):
    """What a controller did within an interval."""

    elapsed_ns: int
    # Responses of any status.
    responses: int
    # Latencies of the responses with status 0.
    successes: Spread
    # Requests that found no GPU with their model's weights.
    cold_starts: int
    # Ordered by worker, GPU and type of action.
    gpus: tuple[GpuFigures, ...]

    @property
    def violations(self) -> int:
        """Responses with a status other than 0."""
        return self.responses - self.successes.count

    def per_second(self, count: int) -> float:
        """Return `count` as a rate over the interval."""
        return count * SECOND / self.elapsed_ns if self.elapsed_ns > 0 else 0.0


class ControllerGatherer:
    """Gathers a controller's records into `ControllerFigures`."""

    __slots__ = ("_cold_starts", "_infers", "_loads", "_responses", "_since_ns", "_successes")

    def __init__(self, now_ns: int) -> None:
        """Begin the first interval at `now_ns`."""
        self._begin(now_ns)

    def add(self, record: Record) -> None:
        """Count one record; actions other than LoadWeights and Infer, and failed ones, do not."""
        if type(record) is RequestRecord:
            self._responses += 1
            self._cold_starts += record.is_coldstart
            if record.result is _SUCCESS:
                self._successes.add(record.latency)
        elif type(record) is ActionRecord and record.status is _ACTION_SUCCESS:
            self._add_action(record)

    def take(self, now_ns: int) -> ControllerFigures:
        """Return the figures since the last call and begin the next interval."""
        gathered = {_LOAD_WEIGHTS: self._loads, _INFER: self._infers}
        gpus = [
            _gpu_figures(gpu, WorkerId(worker), GpuId(index), kind)
            for kind, by_gpu in gathered.items()
            for (worker, index), gpu in by_gpu.items()
        ]
        gpus.sort(key=lambda gpu: (gpu.worker_id, gpu.gpu_id, gpu.action_type))
        figures = ControllerFigures(
            elapsed_ns=now_ns - self._since_ns,
            responses=self._responses,
            successes=self._successes.spread(),
            cold_starts=self._cold_starts,
            gpus=tuple(gpus),
        )
        self._begin(now_ns)
        return figures

    def _begin(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._responses = 0
        self._cold_starts = 0
        self._successes = _Durations()
        # By worker and GPU, one mapping per type: hashing an enum member costs 0.1 us.
        self._loads: dict[tuple[int, int], _Gpu] = {}
        self._infers: dict[tuple[int, int], _Gpu] = {}

    def _add_action(self, record: ActionRecord) -> None:
        if record.action_type is _INFER:
            by_gpu = self._infers
        elif record.action_type is _LOAD_WEIGHTS:
            by_gpu = self._loads
        else:
            return
        key = (record.worker_id, record.gpu_id)
        gpu = by_gpu.get(key)
        if gpu is None:
            gpu = by_gpu[key] = _Gpu()
        gpu.add(record)


class _Durations:
    """Count, extremes and sum so far."""

    __slots__ = ("count", "max_ns", "min_ns", "sum_ns")

    def __init__(self) -> None:
        self.count = 0
        self.min_ns = 0
        self.max_ns = 0
        self.sum_ns = 0

    def add(self, duration_ns: int) -> None:
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns
        if duration_ns < self.min_ns or not self.count:
            self.min_ns = duration_ns
        self.count += 1
        self.sum_ns += duration_ns

    def spread(self) -> Spread:
        return Spread(count=self.count, min_ns=self.min_ns, max_ns=self.max_ns, sum_ns=self.sum_ns)


class _Gpu:
    """Successful actions of one type on one GPU so far."""

    __slots__ = ("clock_max_mhz", "clock_min_mhz", "cycles", "duration", "end_to_end", "max_cycles")

    def __init__(self) -> None:
        self.duration = _Durations()
        self.end_to_end = _Durations()
        # The first action sets both.
        self.clock_min_mhz = -1
        self.clock_max_mhz = -1
        # Duration times clock, in ns x MHz: the largest, and the sum.
        self.max_cycles = 0
        self.cycles = 0

    def add(self, record: ActionRecord) -> None:
        duration_ns = record.worker_exec_duration
        self.duration.add(duration_ns)
        self.end_to_end.add(record.controller_result_enqueue)
        clock_mhz = record.worker_gpu_clock
        # A steady clock, or none at all, costs two comparisons.
        if clock_mhz > self.clock_max_mhz:
            self.clock_max_mhz = clock_mhz
        if clock_mhz < self.clock_min_mhz or self.clock_min_mhz < 0:
            self.clock_min_mhz = clock_mhz
        cycles = duration_ns * clock_mhz
        self.cycles += cycles
        if cycles > self.max_cycles:
            self.max_cycles = cycles


def _gpu_figures(
    gpu: _Gpu, worker_id: WorkerId, gpu_id: GpuId, action_type: ActionType
) -> GpuFigures:
    return GpuFigures(
        worker_id=worker_id,
        gpu_id=gpu_id,
        action_type=action_type,
        duration=gpu.duration.spread(),
        end_to_end=gpu.end_to_end.spread(),
        clock_min_mhz=gpu.clock_min_mhz,
        clock_max_mhz=gpu.clock_max_mhz,
        norm_max_ns=gpu.max_cycles / REFERENCE_CLOCK_MHZ,
        norm_sum_ns=gpu.cycles / REFERENCE_CLOCK_MHZ,
    )
