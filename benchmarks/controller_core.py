"""Measures the controller role alone: `handle` in a loop, no network, one core.

Pretended workers answer in virtual time with the durations that the controller expects. Offered
load is a share of what the GPUs can do at batch size 1, in batches of events like those that a
busy event loop collects. Popularity is either *even* over the models (the hardest case: nothing
can be batched) or *skewed* like cloud functions (Zipf, exponent 1). Caches are warmed first. Only
the processor time inside `handle` counts.

Run: ``python benchmarks/controller_core.py [--json FILE]``. Absolute figures depend on the
machine; the columns to compare are those relative to the first row, measured in the same run.
"""

import argparse
import gc
import json
import random
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate
from pathlib import Path
from time import process_time_ns

from build import how_built
from msgspec import Struct, to_builtins

from clockwork.controller.config import ControllerConfig
from clockwork.controller.core import ControllerRole
from clockwork.messages.actions import (
    Action,
    EvictWeights,
    EvictWeightsDone,
    GetWorkerState,
    Infer,
    InferDone,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    LoadWeightsDone,
    Result,
    Timing,
    WorkerStateDone,
)
from clockwork.messages.controller_io import (
    ControllerEvent,
    FromClient,
    FromWorker,
    ToClient,
    ToWorker,
    WorkerConnected,
)
from clockwork.messages.ids import ClientId, GpuId, ModelId, WorkerId
from clockwork.messages.models import GpuState, ModelProfile, TensorSpec, WorkerState
from clockwork.messages.requests import InferRequest, InferResponse, LoadModelRequest
from clockwork.messages.role import WAKEUP
from clockwork.messages.status import Status
from clockwork.units import MIB, MS, SECOND, US

GPUS_PER_WORKER = 10
PAGES = 1376
STEP_NS = 500 * US
NETWORK_NS = 100 * US
SIZES = (1, 2, 4, 8, 16)
# ResNet-50 of the published table.
EXEC_NS = (2_610_000, 3_780_000, 5_610_000, 9_130_000, 15_670_000)
LOAD_NS = 8_330_000
WARM_UP_REQUESTS = 4_000
WARM_UP_ROUNDS_MAX = 400
MODEL_PAGES = 7


class Point(Struct):
    """One measured configuration."""

    gpus: int
    models: int
    popularity: str
    offered_per_s: int
    requests: int
    goodput_share: float
    mean_batch: float
    us_per_request: float
    requests_per_s: int


