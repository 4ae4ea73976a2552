"""The Python clients against a controller that pretends: answers, errors, many at once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import uvloop
from wire_stage import LOCALHOST, ControllerThread, PretendedRole, profile, running

import clockwork
from clockwork.messages.controller_io import FromClient
from clockwork.messages.models import TensorSpec
from clockwork.messages.requests import OVERLOADED, EvictRequest, InferRequest, UnloadModelRequest
from clockwork.messages.status import Status
from clockwork.parts.throttle import OVERLOADS_MIN

X = np.array([1, 2, 3], np.float32)


@pytest.fixture
def role() -> PretendedRole:
    """A role that gives back inputs."""
    return PretendedRole()


@pytest.fixture
def controller(role: PretendedRole) -> Iterator[ControllerThread]:
    """A controller with that role."""
    with running(role) as controller:
        yield controller


@pytest.fixture
def client(controller: ControllerThread) -> Iterator[clockwork.Client]:
    """A client of that controller."""
    with clockwork.connect(f"{LOCALHOST}:{controller.port}", timeout_s=5) as client:
        yield client


def requests_of(role: PretendedRole, kind: type) -> list[Any]:
    """Return the requests of a kind that arrived."""
    return [
        event.message
        for event in role.events
        if isinstance(event, FromClient) and isinstance(event.message, kind)
    ]


def test_an_inference_gives_arrays_and_figures(client: clockwork.Client) -> None:
    """Outputs come by name, with the latency here and there, batch size and warmth."""
    inference = client.load_model("/models/echo").infer(X, slo_ms=50)
    assert list(inference) == ["y"]
    assert len(inference) == 1
    assert inference["y"].dtype == np.float32
    np.testing.assert_array_equal(inference["y"], X)
    assert inference.server_latency_ms == 2
    assert inference.latency_ms > 0
    assert inference.batch_size == 1
    assert not inference.is_cold_start
    assert "batch of 1, warm" in repr(inference)


def test_what_is_asked_for_is_what_is_sent(client: clockwork.Client, role: PretendedRole) -> None:
    """SLO, factor and tenant reach the controller; defaults are zeros and the client's tenant."""
    model = client.load_model("/models/echo")
    model.infer(X, slo_ms=50)
    model.infer(X, slo_factor=2.5, user_id=7)
    model.infer(X)
    sent = requests_of(role, InferRequest)
    figures = [(each.slo_ns, each.slo_factor, each.user_id) for each in sent]
    assert figures == [(50_000_000, 0.0, 0), (0, 2.5, 7), (0, 0.0, 0)]


@pytest.mark.parametrize("inputs", [X, X[None], [1, 2, 3], {"x": X}, np.repeat(X, 2)[::2]])
def test_inputs_may_look_different(client: clockwork.Client, inputs: object) -> None:
    """An array, one with a batch dimension, a list, a dict, and one that is not contiguous."""
    inference = client.load_model("/models/echo").infer(inputs)  # type: ignore[arg-type]
    np.testing.assert_array_equal(inference["y"], X)


def test_no_input_gives_no_outputs(client: clockwork.Client) -> None:
    """Without an input the worker makes one up, and nothing comes back."""
    assert dict(client.load_model("/models/echo").infer(None)) == {}


@pytest.mark.parametrize(
    ("inputs", "options", "text"),
    [
        (X.astype(np.float64), {}, "dtype float64, the model expects float32: convert it with"),
        (np.zeros((3, 1), np.float32), {}, r"shape \(3, 1\), the model expects \(3,\)"),
        (np.zeros((2, 3), np.float32), {}, r"shape \(2, 3\), the model expects \(3,\)"),
        ({"z": X}, {}, "no input 'z'; its inputs are x"),
        ({}, {}, "the input 'x' is missing"),
        (["a", "b"], {}, "cannot be read as float32"),
        (X, {"slo_ms": 0}, "slo_ms is 0"),
        (X, {"slo_ms": float("inf")}, "slo_ms is inf"),
        (X, {"slo_factor": -1}, "slo_factor is -1"),
        (X, {"timeout_s": 0}, "timeout_s is 0"),
        (X, {"slo_ms": 1, "slo_factor": 1}, "choose one"),
    ],
)
def test_wrong_inputs_are_named(
    client: clockwork.Client, inputs: object, options: dict[str, float], text: str
) -> None:
    """What cannot be served is refused before it is sent, with what would be right."""
    model = client.load_model("/models/echo")
    with pytest.raises(clockwork.InvalidRequestError, match=text):
        model.infer(inputs, **options)  # type: ignore[arg-type]


