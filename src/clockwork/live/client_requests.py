"""What the synchronous and the asynchronous client say alike: requests out of Python arguments."""

import difflib
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from clockwork.engines.compression import compress
from clockwork.errors import ClockworkError, FailedError
from clockwork.live.outcomes import invalid
from clockwork.live.tensors import Inference, Inputs, pack, unpack
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, ModelProfile
from clockwork.messages.requests import InferRequest, InferResponse, Response
from clockwork.messages.role import Payload
from clockwork.units import MS

DEFAULT_PORT: Final = 12346
"""Where a controller listens for clients unless told otherwise (the original's port)."""
DEFAULT_TIMEOUT_S: Final = 30.0
"""Patience with a controller that starts; chosen: twice the longest bounce of a request (12 s)."""


class InferOptions(Struct, frozen=True, kw_only=True):
    """What a caller may say about one inference besides its inputs; None: the default."""

    # The promised time from arrival to response.
    slo_ms: float | None = None
    # The same as a multiple of the model's execution time.
    slo_factor: float | None = None
    # How long the caller waits for the answer.
    timeout_s: float | None = None
    user_id: int | None = None
    # Send the input as an LZ4 block.
    compress: bool | None = None


class Habits(Struct, frozen=True, kw_only=True):
    """What a client does unless a call says otherwise."""

    user_id: int = 0
    compress: bool = False


def prepare(
    user_request_id: int,
    info: ModelInfo,
    inputs: Inputs,
    options: InferOptions,
    *,
    habits: Habits,
    is_copied: bool,
) -> tuple[InferRequest, Sequence[Payload]]:
    """Return the request for one inference, and its payload in pieces.

    Args:
        user_request_id: its number.
        info: the model to run.
        inputs: what the caller handed in.
        options: checked here.
        habits: count where `options` says nothing.
        is_copied: whether the caller may change its arrays before they are sent.

    Raises:
        InvalidRequestError: the inputs are not the model's, or an option makes no sense.
        ConfigurationError: the lz4 package is needed and not installed.
    """
    payloads: Sequence[Payload] = pack(info.profile, inputs, is_copied=is_copied)
    request = infer_request(user_request_id, info.model_id, options, user_id=habits.user_id)
    if payloads and (habits.compress if options.compress is None else options.compress):
        block = compress(payloads)
        if block is not None:
            return replace(request, is_compressed=True), (block,)
    return request, payloads


def infer_request(
    user_request_id: int, model_id: ModelId, options: InferOptions, *, user_id: int
) -> InferRequest:
    """Return the request for one inference.

    Args:
        user_request_id: its number.
        model_id: what to run.
        options: checked here.
        user_id: the tenant if `options` names none.

    Raises:
        InvalidRequestError: two kinds of SLO are given, or a number is not positive.
    """
    slo_ms, slo_factor = options.slo_ms, options.slo_factor
    if slo_ms is not None and slo_factor is not None:
        raise invalid("slo_ms and slo_factor are both given: choose one")
    for name in ("slo_ms", "slo_factor", "timeout_s"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise invalid(f"{name} is {value}: give a number above 0, or leave it out")
    return InferRequest(
        user_request_id=user_request_id,
        user_id=user_id if options.user_id is None else options.user_id,
        model_id=model_id,
        # At least 1: on the wire 0 stands for the default.
        slo_ns=max(round(slo_ms * MS), 1) if slo_ms is not None else 0,
        slo_factor=slo_factor or 0.0,
    )


def inference_of(
    profile: ModelProfile, outcome: Response | ClockworkError, payload: Payload, latency_ns: int
) -> Inference | ClockworkError:
    """Return what a caller gets for an inference: outputs with figures, or why there are none."""
    if not isinstance(outcome, InferResponse):
        assert isinstance(outcome, ClockworkError), f"{outcome} answers an inference"
        return outcome
    try:
        return Inference(unpack(profile, payload), outcome, latency_ns)
    except FailedError as error:
        return error


def model_name(info: ModelInfo) -> str:
    """Return how users call a model: the name of its directory."""
    return PurePath(info.source).name


def find_model(infos: Sequence[ModelInfo], name_or_id: str | int) -> ModelInfo:
    """Return the model with this id, name or path; the first copy where there are several.

    Raises:
        InvalidRequestError: there is none; the message names those that are close.
    """
    for info in infos:
        if name_or_id in (info.model_id, model_name(info), info.source):
            return info
    names = sorted({model_name(info) for info in infos})
    near = difflib.get_close_matches(str(name_or_id), names, cutoff=0.5) or names[:20]
    hint = f"did you mean {', '.join(near)}?" if near else "no model is loaded"
    raise invalid(f"there is no model {name_or_id!r}: {hint}")


def copies_of(info: ModelInfo, copies: int) -> list[ModelInfo]:
    """Return the infos of all copies that one LoadModel made, given the first one's."""
    return [
        ModelInfo(model_id=ModelId(info.model_id + index), source=info.source, profile=info.profile)
        for index in range(copies)
    ]
