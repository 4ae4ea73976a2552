"""Simulated devices of one worker: what carries out tasks in virtual time.

Durations are those of `engines.emulated`, which the emulated worker uses live as well; here noise
and faults come on top. Each task ends in one call of `on_end`, exactly at its end.

Faults per GPU: a stall adds its length to what runs and to what starts meanwhile; a slow GPU takes
a multiple; the next so many executions or loads fail. Per worker: the next so many loads into host
memory fail.

Source: SPEC 5.9.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from clockwork.engines.emulated import EmulatedEngine
from clockwork.engines.engine import EngineError
from clockwork.messages.actions import Timing
from clockwork.messages.ids import CodeId
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    InferTask,
    LoadModelTask,
    LoadModelTaskDone,
    LoadWeightsTask,
    Task,
    TaskDone,
    TaskFailed,
)
from clockwork.sim.clocks import Clock
from clockwork.sim.loop import Loop
from clockwork.sim.scenario import Noise
from clockwork.units import MS

LOAD_MODEL_NS: Final = 5 * MS
"""Reading a model directory into host memory; chosen: a small model from a warm disk."""
FAILED_AFTER_NS: Final = MS // 10
"""How long a task runs before an injected failure shows (chosen)."""

OnEnd = Callable[[TaskDone], None]
_Run = tuple[LoadWeightsTask | InferTask, int, int]
"""A running task, its begin in the worker's clock, and the stall that it has sat out."""


class GpuFaults:
    """What is wrong with one GPU now."""

    __slots__ = ("executions_failing", "loads_failing", "slowness", "stall_total_ns", "stalled_to")

    def __init__(self) -> None:
        # Durations are multiplied by it.
        self.slowness = 1.0
        # The next so many infers and loads of weights fail.
        self.executions_failing = 0
        self.loads_failing = 0
        # True instant at which the last stall ends, and the sum of all stalls.
        self.stalled_to = 0
        self.stall_total_ns = 0

    def stall(self, now_ns: int, for_ns: int) -> None:
        """Stand still from now on; stalls add up."""
        self.stalled_to = max(self.stalled_to, now_ns) + for_ns
        self.stall_total_ns += for_ns


class WorkerFaults:
    """What is wrong with one worker now; processes that replace each other share it."""

    __slots__ = ("gpus", "model_loads_failing")

    def __init__(self, gpu_count: int) -> None:
        self.gpus = [GpuFaults() for _ in range(gpu_count)]
        # The next so many loads into host memory fail.
        self.model_loads_failing = 0


class Devices:
    """Runs the tasks of one worker process; a process that is started again gets new ones."""

    def __init__(
        self,
        loop: Loop,
        engine: EmulatedEngine,
        *,
        clock: Clock,
        noise: Noise,
        faults: WorkerFaults,
        rng: Random,
        on_end: OnEnd,
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._clock = clock
        self._noise = noise
        self._faults = faults
        self._rng = rng
        self._on_end = on_end
        # False: the process was killed, and nothing ends any more.
        self.is_alive = True
        self.release: Callable[[CodeId], None] = engine.release

    def start(self, task: Task) -> None:
        """Run a task from now on."""
        loop = self._loop
        if isinstance(task, LoadModelTask):
            loop.at(loop.now_ns + LOAD_MODEL_NS, self._end_load_model, (task, self._now_ns()))
            return
        faults = self._faults.gpus[task.gpu_id]
        if self._fails(task, faults):
            loop.at(loop.now_ns + FAILED_AFTER_NS, self._fail, task)
            return
        waits_ns = max(faults.stalled_to - loop.now_ns, 0)
        end_ns = loop.now_ns + waits_ns + self._duration_ns(task, faults)
        loop.at(end_ns, self._end, (task, self._now_ns(), faults.stall_total_ns))

    def _duration_ns(self, task: LoadWeightsTask | InferTask, faults: GpuFaults) -> int:
        duration_ns = self._engine.duration_ns(task)
        noise = self._noise
        if noise.is_none and faults.slowness == 1.0:
            return duration_ns
        factor = faults.slowness
        if noise.spread:
            factor *= 1.0 + abs(self._rng.gauss(0.0, noise.spread))
        if noise.outlier_chance and self._rng.random() < noise.outlier_chance:
            factor *= noise.outlier_factor
        return round(duration_ns * factor)

    def _fails(self, task: LoadWeightsTask | InferTask, faults: GpuFaults) -> bool:
        if isinstance(task, InferTask):
            fails = faults.executions_failing > 0
            faults.executions_failing -= fails
        else:
            fails = faults.loads_failing > 0
            faults.loads_failing -= fails
        return fails

    def _end(self, run: _Run) -> None:
        """End a load of weights or an infer, unless its GPU has stalled meanwhile."""
        task, begin_ns, stall_ns = run
        if not self.is_alive:
            return
        total_ns = self._faults.gpus[task.gpu_id].stall_total_ns
        now_ns = self._loop.now_ns
        if total_ns != stall_ns:
            self._loop.at(now_ns + total_ns - stall_ns, self._end, (task, begin_ns, total_ns))
            return
        self._on_end(self._engine.done(task, begin_ns=begin_ns, end_ns=self._now_ns()))

    def _fail(self, task: LoadWeightsTask | InferTask) -> None:
        if self.is_alive:
            kind = "execution" if isinstance(task, InferTask) else "load"
            text = f"injected failure of {kind} on GPU {task.gpu_id}"
            self._on_end(TaskFailed(task.task_id, ActionStatus.RUNTIME_ERROR, text))

    def _end_load_model(self, run: tuple[LoadModelTask, int]) -> None:
        task, begin_ns = run
        if not self.is_alive:
            return
        if self._faults.model_loads_failing:
            self._faults.model_loads_failing -= 1
            text = f"host memory is too short for {task.path}"
            self._on_end(TaskFailed(task.task_id, ActionStatus.RUNTIME_ERROR, text))
            return
        try:
            profile = self._engine.load_model(task)
        except EngineError as error:
            self._on_end(TaskFailed(task.task_id, error.status, str(error)))
            return
        end_ns = self._now_ns()
        timing = Timing(begin_ns, end_ns, end_ns - begin_ns)
        self._on_end(LoadModelTaskDone(task.task_id, timing, profile))

    def _now_ns(self) -> int:
        """Return what the worker's clock shows: a later change of its drift changes no past."""
        return self._clock.local_of(self._loop.now_ns)
