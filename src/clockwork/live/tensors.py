"""Arrays to payloads and back: what a caller hands in is checked here, and nowhere else again.

A request's payload is its inputs' bytes one after the other, in the model's order; a response's
payload is its outputs' bytes likewise (`clockwork.messages.models.ModelProfile`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clockwork.errors import FailedError
from clockwork.live.outcomes import invalid
from clockwork.messages.models import ModelProfile, TensorSpec
from clockwork.messages.requests import InferResponse
from clockwork.messages.role import Payload
from clockwork.messages.status import Status
from clockwork.units import MS

Array = NDArray[Any]
Inputs = Array | Sequence[Any] | float | Mapping[str, Any] | None
"""One array for a model with one input, or arrays by input name; None: no input is sent, and the
worker makes one up (for measuring). A leading batch dimension of 1 is accepted."""


class Inference(Mapping[str, Array]):
    """Outputs by name, and the figures of the request that they answer.

    Attributes:
        latency_ms: from handing the request over to having its answer, at the client.
        server_latency_ms: from arrival to departure, at the controller.
        batch_size: requests that ran together.
        is_cold_start: whether no GPU held the model's weights when the request arrived.
    """

    __slots__ = ("_outputs", "batch_size", "is_cold_start", "latency_ms", "server_latency_ms")

    def __init__(self, outputs: dict[str, Array], response: InferResponse, latency_ns: int) -> None:
        self._outputs = outputs
        self.latency_ms = latency_ns / MS
        self.server_latency_ms = response.latency_ns / MS
        self.batch_size = response.batch_size
        self.is_cold_start = response.is_cold_start

    def __getitem__(self, name: str) -> Array:
        """Return an output: without batch dimension, in memory of its own."""
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        """Return the output names in the model's order."""
        return iter(self._outputs)

    def __len__(self) -> int:
        """Return how many outputs there are."""
        return len(self._outputs)

    def __repr__(self) -> str:
        """Return names, shapes and figures."""
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in self.items())
        start = "cold" if self.is_cold_start else "warm"
        return (
            f"<Inference {{{shapes}}} in {self.latency_ms:.2f} ms, batch of {self.batch_size}, "
            f"{start}>"
        )


def pack(profile: ModelProfile, inputs: Inputs, *, is_copied: bool) -> tuple[Payload, ...]:
    """Return the payload of a request, one piece per input.

    Args:
        profile: says which inputs the model takes.
        inputs: what the caller handed in.
        is_copied: whether the caller may change its arrays before they are sent.

    Raises:
        InvalidRequestError: a name, shape or dtype is not the model's.
    """
    if inputs is None:
        return ()
    by_name = _by_name(profile, inputs)
    return tuple(_bytes_of(spec, by_name[spec.name], is_copied) for spec in profile.inputs)


def unpack(profile: ModelProfile, payload: Payload) -> dict[str, Array]:
    """Return the outputs in a response's payload, as views of it; none if it is empty.

    Raises:
        FailedError: the payload has another size than the model's outputs.
    """
    if not payload:
        return {}
    if len(payload) != profile.output_bytes:
        raise FailedError(
            f"the answer has {len(payload)} bytes, the model's outputs have "
            f"{profile.output_bytes}: is the model on the workers the one that was loaded?",
            status=Status.ERROR.value,
        )
    outputs, offset = {}, 0
    for spec in profile.outputs:
        end = offset + spec.size_bytes
        view = memoryview(payload)[offset:end]
        outputs[spec.name] = np.frombuffer(view, dtype=spec.dtype).reshape(spec.shape)
        offset = end
    return outputs


def _by_name(profile: ModelProfile, inputs: Inputs) -> Mapping[str, Any]:
    names = [spec.name for spec in profile.inputs]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise invalid(
                f"the model takes {len(names)} inputs ({', '.join(names)}): pass a dict of arrays "
                "by name"
            )
        return {names[0]: inputs}
    for name in inputs:
        if name not in names:
            raise invalid(f"the model has no input {name!r}; its inputs are {', '.join(names)}")
    for name in names:
        if name not in inputs:
            raise invalid(f"the input {name!r} is missing; the inputs are {', '.join(names)}")
    return inputs


def _bytes_of(spec: TensorSpec, value: Any, is_copied: bool) -> Payload:
    """Return the bytes of one input; a view of the caller's array where nothing forbids it."""
    dtype = np.dtype(spec.dtype)
    array: Array = value if isinstance(value, np.ndarray) else _converted(spec, value, dtype)
    if array.dtype != dtype:
        raise invalid(
            f"the input {spec.name!r} has dtype {array.dtype}, the model expects {spec.dtype}: "
            f"convert it with array.astype({spec.dtype!r})"
        )
    if array.shape not in (spec.shape, (1, *spec.shape)):
        raise invalid(
            f"the input {spec.name!r} has shape {array.shape}, the model expects {spec.shape} "
            "(one request at a time; the controller makes the batches)"
        )
    if is_copied and array.flags.c_contiguous:
        return array.tobytes()
    data: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return data


def _converted(spec: TensorSpec, value: Any, dtype: "np.dtype[Any]") -> Array:
    """Return what is no array yet (numbers, lists, tensors of other libraries) as an array."""
    try:
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise invalid(f"the input {spec.name!r} cannot be read as {spec.dtype}: {error}") from None
