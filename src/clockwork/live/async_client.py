"""The client for asyncio programs: thousands of requests in flight on one connection.

::

    async with await AsyncClient.connect("localhost:12346") as client:
        model = await client.load_model("/models/resnet50")
        inference = await model.infer(image, slo_ms=50)
        print(inference["logits"].argmax(), inference.latency_ms)

A client belongs to the event loop on which it was connected.
"""

import asyncio
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from clockwork.engines.compression import require_lz4
from clockwork.errors import ClockworkError
from clockwork.live.addresses import parse_address
from clockwork.live.client_calls import Call, Calls
from clockwork.live.client_requests import (
    DEFAULT_PORT,
    DEFAULT_TIMEOUT_S,
    Habits,
    InferOptions,
    copies_of,
    find_model,
    inference_of,
    model_name,
    prepare,
)
from clockwork.live.outcomes import invalid
from clockwork.live.tensors import Inference, Inputs
from clockwork.live.uploading import Ask, Progress, Upload, upload
from clockwork.messages.models import ModelInfo, TensorSpec, WorkerReport
from clockwork.messages.requests import (
    ClearCacheRequest,
    DoneResponse,
    EvictRequest,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    Request,
    Response,
    UnloadModelRequest,
    WorkersRequest,
    WorkersResponse,
)
from clockwork.messages.role import Payload

ResponseT = TypeVar("ResponseT", LoadModelResponse, LsResponse, DoneResponse, WorkersResponse)


