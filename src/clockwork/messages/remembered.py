"""What a controller leaves behind for the one that takes its place: models, ids, measurements.

Workers keep models and warm weights themselves and report them when they are connected; here is
what they cannot know.
"""

from msgspec import Struct

from clockwork.messages.ids import GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo


class Measured(Struct, frozen=True, gc=False):
    """How long a model is expected to run on one GPU."""

    model_id: ModelId
    worker_id: WorkerId
    gpu_id: GpuId
    # Batch sizes, and the estimate of each in the same order.
    sizes: tuple[int, ...]
    exec_ns: tuple[int, ...]


class MeasuredLoad(Struct, frozen=True, gc=False):
    """How long LoadWeights of a model is expected to take."""

    model_id: ModelId
    load_ns: int


class Remembered(Struct, frozen=True):
    """All that was remembered, as a controller gets it when it is made."""

    # Ascending by id.
    models: tuple[ModelInfo, ...] = ()
    # Ids below this were given away: a model of such an id that is not listed was unloaded.
    next_model_id: ModelId = ModelId(0)
    measured: tuple[Measured, ...] = ()
    loads: tuple[MeasuredLoad, ...] = ()
    # Workers that had joined by themselves, which will dial again. Ascending.
    workers: tuple[WorkerId, ...] = ()


class Remember(Struct, frozen=True, gc=False):
    """What is new since the last one: to be added to what is kept."""

    next_model_id: ModelId
    # Models that were registered, and those that were removed.
    models: tuple[ModelInfo, ...] = ()
    removed: tuple[ModelId, ...] = ()
    # Each replaces an older one for the same model and GPU, or the same model.
    measured: tuple[Measured, ...] = ()
    loads: tuple[MeasuredLoad, ...] = ()
