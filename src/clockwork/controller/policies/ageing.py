"""Estimates that nothing confirms any more lose their weight, so that requests come back.

A device or a network that was slow for a while leaves high estimates behind. With a tight SLO they
refuse every request, so nothing runs and nothing is measured: without this module the estimates,
and the refusals, would stay for ever. Here, an estimate that is much higher than the profile and
was not measured for `AGEING_NS` forgets half of its excess, again and again.

Excess over what? At first over what is normal on the device now (`parts.slowness`): while others
are found to take 20 % longer than profiled, so does this one. (With profiles as the measure, half
of the inferences of a busy CPU took longer than predicted, and twice as many answers were late.)
After `OLD_SWEEPS` sweeps over the profile: what is true of others may not be true of this one. If
the device is still slow, the price is one late request per model and second or two.

The way to a worker ages in the same manner (`parts.latency`).

Cost: nothing while estimates are near their profiles; `DOUBTS_MAX` estimates per sweep otherwise.
"""

from itertools import islice
from typing import Final

from clockwork.controller.cluster import Cluster, Gpu, Instance, Model
from clockwork.messages.ids import ModelId
from clockwork.units import MS

AGEING_NS: Final = 200 * MS
"""Between two sweeps (chosen: a user waits a second, not more, for a healed device)."""
DOUBTS_MAX: Final = 256
"""Estimates doubted per sweep (chosen: a tenth of a millisecond)."""
SWEEPS_MAX: Final = 16
"""Sweeps made up for after a pause: what is left of an excess is then next to nothing."""

OLD_SWEEPS: Final = 10
"""Sweeps without a measurement after which other estimates of a device prove nothing (chosen: two
seconds; models that are asked for once a second are measured in between)."""

Estimate = tuple[Instance, int]
"""An instance, and the index of a batch size."""


class Ageing:
    """Remembers the raised estimates, and doubts those that are not measured any more."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next_ns = 0
        # Raised estimates that were measured since the last sweep, and those that were not, with
        # the number of sweeps that doubted them.
        self._fresh: dict[Estimate, None] = {}
        self._stale: dict[Estimate, int] = {}
        # The same for the estimates of loads.
        self._fresh_loads: dict[ModelId, Model] = {}
        self._stale_loads: dict[ModelId, Model] = {}

    def note_load(self, model: Model) -> None:
        """Take in that a load of the model's weights was measured."""
        if model.load.is_raised:
            self._fresh_loads[model.model_id] = model
        self._stale_loads.pop(model.model_id, None)

    def note(self, instance: Instance, size_index: int) -> None:
        """Take in that an estimate was measured."""
        estimator = instance.estimators[size_index]
        if estimator is not None and estimator.is_raised:
            self._fresh[instance, size_index] = None
        if self._stale:
            self._stale.pop((instance, size_index), None)

    def gpu_up(self, gpu: Gpu) -> None:
        """Take in the estimates of a GPU that were not measured here. O(models)."""
        for model in self._cluster.models.values():
            instance = model.instances.get(gpu.index)
            if instance is not None:
                for size_index, estimator in enumerate(instance.estimators):
                    if estimator is not None and estimator.is_raised:
                        self._stale[instance, size_index] = 0

    def plan(self, now_ns: int) -> None:
        """Doubt what was not confirmed, if it is time."""
        if now_ns < self._next_ns:
            return
        late_ns = now_ns - self._next_ns
        self._next_ns = now_ns + AGEING_NS
        for _ in range(1 + min(late_ns // AGEING_NS, SWEEPS_MAX)):
            self._sweep()

    def _sweep(self) -> None:
        for worker in self._cluster.workers:
            worker.latency.doubt()
        for gpu in self._cluster.gpus:
            gpu.slowness.doubt()
        for estimate, sweeps in list(islice(self._stale.items(), DOUBTS_MAX)):
            del self._stale[estimate]
            instance, size_index = estimate
            if instance.doubt(size_index, is_old=sweeps >= OLD_SWEEPS):
                self._stale[estimate] = sweeps + 1
        for model_id, model in list(islice(self._stale_loads.items(), DOUBTS_MAX)):
            model.load.doubt(model.load.profile_ns)
            if not model.load.is_raised:
                del self._stale_loads[model_id]
        for estimate in self._fresh:
            self._stale[estimate] = 0
        self._fresh.clear()
        self._stale_loads.update(self._fresh_loads)
        self._fresh_loads.clear()