class AsyncClient:
    """A connection to a controller, redialled when it breaks. `connect` makes one."""

    def __init__(self, calls: Calls, habits: Habits) -> None:
        """Use `AsyncClient.connect` instead."""
        self.calls = calls
        self.habits = habits

    @classmethod
    async def connect(
        cls,
        address: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        user_id: int = 0,
        compress: bool = False,
        resend: bool = True,
    ) -> "AsyncClient":
        """Return a client of the controller at `address`, waiting until it is there.

        Args:
            address: ``host:port``; the port may be left out.
            timeout_s: patience with a controller that is not there or still starting, now and
                whenever the connection has to be made again.
            user_id: the tenant that requests count for, in the controller's log.
            compress: send inputs as LZ4 blocks, for slow networks.
            resend: when the connection breaks, send requests under way again on the next one, as
                far as their SLO allows; False ends them with ConnectionLostError.

        Raises:
            ConfigurationError: `address` cannot be read, or the lz4 package is not installed.
            ConnectionLostError: no controller was there in time, or it is of another version.
        """
        if compress:
            require_lz4()
        where = parse_address(address, default_port=DEFAULT_PORT)
        calls = Calls(where, timeout_s=timeout_s, resend=resend)
        await calls.connect()
        return cls(calls, Habits(user_id=user_id, compress=compress))

    async def load_model(self, path: str, copies: int = 1) -> "AsyncModel":
        """Load a model directory on all workers, and return the model.

        Args:
            path: of the model directory, as the workers see it.
            copies: how many models to make of it; they share code and host memory. The model that
                is returned is the first one, all of them are its `copies`.

        Raises:
            RequestError: the directory is missing, broken or not allowed, or a worker failed.
            ConnectionLostError: the connection broke.
        """
        if copies < 1:
            raise invalid(f"copies is {copies}: load at least one")
        request = LoadModelRequest(self.calls.next_id(), self.habits.user_id, str(path), copies)
        response = await self._call(request, LoadModelResponse)
        assert response.model is not None, "success without a model"
        models = [AsyncModel(self, info) for info in copies_of(response.model, response.copies)]
        for model in models:
            model.copies = tuple(models)
        return models[0]

    async def models(self) -> list["AsyncModel"]:
        """Return all models that are loaded, by id.

        Raises:
            ConnectionLostError: the connection broke.
        """
        response = await self._call(
            LsRequest(self.calls.next_id(), self.habits.user_id), LsResponse
        )
        return [AsyncModel(self, info) for info in response.models]

    async def model(self, name_or_id: str | int) -> "AsyncModel":
        """Return the loaded model with this id, directory name or path.

        Raises:
            InvalidRequestError: there is none.
            ConnectionLostError: the connection broke.
        """
        infos = [model.info for model in await self.models()]
        return AsyncModel(self, find_model(infos, name_or_id))

    async def upload(
        self,
        directory: str | PathLike[str],
        *,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> Upload:
        """Send a model directory of this machine to all workers that lack it.

        Args:
            directory: of the model.
            name: what it will be called there, for `load_model`; None: as the directory is.
            progress: is told how many bytes of how many have arrived.

        Raises:
            ModelError: the directory is no model, or damaged.
            InvalidRequestError: the name cannot be that of a model.
            RequestError: a worker refused it; nothing is left of it there.
            ConnectionLostError: the connection broke; nothing is left anywhere.
        """
        ask = Ask(self.calls.next_id, self.habits.user_id, self._ask)
        return await upload(ask, Path(directory), name=name, progress=progress)

    async def workers(self) -> list[WorkerReport]:
        """Return what the controller believes about its workers, by id.

        Raises:
            ConnectionLostError: the connection broke.
        """
        request = WorkersRequest(self.calls.next_id(), self.habits.user_id)
        return list((await self._call(request, WorkersResponse)).workers)

    async def clear_cache(self) -> None:
        """Evict the weights of all models from all GPUs; the models stay loaded.

        Raises:
            FailedError: a worker could not.
            ConnectionLostError: the connection broke.
        """
        await self._call(ClearCacheRequest(self.calls.next_id(), self.habits.user_id), DoneResponse)

    async def close(self) -> None:
        """Close the connection; requests under way end with ConnectionLostError."""
        await self.calls.close()

    async def __aenter__(self) -> "AsyncClient":
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def unload(self, info: ModelInfo) -> None:
        """Have all workers forget a model."""
        request = UnloadModelRequest(self.calls.next_id(), self.habits.user_id, info.model_id)
        await self._call(request, DoneResponse)

    async def evict(self, info: ModelInfo) -> None:
        """Evict a model's weights from all GPUs."""
        request = EvictRequest(self.calls.next_id(), self.habits.user_id, info.model_id)
        await self._call(request, DoneResponse)

    async def _call(self, request: Request, kind: type[ResponseT]) -> ResponseT:
        response = await self._ask(request, b"")
        assert isinstance(response, kind), f"{type(response).__name__} answers {request}"
        return response

    async def _ask(self, request: Request, payload: Payload) -> Response:
        """Return the successful response to a request, or raise."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(outcome: Response | ClockworkError, payload: Payload, latency_ns: int) -> None:
            _settle(future, outcome)

        self.calls.start(Call(request, (payload,) if payload else (), done))
        response: Response = await future
        return response


class AsyncModel:
    """A loaded model; `AsyncClient.load_model`, `models` and `model` make them.

    Attributes:
        info: id, path and profile.
        copies: all models that were loaded together with this one, this one included.
    """

    def __init__(self, client: AsyncClient, info: ModelInfo) -> None:
        """Use `AsyncClient.load_model` or `AsyncClient.model` instead."""
        self._client = client
        self.info = info
        self.copies: tuple[AsyncModel, ...] = (self,)

    @property
    def model_id(self) -> int:
        """The number that the logs show."""
        return self.info.model_id

    @property
    def name(self) -> str:
        """The name of the model's directory."""
        return model_name(self.info)

    @property
    def source(self) -> str:
        """The path that it was loaded from, as the workers see it."""
        return self.info.source

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape (without batch dimension) of each input."""
        return self.info.profile.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape (without batch dimension) of each output."""
        return self.info.profile.outputs

    def __repr__(self) -> str:
        """Return id and name."""
        return f"<AsyncModel {self.model_id} {self.name}>"

    async def infer(
        self,
        inputs: Inputs,
        *,
        slo_ms: float | None = None,
        slo_factor: float | None = None,
        timeout_s: float | None = None,
        user_id: int | None = None,
        compress: bool | None = None,
    ) -> Inference:
        """Run one inference, and return its outputs by name.

        Args:
            inputs: an array for a model with one input, else arrays by name; shapes without batch
                dimension, or with one of 1. None sends no input: the worker makes one up.
            slo_ms: the promised time from arrival to response; None: the controller's default.
            slo_factor: the same as a multiple of the model's execution time.
            timeout_s: how long to wait for the answer; None: until it comes, which it always does.
            user_id: the tenant; None: the client's.
            compress: send the input as an LZ4 block, for slow networks; None: as the client does.

        Raises:
            InvalidRequestError: a name, shape, dtype or number is wrong.
            ConfigurationError: the lz4 package is needed and not installed.
            RejectedError: it could not have been finished in time.
            TimedOutError: it was too late, or not answered within `timeout_s`.
            FailedError: a worker failed and no other could take over.
            ConnectionLostError: the connection broke before the answer came.
        """
        options = InferOptions(
            slo_ms=slo_ms,
            slo_factor=slo_factor,
            timeout_s=timeout_s,
            user_id=user_id,
            compress=compress,
        )
        return await self._infer(inputs, options, is_copied=False)

    def infer_async(
        self,
        inputs: Inputs,
        *,
        slo_ms: float | None = None,
        slo_factor: float | None = None,
        timeout_s: float | None = None,
        user_id: int | None = None,
        compress: bool | None = None,
    ) -> "asyncio.Future[Inference]":
        """Return a future of what `infer` returns; the arrays may be changed at once.

        Raises:
            InvalidRequestError: a name, shape, dtype or number is wrong.
        """
        options = InferOptions(
            slo_ms=slo_ms,
            slo_factor=slo_factor,
            timeout_s=timeout_s,
            user_id=user_id,
            compress=compress,
        )
        return self._infer(inputs, options, is_copied=True)

    async def unload(self) -> None:
        """Have all workers forget this model; its id is never used again."""
        await self._client.unload(self.info)

    async def evict(self) -> None:
        """Evict this model's weights from all GPUs; the next request is a cold start."""
        await self._client.evict(self.info)

    def _infer(
        self, inputs: Inputs, options: InferOptions, *, is_copied: bool
    ) -> "asyncio.Future[Inference]":
        client, profile = self._client, self.info.profile
        request, payloads = prepare(
            client.calls.next_id(),
            self.info,
            inputs,
            options,
            habits=client.habits,
            is_copied=is_copied,
        )
        future: asyncio.Future[Inference] = asyncio.get_running_loop().create_future()

        def done(outcome: Response | ClockworkError, payload: Payload, latency_ns: int) -> None:
            _settle(future, inference_of(profile, outcome, payload, latency_ns))

        client.calls.start(Call(request, payloads, done), options.timeout_s)
        return future


def _settle(future: "asyncio.Future[Any]", outcome: object) -> None:
    """Complete a future unless its owner has cancelled it."""
    if future.cancelled():
        return
    if isinstance(outcome, ClockworkError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
