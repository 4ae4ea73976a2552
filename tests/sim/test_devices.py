"""Simulated devices: durations, noise and faults."""

from random import Random

import pytest

from clockwork.engines.emulated import DirectoryProfiles, EmulatedEngine
from clockwork.messages.ids import CodeId, GpuId, TaskId
from clockwork.messages.worker_io import (
    InferTask,
    InferTaskDone,
    LoadModelTask,
    LoadModelTaskDone,
    LoadWeightsTask,
    TaskDone,
    TaskFailed,
)
from clockwork.sim.clocks import Clock
from clockwork.sim.devices import LOAD_MODEL_NS, Devices, WorkerFaults
from clockwork.sim.loop import Loop
from clockwork.sim.profiles import PAGE_BYTES, made_up_path, read_model
from clockwork.sim.scenario import Hardware, Noise
from clockwork.sim.world import gpu_states
from clockwork.units import MS, SECOND

CODE = CodeId(0)
EXEC_NS = 4 * MS
QUIET = Noise()


class Bench:
    """Devices of one GPU with one model of 4 ms."""

    def __init__(self, noise: Noise = QUIET) -> None:
        self.loop = Loop(0)
        self.ended: list[tuple[int, TaskDone]] = []
        self.faults = WorkerFaults(1)
        self.devices = Devices(
            self.loop,
            EmulatedEngine(
                gpus=gpu_states(Hardware()),
                page_bytes=PAGE_BYTES,
                profiles=DirectoryProfiles(page_bytes=PAGE_BYTES, read=read_model),
            ),
            clock=Clock(start_ns=0),
            noise=noise,
            faults=self.faults,
            rng=Random(1),
            on_end=lambda done: self.ended.append((self.loop.now_ns, done)),
        )
        self.task_count = 0

    def load_model(self, path: str = made_up_path(pages=2, exec_us=4_000)) -> None:
        """Load a model into host memory, now."""
        self.devices.start(LoadModelTask(self.next_id(), CODE, path, 16, SECOND))
        self.run(LOAD_MODEL_NS)

    def infer(self, padded: int = 1) -> None:
        """Start a batch."""
        self.devices.start(
            InferTask(self.next_id(), GpuId(0), CODE, (0, 1), padded, padded, b"", ())
        )

    def load(self) -> None:
        """Start a load of weights."""
        self.devices.start(LoadWeightsTask(self.next_id(), GpuId(0), CODE, (0, 1)))

    def next_id(self) -> TaskId:
        """Return an unused task id."""
        self.task_count += 1
        return TaskId(self.task_count)

    def run(self, for_ns: int = SECOND) -> None:
        """Let time pass."""
        self.loop.run(self.loop.now_ns + for_ns)


@pytest.fixture
def bench() -> Bench:
    """Return devices that have loaded the model."""
    made = Bench()
    made.load_model()
    assert isinstance(made.ended.pop()[1], LoadModelTaskDone)
    return made


def test_tasks_take_as_long_as_measured(bench: Bench) -> None:
    """Batches by their padded size, loads by their pages."""
    begin_ns = bench.loop.now_ns
    bench.infer()
    bench.infer(padded=4)
    bench.load()
    bench.run()
    took = {type(done).__name__: when_ns - begin_ns for when_ns, done in bench.ended}
    assert [when_ns - begin_ns for when_ns, _ in bench.ended] == [2_400_000, EXEC_NS, 11_200_000]
    assert took["LoadWeightsTaskDone"] == 2_400_000


def test_a_stall_lengthens_what_runs_and_what_starts_meanwhile(bench: Bench) -> None:
    """Everything that the GPU does waits for the end of the stall."""
    begin_ns = bench.loop.now_ns
    bench.infer()
    bench.run(MS)
    bench.faults.gpus[0].stall(bench.loop.now_ns, 10 * MS)
    bench.run(MS)
    bench.load()
    bench.run()
    (load_ns, _), (infer_ns, infer) = bench.ended
    assert infer_ns - begin_ns == EXEC_NS + 10 * MS
    assert load_ns - begin_ns == 11 * MS + 2_400_000
    assert isinstance(infer, InferTaskDone)
    assert infer.exec.duration_ns == EXEC_NS + 10 * MS


def test_a_slow_gpu_takes_a_multiple(bench: Bench) -> None:
    """As long as the fault lasts."""
    bench.faults.gpus[0].slowness = 3.0
    begin_ns = bench.loop.now_ns
    bench.infer()
    bench.run()
    assert bench.ended[0][0] - begin_ns == 3 * EXEC_NS


def test_so_many_tasks_fail_as_the_fault_says(bench: Bench) -> None:
    """Executions and loads are counted apart."""
    bench.faults.gpus[0].executions_failing = 2
    bench.faults.gpus[0].loads_failing = 1
    for _ in range(3):
        bench.infer()
        bench.run()
    bench.load()
    bench.run()
    bench.load()
    bench.run()
    failed = [isinstance(done, TaskFailed) for _, done in bench.ended]
    assert failed == [True, True, False, True, False]


def test_noise_never_shortens(bench: Bench) -> None:
    """Durations exceed the measured ones by a seeded amount, and outliers by a factor."""
    noisy = Bench(Noise(spread=0.1, outlier_chance=0.2, outlier_factor=10.0))
    noisy.load_model()
    noisy.ended.clear()
    took: list[int] = []
    for _ in range(100):
        begin_ns = noisy.loop.now_ns
        noisy.infer()
        noisy.run()
        took.append(noisy.ended[-1][0] - begin_ns)
    assert min(took) >= EXEC_NS
    assert len(set(took)) == 100
    assert 5 < sum(each > 9 * EXEC_NS for each in took) < 40


def test_unknown_models_and_short_memory_fail_a_load_into_host_memory() -> None:
    """The message says which it was."""
    bench = Bench()
    bench.load_model("made-up/nothing")
    bench.faults.model_loads_failing = 1
    bench.load_model()
    bench.load_model()
    first, second, third = (done for _, done in bench.ended)
    assert isinstance(first, TaskFailed)
    assert "made-up/nothing" in first.message
    assert isinstance(second, TaskFailed)
    assert "host memory" in second.message
    assert isinstance(third, LoadModelTaskDone)


def test_nothing_ends_on_a_dead_worker(bench: Bench) -> None:
    """Tasks of a process that was killed go nowhere."""
    bench.infer()
    bench.devices.is_alive = False
    bench.run()
    assert bench.ended == []
