"""The client for ordinary programs and threads; a thread of its own does the waiting.

::

    with clockwork.connect("localhost:12346") as client:
        model = client.load_model("/models/resnet50")
        inference = model.infer(image, slo_ms=50)
        print(inference["logits"].argmax(), inference.latency_ms)

All methods may be called from any thread. Requests that threads hand over while the client's
thread is busy are fetched in one go, so thousands can be in flight for the price of a few wakings.
"""

import asyncio
import atexit
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from os import PathLike
from threading import Thread, current_thread
from types import TracebackType
from typing import Any, TypeVar

import uvloop

from clockwork.errors import ClockworkError, ConnectionLostError
from clockwork.live.async_client import AsyncClient, AsyncModel
from clockwork.live.client_calls import Call
from clockwork.live.client_requests import (
    DEFAULT_TIMEOUT_S,
    InferOptions,
    inference_of,
    prepare,
)
from clockwork.live.scheduling import answer_promptly
from clockwork.live.tensors import Inference, Inputs
from clockwork.live.uploading import Progress, Upload
from clockwork.messages.models import ModelProfile, TensorSpec, WorkerReport
from clockwork.messages.requests import Response
from clockwork.messages.role import Payload

ResultT = TypeVar("ResultT")


def connect(
    address: str,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    user_id: int = 0,
    compress: bool = False,
    resend: bool = True,
) -> "Client":
    """Return a client of the controller at `address`, waiting until it is there.

    Args:
        address: ``host:port``; the port may be left out.
        timeout_s: patience with a controller that is not there or still starting, now and whenever
            the connection has to be made again.
        user_id: the tenant that requests count for, in the controller's log.
        compress: send inputs as LZ4 blocks, for slow networks.
        resend: when the connection breaks, send requests under way again on the next one, as far as
            their SLO allows; False ends them with ConnectionLostError.

    Raises:
        ConfigurationError: `address` cannot be read, or the lz4 package is not installed.
        ConnectionLostError: no controller was there in time, or it is of another version.
    """
    return Client(address, timeout_s=timeout_s, user_id=user_id, compress=compress, resend=resend)


