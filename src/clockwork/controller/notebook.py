"""What the next controller will want to know: collected here, told to the shell, taken back.

Models are told when they come and go. Measurements are told every `INTERVAL_NS`, at most `ROWS_MAX`
in one step so that no step takes long, and all of them when the controller is asked to stop: what a
controller learned in its last seconds before it was killed is lost, and measured again.

Without a shell that keeps anything (`is_kept`), nothing is collected and nothing is told.

Not here: where it is kept (the shell), what workers hold (``fleet.py``).
"""

from itertools import islice
from typing import Final, TypeVar

from clockwork.controller.cluster import Cluster, Instance, Model, Worker
from clockwork.controller.underway import PendingInfer, PendingLoad
from clockwork.messages.ids import ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.remembered import Measured, MeasuredLoad, Remember, Remembered
from clockwork.units import MS, SECOND

INTERVAL_NS: Final = 5 * SECOND
"""Between two times at which measurements are told (chosen: little is lost, little is written)."""
PAUSE_NS: Final = 100 * MS
"""Until the next part of measurements that are too many for one step (chosen)."""
ROWS_MAX: Final = 500
"""Measurements told in one step (chosen: half a millisecond)."""

KeyT = TypeVar("KeyT")


class Notebook:
    """New models and measurements, and what the last controller left."""

    def __init__(self, cluster: Cluster, *, is_kept: bool) -> None:
        self._cluster = cluster
        self._is_kept = is_kept
        # What was not told yet.
        self._models: list[ModelInfo] = []
        self._removed: list[ModelId] = []
        self._next_model_id = ModelId(0)
        self._instances: dict[Instance, None] = {}
        self._loads: dict[Model, None] = {}
        # When measurements are told next; None while there are none.
        self._due_ns: int | None = None
        # What the last controller had measured, until the worker or model is there.
        self._old_measured: dict[WorkerId, list[Measured]] = {}
        self._old_loads: dict[ModelId, int] = {}

    @property
    def wakeup_ns(self) -> int | None:
        """When measurements have to be told."""
        return self._due_ns

    # What was left

    def open(self, remembered: Remembered) -> None:
        """Take what the last controller left."""
        for load in remembered.loads:
            self._old_loads[load.model_id] = load.load_ns
        for measured in remembered.measured:
            self._old_measured.setdefault(measured.worker_id, []).append(measured)

    def restore_load(self, model: Model) -> None:
        """Have a model that comes back expect the load times that it had."""
        load_ns = self._old_loads.pop(model.model_id, None)
        if load_ns is not None:
            model.load.expect(load_ns)

    def restore_worker(self, worker: Worker) -> None:
        """Have the models on a worker's GPUs expect what was measured there. O(measurements)."""
        gpus = {gpu.gpu_id: gpu for gpu in worker.gpus}
        for measured in self._old_measured.pop(worker.worker_id, ()):
            model = self._cluster.models.get(measured.model_id)
            gpu = gpus.get(measured.gpu_id)
            if model is not None and gpu is not None:
                _restore(model.on(gpu), measured)

    # What is new

    def note_model(self, model: Model, next_model_id: int) -> None:
        """A model was registered."""
        if self._is_kept:
            self._models.append(model.info)
            self._next_model_id = ModelId(next_model_id)

    def note_removal(self, model_id: ModelId, next_model_id: int) -> None:
        """A model was removed."""
        if self._is_kept:
            self._removed.append(model_id)
            self._next_model_id = ModelId(next_model_id)

    def note_result(self, pending: PendingInfer | PendingLoad, now_ns: int) -> None:
        """An action was measured."""
        if not self._is_kept:
            return
        if isinstance(pending, PendingInfer):
            self._instances[pending.instance] = None
        else:
            self._loads[pending.instance.model] = None
        if self._due_ns is None:
            self._due_ns = now_ns + INTERVAL_NS

    def take(self, now_ns: int) -> Remember | None:
        """Return what is to be told in this step, if anything."""
        is_due = self._due_ns is not None and now_ns >= self._due_ns
        if not is_due and not self._models and not self._removed:
            return None
        remember = self._remember(ROWS_MAX if is_due else 0)
        if is_due:
            is_rest = self._instances or self._loads
            self._due_ns = now_ns + PAUSE_NS if is_rest else None
        return remember

    def take_all(self) -> Remember | None:
        """Return all that was not told, because the controller is about to end."""
        self._due_ns = None
        if not (self._models or self._removed or self._instances or self._loads):
            return None
        return self._remember(len(self._instances) + len(self._loads))

    def _remember(self, rows: int) -> Remember:
        models, self._models = self._models, []
        removed, self._removed = self._removed, []
        instances = _take_some(self._instances, rows)
        loads = _take_some(self._loads, rows)
        return Remember(
            next_model_id=self._next_model_id,
            models=tuple(models),
            removed=tuple(removed),
            measured=tuple(_measured(each) for each in instances if self._is_there(each.model)),
            loads=tuple(
                MeasuredLoad(each.model_id, each.load.estimate_ns)
                for each in loads
                if self._is_there(each)
            ),
        )

    def _is_there(self, model: Model) -> bool:
        """Return whether a model was not unloaded since it was measured."""
        return self._cluster.models.get(model.model_id) is model


def _take_some(items: dict[KeyT, None], count: int) -> list[KeyT]:
    """Remove and return up to `count` keys, oldest first."""
    some = list(islice(items, count))
    for item in some:
        del items[item]
    return some


def _measured(instance: Instance) -> Measured:
    gpu, model = instance.gpu, instance.model
    return Measured(
        model.model_id,
        gpu.worker.worker_id,
        gpu.gpu_id,
        tuple(model.sizes),
        tuple(instance.exec_ns),
    )


def _restore(instance: Instance, measured: Measured) -> None:
    sizes = instance.model.sizes
    for size, exec_ns in zip(measured.sizes, measured.exec_ns, strict=False):
        if size in sizes:
            instance.expect(sizes.index(size), exec_ns)
