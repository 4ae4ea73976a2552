"""The controller's belief about workers, GPUs, models and where weights are.

Invariants:
- a GPU's bit is ``1 << index``; masks of GPUs are ints, so "which holders have room" is one
  ``and`` however many GPUs there are;
- `Model.warm_mask` and `Model.resident_mask` agree with the states of its instances;
- a GPU's free pages plus the pages of its LOADING and WARM instances are all its pages.

State of an instance (COLD, LOADING, WARM)::

    COLD --load sent--> LOADING --load done--> WARM --evict sent--> COLD
                        LOADING --load failed, worker lost--> COLD
    WARM --worker lost, weights found missing--> COLD
    COLD --found warm when the worker connected--> WARM

Not here: life of requests and actions (``ledger.py``), decisions (``policies/``).
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from msgspec.structs import replace

from clockwork.messages.ids import GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo, ModelProfile
from clockwork.messages.role import Payload
from clockwork.parts.batching import shared_sizes
from clockwork.parts.demand import GpuDemand, ModelDemand
from clockwork.parts.estimator import Estimator
from clockwork.parts.latency import SendLatency
from clockwork.parts.slowness import Slowness
from clockwork.parts.timeline import Timeline
from clockwork.units import MS

UNMEASURED_EXEC_NS: Final = MS // 10
"""Estimate of a batch size that was never measured (original)."""
UNMEASURED_LOAD_NS: Final = 10 * MS
"""Estimate of a load that was never measured (the original's shipped example)."""


class InstanceState(IntEnum):
    """Where the weights of a model are, for one GPU. Ints, because they hash without a call."""

    COLD = 0
    LOADING = 1
    WARM = 2


INSTANCE_MOVES: Final = frozenset(
    {
        (InstanceState.COLD, InstanceState.LOADING),
        (InstanceState.COLD, InstanceState.WARM),
        (InstanceState.LOADING, InstanceState.WARM),
        (InstanceState.LOADING, InstanceState.COLD),
        (InstanceState.WARM, InstanceState.COLD),
    }
)
"""The legal moves."""


class Worker:
    """One worker process and what it is known to hold."""

    __slots__ = ("gpus", "is_ready", "latency", "models", "page_bytes", "worker_id")

    def __init__(self, worker_id: WorkerId) -> None:
        self.worker_id = worker_id
        # True from the answer to GetWorkerState until the connection breaks.
        self.is_ready = False
        self.page_bytes = 0
        # Its GPUs that are used; fixed at the first GetWorkerState.
        self.gpus: list[Gpu] = []
        # Models in its host memory.
        self.models: set[ModelId] = set()
        self.latency = SendLatency()

    @property
    def mask(self) -> int:
        """The bits of its GPUs."""
        return sum(gpu.bit for gpu in self.gpus)


class Gpu:
    """One GPU: its pages, its timelines and the models on it."""

    __slots__ = (
        "bit",
        "demand",
        "exec",
        "free_pages",
        "gpu_id",
        "index",
        "load_blocked_until_ns",
        "loads",
        "lru",
        "pages",
        "slowness",
        "worker",
    )

    def __init__(
        self, *, index: int, worker: Worker, gpu_id: GpuId, pages: int, lag_ns: int
    ) -> None:
        self.index = index
        self.bit = 1 << index
        self.worker = worker
        self.gpu_id = gpu_id
        self.pages = pages
        self.free_pages = pages
        # Predicted use of the executors for inference and for weights.
        self.exec = Timeline(lag_ns)
        self.loads = Timeline(lag_ns)
        # LOADING and WARM instances, least recently used first.
        self.lru: dict[ModelId, Instance] = {}
        self.demand = GpuDemand()
        # How its inferences compare with their profiles.
        self.slowness = Slowness()
        # After a failed load no other is tried until then.
        self.load_blocked_until_ns = 0

    def touch(self, instance: "Instance") -> None:
        """Make an instance the most recently used one."""
        model_id, lru = instance.model.model_id, self.lru
        del lru[model_id]
        lru[model_id] = instance


class Instance:
    """A model on one GPU, whether its weights are there or not."""

    __slots__ = ("estimators", "exec_ns", "gpu", "inflight", "model", "ready_at_ns", "state")

    def __init__(self, model: "Model", gpu: Gpu) -> None:
        self.model = model
        self.gpu = gpu
        self.state = InstanceState.COLD
        # Infer actions that are under way on this GPU.
        self.inflight = 0
        # When a load that is under way should be done.
        self.ready_at_ns = 0
        # Measured durations on this GPU per index of `Model.sizes`, and their estimates.
        # None where nothing was measured.
        self.estimators: list[Estimator | None] = []
        self.exec_ns: list[int] = []
        self.renew()

    def advance(self, state: InstanceState) -> None:
        """Change the state and what follows from it: masks, pages, order of use, demand.

        Pages are taken when leaving COLD and given back when entering it.
        """
        assert (self.state, state) in INSTANCE_MOVES, f"{self.describe()} -> {state.name}"
        was_cold = self.state is InstanceState.COLD
        self.state = state
        if was_cold:
            self._take_pages()
        elif state is InstanceState.COLD:
            self._give_pages_back()
        if state is InstanceState.WARM:
            self.model.warm_mask |= self.gpu.bit
        else:
            self.model.warm_mask &= ~self.gpu.bit

    def measure(self, size_index: int, exec_ns: int) -> None:
        """Take in a measured execution time."""
        estimator = self._estimator(size_index)
        estimator.add(exec_ns)
        self.gpu.slowness.add(exec_ns, estimator.profile_ns)
        estimate_ns = estimator.estimate_ns
        # Mostly they are as they were: to look costs less than to store.
        if self.exec_ns[size_index] != estimate_ns:
            self.exec_ns[size_index] = estimate_ns
        model_exec_ns = self.model.exec_ns
        if model_exec_ns[size_index] != estimate_ns:
            model_exec_ns[size_index] = estimate_ns

    def doubt(self, size_index: int, *, is_old: bool) -> bool:
        """Expect less than the estimate says, which nothing confirmed; return if still too much.

        Args:
            is_old: nothing has confirmed it for so long that the slowness of others does not count.
        """
        estimator = self.estimators[size_index]
        if estimator is None:
            return False
        if estimator.is_raised:
            profile_ns = estimator.profile_ns
            normal_ns = profile_ns if is_old else self.gpu.slowness.normal_ns(profile_ns)
            estimator.doubt(normal_ns)
            self.exec_ns[size_index] = estimator.estimate_ns
            self.model.exec_ns[size_index] = estimator.estimate_ns
        return estimator.is_raised

    def renew(self) -> None:
        """Expect what the model's profile says, and forget what was measured here."""
        self.estimators = [None] * len(self.model.exec_ns)
        self.exec_ns = list(self.model.exec_ns)

    def expect(self, size_index: int, exec_ns: int) -> None:
        """Expect what was measured before the controller was restarted."""
        estimator = self._estimator(size_index)
        estimator.expect(exec_ns)
        self.exec_ns[size_index] = estimator.estimate_ns
        self.model.exec_ns[size_index] = estimator.estimate_ns

    def describe(self) -> str:
        """Return a short name for messages and assertions."""
        return f"M-{self.model.model_id} on GPU {self.gpu.index} ({self.state.name.lower()})"

    def _estimator(self, size_index: int) -> Estimator:
        estimator = self.estimators[size_index]
        if estimator is None:
            estimator = self.estimators[size_index] = Estimator(self.exec_ns[size_index])
        return estimator

    def _take_pages(self) -> None:
        gpu, model = self.gpu, self.model
        gpu.free_pages -= model.pages
        assert gpu.free_pages >= 0, f"{self.describe()}: {gpu.free_pages} pages free"
        gpu.lru[model.model_id] = self
        model.resident_mask |= gpu.bit
        model.demand.add_holder(gpu.demand)

    def _give_pages_back(self) -> None:
        gpu, model = self.gpu, self.model
        gpu.free_pages += model.pages
        assert gpu.free_pages <= gpu.pages, f"{self.describe()}: {gpu.free_pages} pages free"
        del gpu.lru[model.model_id]
        model.resident_mask &= ~gpu.bit
        model.demand.remove_holder(gpu.demand)


class Model:
    """A model that clients can ask for."""

    __slots__ = (
        "batch_sizes",
        "demand",
        "exec_ns",
        "first_exec_ns",
        "info",
        "input_bytes",
        "instances",
        "is_unloading",
        "kept",
        "load",
        "made_up_input",
        "model_id",
        "on_workers_mask",
        "open_count",
        "output_bytes",
        "pages",
        "profile",
        "resident_mask",
        "sizes",
        "warm_mask",
    )

    def __init__(self, info: ModelInfo, *, batch_max: int, exec_max_ns: int) -> None:
        self.info = info
        self.model_id = info.model_id
        # Its requests without a response.
        self.open_count = 0
        # By GPU index; made when first needed.
        self.instances: dict[int, Instance] = {}
        self.learn(info.profile, batch_max=batch_max, exec_max_ns=exec_max_ns)
        self.demand = ModelDemand()
        # GPUs where it is WARM; LOADING or WARM; whose worker has it in host memory.
        self.warm_mask = 0
        self.resident_mask = 0
        self.on_workers_mask = 0
        # What requests without input are given; None as long as no input was made up.
        self.made_up_input: Payload | None = None
        # What the policy keeps about it; only the policy looks inside.
        self.kept: object = None
        # Set by UnloadModel: takes no more requests.
        self.is_unloading = False

    def learn(self, profile: ModelProfile, *, batch_max: int, exec_max_ns: int) -> None:
        """Take over a profile, and with it batch sizes and estimates, before it is asked for."""
        assert not self.open_count, f"M-{self.model_id} is being asked for"
        self.info = replace(self.info, profile=profile)
        self.profile = profile
        self.input_bytes = profile.input_bytes
        self.output_bytes = profile.output_bytes
        self.pages = profile.weights_pages
        by_size = usable_sizes(profile, batch_max=batch_max, exec_max_ns=exec_max_ns)
        self.batch_sizes = shared_sizes(tuple(by_size))
        self.sizes = self.batch_sizes.sizes
        # Latest estimate per index of `sizes`, from whichever GPU measured last.
        self.exec_ns = [by_size[size] for size in self.sizes]
        # Execution time at batch size 1, frozen here: the unit of SLO factors.
        self.first_exec_ns = self.exec_ns[0]
        self.load = Estimator(profile.load_ns or UNMEASURED_LOAD_NS)
        for instance in self.instances.values():
            instance.renew()

    def on(self, gpu: Gpu) -> Instance:
        """Return its instance on `gpu`."""
        instance = self.instances.get(gpu.index)
        if instance is None:
            instance = self.instances[gpu.index] = Instance(self, gpu)
        return instance


def usable_sizes(profile: ModelProfile, *, batch_max: int, exec_max_ns: int) -> dict[int, int]:
    """Return the batch sizes to use, with their estimates.

    A model without batch size 1 runs single requests padded to its smallest size, so that size's
    time stands for 1 as well.
    """
    measured = {
        size: exec_ns or UNMEASURED_EXEC_NS
        for size, exec_ns in zip(profile.batch_sizes, profile.exec_ns, strict=True)
    }
    smallest = min(measured)
    usable = {1: measured[smallest]}
    for size, exec_ns in measured.items():
        if size <= batch_max and exec_ns <= exec_max_ns:
            usable[size] = exec_ns
    return usable


class Cluster:
    """All workers, GPUs and models."""

    def __init__(self, worker_count: int) -> None:
        self.workers = [Worker(WorkerId(index)) for index in range(worker_count)]
        # By index; a GPU keeps its index for ever.
        self.gpus: list[Gpu] = []
        self.models: dict[ModelId, Model] = {}
        # GPUs whose worker is connected.
        self.up_mask = 0

    def make_place_for(self, worker_id: WorkerId) -> None:
        """Make place for a worker that nobody named before, and for all of lower ids."""
        while len(self.workers) <= worker_id:
            self.workers.append(Worker(WorkerId(len(self.workers))))

    def gpus_in(self, mask: int) -> Iterator[Gpu]:
        """Yield the GPUs of a mask, lowest index first."""
        while mask:
            lowest = mask & -mask
            yield self.gpus[lowest.bit_length() - 1]
            mask ^= lowest

    def check(self) -> None:
        """Assert the invariants of the header."""
        for gpu in self.gpus:
            used = sum(instance.model.pages for instance in gpu.lru.values())
            assert gpu.free_pages + used == gpu.pages, f"GPU {gpu.index}: {used} pages used"
            gpu.exec.check()
            gpu.loads.check()
        for model in self.models.values():
            model.demand.check()
            for instance in model.instances.values():
                bit = instance.gpu.bit
                is_warm = instance.state is InstanceState.WARM
                is_resident = instance.state is not InstanceState.COLD
                assert is_warm == bool(model.warm_mask & bit), instance.describe()
                assert is_resident == bool(model.resident_mask & bit), instance.describe()
                assert is_resident == (model.model_id in instance.gpu.lru), instance.describe()
