"""Requests of clients and responses of the controller (SPEC 2.2).

Every request gets exactly one response, with the same `user_request_id`.
"""

from typing import Final

from msgspec import Struct

from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, WorkerReport
from clockwork.messages.status import Status
from clockwork.messages.uploads import (
    BeginUploadRequest,
    BeginUploadResponse,
    EndUploadRequest,
    UploadChunkRequest,
    UploadChunkResponse,
)

OVERLOADED: Final = "the controller is overloaded; send less, or try again later"
"""The message of inferences that a controller refuses because it has no time for more."""


class InferRequest(Struct, frozen=True, array_like=True, gc=False):
    """One inference on one input. The payload is the input; empty when inputs are disabled."""

    # The client's own number for this request; unique per connection while in flight.
    user_request_id: int
    # The tenant, for telemetry.
    user_id: int
    model_id: ModelId
    # SLO as a duration; 0: use `slo_factor`.
    slo_ns: int = 0
    # SLO as a multiple of the model's execution time at batch size 1; 0: the default SLO.
    slo_factor: float = 0.0
    # The payload is an LZ4 block that is shorter than the input that it holds.
    is_compressed: bool = False


class InferResponse(Struct, frozen=True, array_like=True, gc=False):
    """The outcome of one inference. The payload is the output."""

    user_request_id: int
    status: Status
    # What happened and what to do about it; empty on success.
    message: str
    model_id: ModelId
    # Requests that ran together; 0 if it never ran.
    batch_size: int
    # Departure minus arrival, both at the controller.
    latency_ns: int
    # True if no GPU held the model's weights when the request arrived.
    is_cold_start: bool


class LoadModelRequest(Struct, frozen=True):
    """LoadModelFromRemoteDisk: offer the model directory at `path` as `copies` models."""

    user_request_id: int
    user_id: int
    path: str
    copies: int = 1


class LoadModelResponse(Struct, frozen=True):
    """The ids of a loaded model: `model_id` up to `model_id + copies - 1`."""

    user_request_id: int
    status: Status
    message: str
    copies: int
    # The first copy; absent when loading failed.
    model: ModelInfo | None


class UnloadModelRequest(Struct, frozen=True):
    """Forget one model everywhere."""

    user_request_id: int
    user_id: int
    model_id: ModelId


class EvictRequest(Struct, frozen=True):
    """Evict one model's weights from every GPU; the model stays loaded."""

    user_request_id: int
    user_id: int
    model_id: ModelId


class ClearCacheRequest(Struct, frozen=True):
    """Evict the weights of all models from every GPU; the models stay loaded."""

    user_request_id: int
    user_id: int


class WorkersRequest(Struct, frozen=True):
    """Tell about all workers."""

    user_request_id: int
    user_id: int


class WorkersResponse(Struct, frozen=True):
    """All workers, ordered by id."""

    user_request_id: int
    status: Status
    message: str
    workers: tuple[WorkerReport, ...]


class LsRequest(Struct, frozen=True):
    """List the models that can be asked for."""

    user_request_id: int
    user_id: int


class LsResponse(Struct, frozen=True):
    """All models, ordered by id."""

    user_request_id: int
    status: Status
    message: str
    models: tuple[ModelInfo, ...]


class DoneResponse(Struct, frozen=True):
    """The outcome of UnloadModel, Evict, ClearCache and EndUpload."""

    user_request_id: int
    status: Status
    message: str


Request = (
    InferRequest
    | LoadModelRequest
    | UnloadModelRequest
    | EvictRequest
    | LsRequest
    | ClearCacheRequest
    | WorkersRequest
    | BeginUploadRequest
    | UploadChunkRequest
    | EndUploadRequest
)
Response = (
    InferResponse
    | LoadModelResponse
    | LsResponse
    | DoneResponse
    | WorkersResponse
    | BeginUploadResponse
    | UploadChunkResponse
)