def test_models_with_several_tensors_take_them_by_name(
    client: clockwork.Client, role: PretendedRole
) -> None:
    """Names decide, not the order of the dict; one array is not enough."""
    role.profile = profile(
        inputs=[TensorSpec("a", "int64", (2,), 8), TensorSpec("b", "uint8", (), 1)],
        outputs=[TensorSpec("c", "int64", (1, 2), 8), TensorSpec("d", "bool", (1,), 1)],
    )
    model = client.load_model("/models/two")
    inference = model.infer({"b": np.uint8(1), "a": np.array([5, 6])})
    np.testing.assert_array_equal(inference["c"], [[5, 6]])
    np.testing.assert_array_equal(inference["d"], [True])
    with pytest.raises(clockwork.InvalidRequestError, match=r"takes 2 inputs \(a, b\)"):
        model.infer(np.array([5, 6]))


@pytest.mark.parametrize(
    ("status", "message", "error", "text"),
    [
        (Status.ERROR, "", clockwork.FailedError, "the controller's log tells more"),
        (Status.TIMEOUT, "", clockwork.TimedOutError, "allow a larger slo_ms"),
        (Status.SKIPPED, "", clockwork.RejectedError, "allow a larger slo_ms"),
        (Status.COULD_NOT_START_IN_TIME, "needs 9 ms", clockwork.RejectedError, "needs 9 ms"),
        (Status.INVALID_REQUEST, "", clockwork.InvalidRequestError, "correct it"),
    ],
)
def test_a_status_is_an_exception_that_says_what_to_do(
    client: clockwork.Client,
    role: PretendedRole,
    status: Status,
    message: str,
    error: type[clockwork.RequestError],
    text: str,
) -> None:
    """The controller's message counts; without one there is advice."""
    model = client.load_model("/models/echo")
    role.outcomes[model.model_id] = (status, message)
    with pytest.raises(error, match=text) as caught:
        model.infer(X)
    assert caught.value.status == status


def test_an_overloaded_controller_is_spared_until_it_has_recovered(
    client: clockwork.Client, role: PretendedRole
) -> None:
    """The client refuses requests itself after some refusals, and sends them again later."""
    model = client.load_model("/models/echo")
    role.outcomes[model.model_id] = (Status.COULD_NOT_START_IN_TIME, OVERLOADED)
    text = ""
    while "did not send" not in text:
        with pytest.raises(clockwork.RejectedError, match="overloaded") as caught:
            model.infer(X)
        text = str(caught.value)
    role.outcomes.clear()
    outputs = None
    while outputs is None:
        with suppress(clockwork.RejectedError):
            outputs = model.infer(X)
    assert (outputs["y"] == X).all()


def test_answers_that_come_too_late_spare_the_controller(
    client: clockwork.Client, role: PretendedRole
) -> None:
    """A client whose answers come after their deadlines refuses a part of its requests itself."""
    model = client.load_model("/models/echo")
    errors: list[str] = []
    while not errors:
        # Many at once: what counts is late answers per second.
        calls = [model.infer_async(X, slo_ms=0.001) for _ in range(100)]
        errors = [str(error) for call in calls if (error := call.exception()) is not None]
    assert all("did not send" in error for error in errors)
    assert len(requests_of(role, InferRequest)) > OVERLOADS_MIN
    outputs = None
    while outputs is None:
        with suppress(clockwork.RejectedError):
            outputs = model.infer(X, slo_ms=60_000)
    assert (outputs["y"] == X).all()


def test_models_are_found_by_id_name_and_path(client: clockwork.Client) -> None:
    """Copies share name and path; the first one is found by them."""
    first = client.load_model("/models/echo", copies=3)
    other = client.load_model("/models/other")
    assert [copy.model_id for copy in first.copies] == [0, 1, 2]
    assert [model.name for model in client.models()] == ["echo", "echo", "echo", "other"]
    assert client.model("echo").model_id == client.model("/models/echo").model_id == 0
    assert client.model(2).name == "echo"
    assert client.model("other").model_id == other.model_id == 3
    assert (first.inputs[0].name, first.outputs[0].shape) == ("x", (3,))
    assert repr(other) == "<Model 3 other>"
    with pytest.raises(clockwork.InvalidRequestError, match="did you mean echo"):
        client.model("ecko")


def test_loading_can_fail(client: clockwork.Client) -> None:
    """The controller's reason is the exception's message."""
    with pytest.raises(clockwork.InvalidRequestError, match="/models/missing is not there"):
        client.load_model("/models/missing")
    with pytest.raises(clockwork.InvalidRequestError, match="copies is 0"):
        client.load_model("/models/echo", copies=0)


