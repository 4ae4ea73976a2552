"""Measures how well the emulated devices keep their promises, and how many actions they carry.

Each GPU is kept busy by a queue of infers, in this process and without a network, so that a row
shows what the worker alone adds. `late` is the instant at which a result leaves the devices minus
the instant at which its execution was promised to end; `drift` is the idle time between the tasks
of a busy GPU, as a share of their execution; `busy` is the CPU's share of the run.

Run: ``python benchmarks/emulated_device.py [--seconds S] [--json FILE]``.
"""

import argparse
import asyncio
import gc
import json
import resource
from pathlib import Path

import uvloop
from msgspec import Struct, to_builtins

from clockwork.engines.emulated import EmulatedEngine
from clockwork.live.clock import now_ns
from clockwork.live.devices import EmulatedDevices
from clockwork.messages.actions import Infer, InferDone, LoadModel, LoadWeights
from clockwork.messages.ids import ActionId, GpuId, ModelId
from clockwork.messages.models import GpuState, ModelProfile, TensorSpec
from clockwork.messages.worker_io import ActionArrived, SendResult, WorkerSay
from clockwork.units import FOREVER_NS, MIB, MS, SECOND, US
from clockwork.worker.core import WorkerRole

MODEL = ModelId(0)
QUEUED_PER_GPU = 3
WINDOW_NS = 100 * MS


class Row(Struct):
    """One measured configuration."""

    gpus: int
    exec_us: int
    infers_per_s: int
    late_p50_us: float
    late_p99_us: float
    late_max_us: float
    drift: float
    busy: float


class Load:
    """Keeps every GPU's queue filled and notes when results come."""

    def __init__(self, gpu_count: int, exec_ns: int) -> None:
        self.late_ns: list[int] = []
        self.exec_sum_ns = 0
        self.idle_sum_ns = 0
        self._exec_end_ns: dict[GpuId, int] = {}
        self._action_count = 0
        self._gpu_ids = [GpuId(index) for index in range(gpu_count)]
        gpus = [
            GpuState(gpu_id, 64 * 16 * MIB, 64, 512 * MIB, 512 * MIB, ())
            for gpu_id in self._gpu_ids
        ]
        tensor = TensorSpec(name="x", dtype="float32", shape=(1000,), item_bytes=4)
        profile = ModelProfile(
            inputs=(tensor,),
            outputs=(tensor,),
            batch_sizes=(1,),
            exec_ns=(exec_ns,),
            load_ns=0,
            weights_bytes=16 * MIB,
            weights_pages=1,
        )
        role = WorkerRole(page_bytes=16 * MIB, gpus=gpus, may_lack_inputs=True)
        engine = EmulatedEngine(gpus=gpus, page_bytes=16 * MIB, profiles=lambda task: profile)
        self._end = asyncio.get_running_loop().create_future()
        self.devices = EmulatedDevices(role, engine, self._on_result, self._end.set_exception)

    def warm_up(self) -> None:
        """Load the model everywhere."""
        load = LoadModel(self._next_id(), MODEL, "made up", 0, FOREVER_NS, 1, 16, SECOND)
        self._deliver(load)
        for gpu_id in self._gpu_ids:
            self._deliver(LoadWeights(self._next_id(), MODEL, gpu_id, 0, FOREVER_NS, 0))

    def begin(self) -> None:
        """Fill the queues; every result brings the next infer."""
        for gpu_id in self._gpu_ids:
            for _ in range(QUEUED_PER_GPU):
                self._deliver(self._infer(gpu_id))

    def _on_result(self, effect: SendResult | WorkerSay) -> None:
        result = effect.message if isinstance(effect, SendResult) else None
        if not isinstance(result, InferDone):
            return
        self.late_ns.append(now_ns() - result.exec.end_ns)
        self.exec_sum_ns += result.exec.duration_ns
        before_ns = self._exec_end_ns.get(result.gpu_id, result.exec.begin_ns)
        self.idle_sum_ns += result.exec.begin_ns - before_ns
        self._exec_end_ns[result.gpu_id] = result.exec.end_ns
        asyncio.get_running_loop().call_soon(self._deliver, self._infer(result.gpu_id))

    def _infer(self, gpu_id: GpuId) -> Infer:
        now = now_ns()
        return Infer(self._next_id(), MODEL, gpu_id, now, now + WINDOW_NS, 0, 1, (0,))

    def _deliver(self, action: Infer | LoadModel | LoadWeights) -> None:
        self.devices.deliver([ActionArrived(action, b"", now_ns())])

    def _next_id(self) -> ActionId:
        self._action_count += 1
        return ActionId(self._action_count)


async def measure(gpu_count: int, exec_ns: int, seconds: float) -> Row:
    """Run one configuration for `seconds`."""
    load = Load(gpu_count, exec_ns)
    load.warm_up()
    await load.devices.wait_idle()
    gc.collect()
    gc.freeze()
    load.begin()
    await asyncio.sleep(seconds / 4)
    load.late_ns.clear()
    cpu_s, began_ns = _cpu_s(), now_ns()
    await asyncio.sleep(seconds)
    busy = (_cpu_s() - cpu_s) * SECOND / (now_ns() - began_ns)
    load.devices.close()
    late = sorted(load.late_ns)
    return Row(
        gpus=gpu_count,
        exec_us=exec_ns // US,
        infers_per_s=round(len(late) * SECOND / (now_ns() - began_ns)),
        late_p50_us=late[len(late) // 2] / US,
        late_p99_us=late[len(late) * 99 // 100] / US,
        late_max_us=late[-1] / US,
        drift=load.idle_sum_ns / load.exec_sum_ns,
        busy=busy,
    )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure rising loads and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per row")
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    options = parser.parse_args()
    rows = []
    print("gpus  exec[us]  infers/s  late p50[us]    p99    max   drift  busy")
    for gpu_count, exec_us in ((1, 3300), (8, 3300), (32, 3300), (64, 3300), (100, 3300)):
        row = uvloop.run(measure(gpu_count, exec_us * US, options.seconds))
        rows.append(row)
        print(
            f"{row.gpus:4} {row.exec_us:9} {row.infers_per_s:9} {row.late_p50_us:13.0f}"
            f" {row.late_p99_us:6.0f} {row.late_max_us:6.0f} {row.drift:7.4f} {row.busy:5.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(to_builtins(rows), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
