"""Events, effects and the outcome of the client role."""

from msgspec import Struct

from clockwork.messages.controller_io import Say
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import (
    InferRequest,
    LoadModelRequest,
    LsRequest,
    Response,
    UnloadModelRequest,
)
from clockwork.messages.role import Wakeup


class ControllerConnected(Struct, frozen=True, gc=False):
    """The connection to the controller stands: begin, or go on after an outage."""


class ResponseArrived(Struct, frozen=True, gc=False):
    """A response arrived. `at_ns` is when its last byte was read."""

    message: Response
    # Size of the output that came with it.
    payload_bytes: int
    at_ns: int


class ControllerClosed(Struct, frozen=True, gc=False):
    """The connection to the controller broke; what was sent on it will not be answered."""

    reason: str


class StopAsked(Struct, frozen=True, gc=False):
    """The user wants the run to end: once to stop sending, twice to stop waiting."""


ClientEvent = ControllerConnected | ResponseArrived | ControllerClosed | StopAsked | Wakeup


class SendInfer(Struct, frozen=True, gc=False):
    """Send a request with an input of `input_bytes` (0: none)."""

    request: InferRequest
    input_bytes: int
    # When the workload wanted it sent; latency counts from here, however late the shell is.
    arrival_ns: int
    # Index of the model within the workload.
    model: int
    # When the client stops caring; None: the controller's default SLO applies, unknown here.
    deadline_ns: int | None
    # Index of the workload's stream.
    stream: int


class SendRequest(Struct, frozen=True, gc=False):
    """Send a request without payload."""

    message: LoadModelRequest | LsRequest | UnloadModelRequest


class LatencySummary(Struct, frozen=True):
    """Latencies of successful requests, from the scheduled arrival to the response."""

    min_ns: int
    mean_ns: int
    # Percentiles are read from a histogram and at most 1 % too high.
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    p9999_ns: int
    max_ns: int


class ModelCounts(Struct, frozen=True):
    """What became of the requests for one model, or for all copies of a model."""

    name: str
    # The only or first model.
    model_id: ModelId
    sent: int
    succeeded: int
    # Succeeded within their SLO.
    good: int


class ClientSummary(Struct, frozen=True):
    """The outcome of a run as its client saw it."""

    workload: str
    seed: int
    # How long it sent; rates are counts divided by this.
    duration_ns: int
    sent: int
    # Responses per status code; requests without any are `unanswered`.
    statuses: dict[int, int]
    # Refused by the client itself, because the controller was overloaded; also in `statuses`.
    throttled: int
    unanswered: int
    succeeded: int
    # Succeeded within their SLO (all that succeeded, where the client does not know the SLO).
    good: int
    cold_starts: int
    offered_per_s: float
    throughput_per_s: float
    goodput_per_s: float
    # Absent if nothing succeeded.
    latency: LatencySummary | None
    # One per LoadModel.
    model_sets: tuple[ModelCounts, ...]
    # One per model that was asked for.
    models: tuple[ModelCounts, ...]


class Finished(Struct, frozen=True):
    """The run is over; the role does nothing any more."""

    # Absent if the run never got to its first request.
    summary: ClientSummary | None
    # Why it ended early; absent if it ended as planned.
    error: str | None


ClientEffect = SendInfer | SendRequest | Say | Finished