def test_models_can_be_evicted_and_unloaded(client: clockwork.Client, role: PretendedRole) -> None:
    """Both name the model, and wait until it is done."""
    model = client.load_model("/models/echo")
    model.evict()
    model.unload()
    assert len(requests_of(role, EvictRequest)) == 1
    assert len(requests_of(role, UnloadModelRequest)) == 1


def test_thousands_of_requests_are_in_flight(
    client: clockwork.Client, role: PretendedRole, controller: ControllerThread
) -> None:
    """All are sent before the first is answered, and each gets its own answer."""
    model = client.load_model("/models/echo")
    role.is_holding = True
    array = X.copy()
    futures: list[Future[clockwork.Inference]] = []
    for number in range(3000):
        array[0] = number
        futures.append(model.infer_async(array))
    for _ in range(3001):
        role.arrived.acquire()
    controller.release_held()
    assert [int(future.result()["y"][0]) for future in futures] == list(range(3000))


def test_threads_share_a_client(client: clockwork.Client) -> None:
    """Answers go to the thread that asked."""
    model = client.load_model("/models/echo")
    wrong: list[int] = []

    def ask(number: int) -> None:
        for _ in range(50):
            if model.infer(np.full(3, number, np.float32))["y"][0] != number:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_two_clients_do_not_mix(client: clockwork.Client, controller: ControllerThread) -> None:
    """Numbers of requests may be equal on two connections."""
    with clockwork.connect(f"{LOCALHOST}:{controller.port}", user_id=9) as other:
        model = client.load_model("/models/echo")
        futures = [
            each.infer_async(X * factor)
            for factor, each in ((1, model), (2, other.model(0)))
            for _ in range(20)
        ]
        firsts = [float(future.result()["y"][0]) for future in futures]
    assert firsts == [1.0] * 20 + [2.0] * 20


def test_callbacks_may_ask_on_but_not_wait(client: clockwork.Client) -> None:
    """Waiting on the client's own thread would never end, and says so; asking is fine."""
    model = client.load_model("/models/echo")
    seen: Future[object] = Future()

    def go_on(done: "Future[clockwork.Inference]") -> None:
        try:
            model.infer(X)
        except clockwork.ClockworkError as error:
            seen.set_result((str(error), model.infer_async(X)))

    model.infer_async(X).add_done_callback(go_on)
    text, future = seen.result(5)  # type: ignore[misc]
    assert "use infer_async there" in text
    np.testing.assert_array_equal(future.result(5)["y"], X)


def test_a_time_limit_ends_the_wait(
    client: clockwork.Client, role: PretendedRole, controller: ControllerThread
) -> None:
    """The caller goes on; an answer that comes later is nobody's."""
    model = client.load_model("/models/echo")
    role.is_holding = True
    with pytest.raises(clockwork.TimedOutError, match=r"no answer within 0.01 s"):
        model.infer(X, timeout_s=0.01)
    controller.release_held()
    np.testing.assert_array_equal(model.infer(X, timeout_s=5)["y"], X)


@pytest.mark.parametrize("runner", [uvloop.run, asyncio.run])
def test_the_asynchronous_client_does_the_same(
    role: PretendedRole,
    controller: ControllerThread,
    runner: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """Loading, finding, inference with many in flight, errors and cancellation."""

    async def scenario() -> None:
        address = f"{LOCALHOST}:{controller.port}"
        async with await clockwork.AsyncClient.connect(address, timeout_s=5) as client:
            model = await client.load_model("/models/echo", copies=2)
            assert [each.model_id for each in model.copies] == [0, 1]
            assert repr(await client.model("echo")) == "<AsyncModel 0 echo>"
            futures = [model.infer_async(X * factor) for factor in range(1000)]
            answers = await asyncio.gather(*futures)
            assert [answer["y"][1] for answer in answers] == [2.0 * f for f in range(1000)]
            np.testing.assert_array_equal((await model.infer(X, slo_ms=20))["y"], X)
            with pytest.raises(clockwork.InvalidRequestError):
                await model.infer(X[:2])
            role.is_holding = True
            abandoned = model.infer_async(X)
            abandoned.cancel()
            with pytest.raises(clockwork.TimedOutError):
                await model.infer(X, timeout_s=0.01)
            await asyncio.to_thread(controller.release_held)
            await model.evict()
            await model.unload()
            assert [each.model_id for each in await client.models()] == [0, 1]

    runner(scenario())
