"""Clockwork: predictable multi-tenant model serving.

::

    import clockwork

    with clockwork.connect("localhost:12346") as client:
        model = client.model("resnet50")
        inference = model.infer(image, slo_ms=50)

The clients are imported when they are asked for: roles and simulator need none of what they need.
"""

from typing import TYPE_CHECKING, Any

from clockwork.errors import (
    ClockworkError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineError,
    FailedError,
    InitializingError,
    InvalidRequestError,
    ModelError,
    ProtocolError,
    RejectedError,
    RequestError,
    TimedOutError,
)

if TYPE_CHECKING:
    from clockwork.live.async_client import AsyncClient, AsyncModel
    from clockwork.live.client import Client, Model, connect
    from clockwork.live.tensors import Inference

__all__ = [
    "AsyncClient",
    "AsyncModel",
    "Client",
    "ClockworkError",
    "ConfigurationError",
    "ConnectionLostError",
    "DeadlineError",
    "FailedError",
    "Inference",
    "InitializingError",
    "InvalidRequestError",
    "Model",
    "ModelError",
    "ProtocolError",
    "RejectedError",
    "RequestError",
    "TimedOutError",
    "connect",
]

_LATE = {
    "AsyncClient": "clockwork.live.async_client",
    "AsyncModel": "clockwork.live.async_client",
    "Client": "clockwork.live.client",
    "Inference": "clockwork.live.tensors",
    "Model": "clockwork.live.client",
    "connect": "clockwork.live.client",
}


def __getattr__(name: str) -> Any:
    """Return a public name whose module was not imported yet."""
    if name not in _LATE:
        raise AttributeError(f"module 'clockwork' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LATE[name]), name)