class PretendedWorkers:
    """Answers actions in virtual time: one inference and one load at a time per GPU."""

    def __init__(self, gpu_count: int) -> None:
        self.worker_count = -(-gpu_count // GPUS_PER_WORKER)
        self._gpu_count = gpu_count
        self._free_ns: dict[tuple[WorkerId, GpuId, bool], int] = {}
        self._due: list[tuple[int, int, WorkerId, Result]] = []
        self._sequence = 0

    def take(self, worker_id: WorkerId, action: Action, now_ns: int) -> None:
        """Carry out an action."""
        arrived_ns = now_ns + NETWORK_NS
        if isinstance(action, Infer):
            index = SIZES.index(action.batch_size)
            timing = self._run(worker_id, action.gpu_id, True, arrived_ns, EXEC_NS[index])
            nothing = Timing(timing.end_ns, timing.end_ns, 0)
            begun = Timing(timing.begin_ns, timing.begin_ns, 0)
            done = InferDone(
                action.action_id, begun, timing, nothing, action.gpu_id, 0, 0, arrived_ns, 0
            )
            self._answer(timing.end_ns, worker_id, done)
        elif isinstance(action, LoadWeights):
            timing = self._run(worker_id, action.gpu_id, False, arrived_ns, LOAD_NS)
            self._answer(
                timing.end_ns,
                worker_id,
                LoadWeightsDone(action.action_id, timing, arrived_ns, timing.end_ns),
            )
        elif isinstance(action, EvictWeights):
            instant = Timing(arrived_ns, arrived_ns, 0)
            self._answer(
                arrived_ns,
                worker_id,
                EvictWeightsDone(action.action_id, instant, arrived_ns, arrived_ns),
            )
        else:
            self._answer(arrived_ns, worker_id, self._order(worker_id, action, arrived_ns))

    def due(self, now_ns: int) -> list[ControllerEvent]:
        """Return the results that have come by now."""
        events: list[ControllerEvent] = []
        while self._due and self._due[0][0] <= now_ns:
            at_ns, _, worker_id, result = heappop(self._due)
            events.append(FromWorker(worker_id, result, b"", at_ns))
        return events

    def _run(
        self, worker_id: WorkerId, gpu_id: GpuId, is_infer: bool, at_ns: int, took_ns: int
    ) -> Timing:
        key = (worker_id, gpu_id, is_infer)
        begin_ns = max(at_ns, self._free_ns.get(key, 0))
        self._free_ns[key] = begin_ns + took_ns
        return Timing(begin_ns, begin_ns + took_ns, took_ns)

    def _answer(self, when_ns: int, worker_id: WorkerId, result: Result) -> None:
        self._sequence += 1
        heappush(self._due, (when_ns + NETWORK_NS, self._sequence, worker_id, result))

    def _order(self, worker_id: WorkerId, action: Action, now_ns: int) -> Result:
        if isinstance(action, LoadModel):
            timing = Timing(now_ns, now_ns, 0)
            return LoadModelDone(
                action.action_id, _profile(), action.copies, timing, now_ns, now_ns
            )
        assert isinstance(action, GetWorkerState), action
        first = worker_id * GPUS_PER_WORKER
        count = min(GPUS_PER_WORKER, self._gpu_count - first)
        gpus = tuple(
            GpuState(GpuId(index), PAGES * 16 * MIB, PAGES, 0, 0, ()) for index in range(count)
        )
        state = WorkerState(16 * MIB, gpus, ())
        return WorkerStateDone(action.action_id, state, now_ns, now_ns)


class Run:
    """A controller role, pretended workers and a load."""

    def __init__(
        self, *, gpus: int, models: int, offered_per_s: int, seed: int, is_skewed: bool = False
    ) -> None:
        self._workers = PretendedWorkers(gpus)
        config = ControllerConfig(max_gpus=gpus, load_stage_timeout_ns=10 * MS)
        self._role = ControllerRole(config, self._workers.worker_count)
        self._models = models
        self._offered_per_s = offered_per_s
        self._rng = random.Random(seed)
        weights = [1.0 / (rank + 1) if is_skewed else 1.0 for rank in range(models)]
        self._cumulative = list(accumulate(weights))
        self.loads = 0
        self._now_ns = SECOND
        self.spent_ns = 0
        self.answered = 0
        self.in_time = 0
        self.batches = 0.0

    def start(self) -> None:
        """Load the models and wait until inference is admitted."""
        for index in range(self._workers.worker_count):
            self._step([WorkerConnected(WorkerId(index))])
        for _ in range(10):
            self._step([])
        load = LoadModelRequest(0, 0, "resnet50", self._models)
        self._step([FromClient(ClientId(0), load, b"", self._now_ns)])
        while not self._role.is_serving:
            self._step([])

    def measure(self, requests: int) -> None:
        """Offer a number of requests and wait for their answers."""
        per_step = self._offered_per_s * STEP_NS / SECOND
        sent, credit = 0, 0.0
        chosen = self._rng.choices(range(self._models), cum_weights=self._cumulative, k=requests)
        while self.answered < requests:
            credit += per_step
            arrivals: list[ControllerEvent] = []
            while credit >= 1 and sent < requests:
                model_id = ModelId(chosen[sent])
                credit -= 1
                sent += 1
                message = InferRequest(sent, 0, model_id)
                arrivals.append(FromClient(ClientId(0), message, b"", self._now_ns))
            self._step(arrivals)

    def warm_up(self) -> None:
        """Run until hardly any weights are loaded any more, or a bound is reached."""
        for _ in range(WARM_UP_ROUNDS_MAX):
            self.reset()
            self.measure(WARM_UP_REQUESTS)
            if self.loads < WARM_UP_REQUESTS // 50:
                break

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.spent_ns = self.answered = self.in_time = self.loads = 0
        self.batches = 0.0

    def _step(self, events: Sequence[ControllerEvent]) -> None:
        self._now_ns += STEP_NS
        batch = [*self._workers.due(self._now_ns), *events]
        if not batch:
            wakeup_ns = self._role.wakeup_ns
            if wakeup_ns is None or wakeup_ns > self._now_ns:
                return
            batch = [WAKEUP]
        begin = process_time_ns()
        effects = self._role.handle(batch, self._now_ns)
        self.spent_ns += process_time_ns() - begin
        for effect in effects:
            if isinstance(effect, ToWorker):
                self.loads += isinstance(effect.message, LoadWeights)
                self._workers.take(effect.worker_id, effect.message, self._now_ns)
            elif isinstance(effect, ToClient) and isinstance(effect.message, InferResponse):
                self.answered += 1
                if effect.message.status is Status.SUCCESS:
                    self.in_time += 1
                    self.batches += 1 / effect.message.batch_size


def _profile() -> ModelProfile:
    tensor = TensorSpec("data", "float32", (3, 224, 224), 4)
    output = TensorSpec("out", "float32", (1000,), 4)
    return ModelProfile(
        (tensor,), (output,), SIZES, EXEC_NS, LOAD_NS, MODEL_PAGES * 16 * MIB, MODEL_PAGES
    )


def measure(*, gpus: int, models: int, share: float, requests: int, is_skewed: bool) -> Point:
    """Return one measured configuration at `share` of what its GPUs can do at batch size 1."""
    offered = int(gpus * SECOND / EXEC_NS[0] * share)
    run = Run(gpus=gpus, models=models, offered_per_s=offered, seed=1, is_skewed=is_skewed)
    run.start()
    run.warm_up()
    run.reset()
    gc.collect()
    gc.freeze()
    run.measure(requests)
    us = run.spent_ns / run.answered / 1_000
    return Point(
        gpus=gpus,
        models=models,
        popularity="skewed" if is_skewed else "even",
        offered_per_s=offered,
        requests=requests,
        goodput_share=run.in_time / run.answered,
        mean_batch=run.in_time / max(run.batches, 1),
        us_per_request=us,
        requests_per_s=int(1e6 / us),
    )


def _row(point: Point, first: Point) -> str:
    relative = point.us_per_request / first.us_per_request
    return (
        f"{point.gpus:5d} {point.models:6d} {point.popularity:>10} {point.offered_per_s:9d} "
        f"{point.goodput_share:7.4f} {point.mean_batch:6.2f} {point.us_per_request:10.2f} "
        f"{point.requests_per_s:10d} {relative:13.2f}"
    )


def main() -> None:
    """Measure all configurations and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--share", type=float, default=0.7, help="of the GPUs' batch-1 capacity")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 10, 110, 150])
    parser.add_argument("--models", type=int, nargs="+", default=[10, 400, 4000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    points: list[Point] = []
    print(how_built())
    print(" gpus models popularity offered/s goodput  batch us/request requests/s relative cost")
    for is_skewed in (False, True):
        for gpus in options.gpus:
            for models in options.models:
                point = measure(
                    gpus=gpus,
                    models=models,
                    share=options.share,
                    requests=options.requests,
                    is_skewed=is_skewed,
                )
                points.append(point)
                print(_row(point, points[0]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([to_builtins(point) for point in points], indent=1))


if __name__ == "__main__":
    main()
