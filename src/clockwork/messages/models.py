"""What a model looks like to those who do not run it: tensors, batch sizes, durations, sizes."""

from math import prod

from msgspec import Struct

from clockwork.messages.ids import GpuId, ModelId, WorkerId


class TensorSpec(Struct, frozen=True):
    """One input or output of a model, for a single request."""

    name: str
    # numpy's name of the type: "float32", "int64", "bool", "float16", ...
    dtype: str
    # Without the batch dimension, which comes first: [3, 224, 224].
    shape: tuple[int, ...]
    # Bytes of one element.
    item_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of this tensor for one request."""
        return prod(self.shape) * self.item_bytes


class ModelProfile(Struct, frozen=True):
    """What a worker reports about a model that it has in memory."""

    # A request's payload is the bytes of its inputs in this order, one after the other.
    inputs: tuple[TensorSpec, ...]
    # A response's payload is the bytes of its outputs in this order, one after the other.
    outputs: tuple[TensorSpec, ...]
    # Supported batch sizes, ascending.
    batch_sizes: tuple[int, ...]
    # Execution time per supported batch size, same order; 0 where it was never measured.
    exec_ns: tuple[int, ...]
    # Duration of LoadWeights; 0 where it was never measured.
    load_ns: int
    weights_bytes: int
    # Pages of the weights cache that the weights take.
    weights_pages: int

    @property
    def input_bytes(self) -> int:
        """Bytes of one request's inputs."""
        return sum(tensor.size_bytes for tensor in self.inputs)

    @property
    def output_bytes(self) -> int:
        """Bytes of one request's outputs."""
        return sum(tensor.size_bytes for tensor in self.outputs)


class ModelInfo(Struct, frozen=True):
    """A model as clients see it in the answer to LS."""

    model_id: ModelId
    # The path that it was loaded from, as the client gave it.
    source: str
    profile: ModelProfile


class GpuState(Struct, frozen=True):
    """One GPU of a worker, as GetWorkerState reports it."""

    gpu_id: GpuId
    cache_bytes: int
    cache_pages: int
    io_pool_bytes: int
    workspace_bytes: int
    # Models whose weights are in the cache, least recently loaded first.
    warm: tuple[ModelId, ...]


class GpuReport(Struct, frozen=True):
    """One GPU as the controller sees it."""

    gpu_id: GpuId
    pages: int
    free_pages: int
    # Models whose weights are in its cache, least recently used first, and on their way there.
    warm: tuple[ModelId, ...]
    loading: tuple[ModelId, ...]
    # Infer and LoadWeights actions that have no result yet.
    open_actions: int


class WorkerReport(Struct, frozen=True):
    """One worker as the controller sees it."""

    worker_id: WorkerId
    # Where it is; empty if the controller was not told.
    address: str
    is_connected: bool
    # 0 and nothing while it has never been connected.
    page_bytes: int
    gpus: tuple[GpuReport, ...]
    # Models in its host memory.
    model_count: int


class WorkerState(Struct, frozen=True):
    """All that a worker holds, as GetWorkerState reports it."""

    page_bytes: int
    gpus: tuple[GpuState, ...]
    models: tuple[ModelInfo, ...]