class Client:
    """A connection to a controller, redialled when it breaks. `clockwork.connect` makes one."""

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        user_id: int = 0,
        compress: bool = False,
        resend: bool = True,
    ) -> None:
        """Connect; see `connect`."""
        self._loop = uvloop.new_event_loop()
        self._thread = Thread(target=self._carry_messages, name="clockwork-client", daemon=True)
        self._thread.start()
        self._is_closed = False
        # Calls of all threads that the loop has not fetched, and whether it was told to.
        self._handed_over: deque[tuple[Call, float | None]] = deque()
        self._is_fetch_due = False
        atexit.register(self.close)
        try:
            self._client = self._await(
                AsyncClient.connect(
                    address,
                    timeout_s=timeout_s,
                    user_id=user_id,
                    compress=compress,
                    resend=resend,
                )
            )
        except BaseException:
            self._stop()
            raise

    def load_model(self, path: str, copies: int = 1) -> "Model":
        """Load a model directory on all workers, and return the model.

        Args:
            path: of the model directory, as the workers see it.
            copies: how many models to make of it; they share code and host memory. The model that
                is returned is the first one, all of them are its `copies`.

        Raises:
            RequestError: the directory is missing, broken or not allowed, or a worker failed.
            ConnectionLostError: the connection broke.
        """
        return Model(self, self.run(self._client.load_model(path, copies)))

    def models(self) -> list["Model"]:
        """Return all models that are loaded, by id.

        Raises:
            ConnectionLostError: the connection broke.
        """
        return [Model(self, model) for model in self.run(self._client.models())]

    def model(self, name_or_id: str | int) -> "Model":
        """Return the loaded model with this id, directory name or path.

        Raises:
            InvalidRequestError: there is none.
            ConnectionLostError: the connection broke.
        """
        return Model(self, self.run(self._client.model(name_or_id)))

    def upload(
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
            progress: is told how many bytes of how many have arrived, on the client's thread.

        Raises:
            ModelError: the directory is no model, or damaged.
            InvalidRequestError: the name cannot be that of a model.
            RequestError: a worker refused it; nothing is left of it there.
            ConnectionLostError: the connection broke; nothing is left anywhere.
        """
        return self.run(self._client.upload(directory, name=name, progress=progress))

    def workers(self) -> list[WorkerReport]:
        """Return what the controller believes about its workers, by id.

        Raises:
            ConnectionLostError: the connection broke.
        """
        return self.run(self._client.workers())

    def clear_cache(self) -> None:
        """Evict the weights of all models from all GPUs; the models stay loaded.

        Raises:
            FailedError: a worker could not.
            ConnectionLostError: the connection broke.
        """
        self.run(self._client.clear_cache())

    def close(self) -> None:
        """Close the connection; requests under way end with ConnectionLostError."""
        if not self._is_closed:
            self._is_closed = True
            self._await(self._client.close())
            self._stop()

    def __enter__(self) -> "Client":
        """Return the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return what `coroutine` returns on the client's thread."""
        if self._is_closed:
            coroutine.close()
            raise ConnectionLostError("this client is closed")
        return self._await(coroutine)

    def infer(
        self, model: AsyncModel, inputs: Inputs, options: InferOptions, *, is_copied: bool
    ) -> "Future[Inference]":
        """Return a future of the answer to an inference; what `Model.infer` is made of."""
        profile = model.info.profile
        request, payloads = prepare(
            self._client.calls.next_id(),
            model.info,
            inputs,
            options,
            habits=self._client.habits,
            is_copied=is_copied,
        )
        future: Future[Inference] = Future()
        # From now on it cannot be cancelled: a request that has been sent cannot be taken back.
        future.set_running_or_notify_cancel()

        def done(outcome: Response | ClockworkError, payload: Payload, latency_ns: int) -> None:
            result = inference_of(profile, outcome, payload, latency_ns)
            if isinstance(result, ClockworkError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._hand_over(Call(request, payloads, done), options.timeout_s)
        return future

    def check_thread(self) -> None:
        """Check that the caller may wait for the client's thread.

        Raises:
            ClockworkError: the caller runs on it, so that both would wait for ever.
        """
        if current_thread() is self._thread:
            raise ClockworkError(
                "callbacks of futures run on the client's own thread, where nothing can be waited "
                "for: use infer_async there, or hand the work to another thread"
            )

    def _carry_messages(self) -> None:
        """What the client's own thread does, until the loop is stopped."""
        answer_promptly()
        self._loop.run_forever()

    def _await(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        try:
            self.check_thread()
        except ClockworkError:
            coroutine.close()
            raise
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _hand_over(self, call: Call, timeout_s: float | None) -> None:
        """Have the client's thread start a call; it is woken once for all that come meanwhile."""
        if self._is_closed:
            raise ConnectionLostError("this client is closed")
        self._handed_over.append((call, timeout_s))
        if not self._is_fetch_due:
            self._is_fetch_due = True
            self._loop.call_soon_threadsafe(self._fetch)

    def _fetch(self) -> None:
        # Reset first: a call that is appended behind the last one seen here wakes us again.
        self._is_fetch_due = False
        while self._handed_over:
            call, timeout_s = self._handed_over.popleft()
            self._client.calls.start(call, timeout_s)

    def _stop(self) -> None:
        self._is_closed = True
        atexit.unregister(self.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for call, _ in self._handed_over:
            call.done(ConnectionLostError("this client is closed"), b"", 0)


class Model:
    """A loaded model; `Client.load_model`, `models` and `model` make them."""

    def __init__(self, client: Client, model: AsyncModel) -> None:
        """Use `Client.load_model` or `Client.model` instead."""
        self._client = client
        self._model = model

    @property
    def model_id(self) -> int:
        """The number that the logs show."""
        return self._model.model_id

    @property
    def name(self) -> str:
        """The name of the model's directory."""
        return self._model.name

    @property
    def source(self) -> str:
        """The path that it was loaded from, as the workers see it."""
        return self._model.source

    @property
    def profile(self) -> ModelProfile:
        """Batch sizes, execution times and sizes, as the workers reported them."""
        return self._model.info.profile

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape (without batch dimension) of each input."""
        return self._model.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape (without batch dimension) of each output."""
        return self._model.outputs

    @property
    def copies(self) -> tuple["Model", ...]:
        """All models that were loaded together with this one, this one included."""
        return tuple(Model(self._client, model) for model in self._model.copies)

    def __repr__(self) -> str:
        """Return id and name."""
        return f"<Model {self.model_id} {self.name}>"

    def infer(
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
        self._client.check_thread()
        return self._client.infer(self._model, inputs, options, is_copied=False).result()

    def infer_async(
        self,
        inputs: Inputs,
        *,
        slo_ms: float | None = None,
        slo_factor: float | None = None,
        timeout_s: float | None = None,
        user_id: int | None = None,
        compress: bool | None = None,
    ) -> "Future[Inference]":
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
        return self._client.infer(self._model, inputs, options, is_copied=True)

    def unload(self) -> None:
        """Have all workers forget this model; its id is never used again."""
        self._client.run(self._model.unload())

    def evict(self) -> None:
        """Evict this model's weights from all GPUs; the next request is a cold start."""
        self._client.run(self._model.evict())
