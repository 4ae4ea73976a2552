"""The shell around the client role, on a controller that pretends."""

import asyncio
import io
import sys

import pytest
from live.system import LOCALHOST
from wire_stage import ControllerThread, PretendedRole, running

from clockwork.client.workload import ClosedLoop, FixedRate, ModelSet, Stream, Workload
from clockwork.errors import ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.load_generator import RunOptions, play
from clockwork.live.sample_inputs import SampleInputs
from clockwork.messages.client_io import ClientSummary, Finished
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, ModelProfile, TensorSpec
from clockwork.messages.requests import InferRequest
from clockwork.messages.status import Status
from clockwork.units import MS, SECOND


def options(port: int, **changes: object) -> RunOptions:
    """Return options for a controller at a port of this machine."""
    return RunOptions(address=Address(LOCALHOST, port), **changes)  # type: ignore[arg-type]


def summary_of(workload: Workload, run_options: RunOptions) -> ClientSummary:
    """Run a workload to its end and return what it says."""
    out = io.StringIO()
    finished = asyncio.run(play(workload, run_options, out=out, stop=asyncio.Event()))
    assert finished.error is None, out.getvalue()
    assert finished.summary is not None
    return finished.summary


def test_inputs_are_sent_and_left_out() -> None:
    """Requests carry an input of the model's size, an LZ4 block of it, or nothing."""
    role = PretendedRole()
    tensors = (TensorSpec("x", "float32", (200,), 4),)
    role.profile = profile_of(tensors)
    stream = Stream((0,), ClosedLoop(1, requests=8))
    workload = Workload("w", (ModelSet("m", "/m"),), (stream,))
    sizes = []
    with running(role) as controller:
        for changes in ({}, {"compresses_inputs": True}, {"sends_inputs": False}):
            before = len(role.events)
            assert summary_of(workload, options(controller.port, **changes)).succeeded == 8
            events = [each for each in role.events[before:] if is_infer(each)]
            sizes.append({(len(each.payload), each.message.is_compressed) for each in events})
    assert sizes[0] == {(800, False)}
    assert all(size < 800 and is_compressed for size, is_compressed in sizes[1])
    assert sizes[2] == {(0, False)}


def is_infer(event: object) -> bool:
    """Return whether an event of a controller is an inference."""
    return isinstance(getattr(event, "message", None), InferRequest)


def profile_of(tensors: tuple[TensorSpec, ...]) -> ModelProfile:
    """Return a model with these inputs."""
    return ModelProfile(
        inputs=tensors, outputs=(), batch_sizes=(1,), exec_ns=(MS,), load_ns=MS,
        weights_bytes=1, weights_pages=1,
    )  # fmt: skip


def test_samples_fit_their_tensors() -> None:
    """Floats lie between 0 and 1, integers are 0 or 1, and equal models share samples."""
    tensors = (TensorSpec("ids", "int64", (3,), 8), TensorSpec("x", "float16", (5,), 2))
    inputs = SampleInputs(0)
    info = ModelInfo(ModelId(4), "/m", profile_of(tensors))
    inputs.learn(info, copies=2)
    (payload,), is_compressed = inputs.take(ModelId(4), 7)
    assert (len(payload), is_compressed) == (34, False)
    assert set(bytes(payload)[:24]) <= {0, 1}
    assert inputs.take(ModelId(5), 3) == inputs.take(ModelId(4), 7)


def test_an_input_that_cannot_be_shortened_is_sent_as_it_is() -> None:
    """A few bytes are no LZ4 block."""
    inputs = SampleInputs(0, compresses=True)
    info = ModelInfo(ModelId(0), "/m", profile_of((TensorSpec("x", "float32", (2,), 4),)))
    inputs.learn(info, copies=1)
    (payload,), is_compressed = inputs.take(ModelId(0), 0)
    assert (len(payload), is_compressed) == (8, False)


def test_refusals_of_the_controller_are_counted_by_status() -> None:
    """Every outcome is in the summary."""
    role = PretendedRole()
    role.outcomes = {0: (Status.COULD_NOT_START_IN_TIME, "busy")}
    streams = (Stream((0,), FixedRate(100.0)), Stream((1,), FixedRate(100.0)))
    workload = Workload("w", (ModelSet("m", "/m", 2),), streams, duration_ns=SECOND // 5)
    with running(role) as controller:
        summary = summary_of(workload, options(controller.port))
    assert summary.statuses == {Status.SUCCESS: 20, Status.COULD_NOT_START_IN_TIME: 20}


def test_a_client_waits_for_a_controller_that_initializes() -> None:
    """The line of the original is printed, and the run begins a second later."""
    role = PretendedRole()
    role.initializing_count = 1
    out = io.StringIO()
    workload = Workload("w", (ModelSet("m", "/m"),), (Stream((0,), ClosedLoop(1, requests=1)),))
    with running(role) as controller:
        run = play(workload, options(controller.port), out=out, stop=asyncio.Event())
        assert asyncio.run(run).error is None
    assert "Clockwork initializing, retrying" in out.getvalue()


def test_a_model_that_cannot_be_loaded_ends_the_run() -> None:
    """The error names the model, its path and the controller's reason."""
    workload = Workload("w", (ModelSet("m", "/missing"),), (Stream((0,), ClosedLoop(1)),))
    with running(PretendedRole()) as controller:
        run = play(workload, options(controller.port), out=io.StringIO(), stop=asyncio.Event())
        finished = asyncio.run(run)
    assert finished.error == "cannot load m from /missing: /missing is not there"
    assert finished.summary is None


def test_a_controller_that_goes_away_ends_the_run() -> None:
    """What was counted until then is still told."""

    role = PretendedRole()
    controller = ControllerThread(role)
    workload = Workload("w", (ModelSet("m", "/m"),), (Stream((0,), FixedRate(1000.0)),))

    async def lose() -> Finished:
        run = play(workload, options(controller.port), out=io.StringIO(), stop=asyncio.Event())
        running = asyncio.ensure_future(run)
        # LoadModel, LS and a few inferences.
        for _ in range(10):
            await asyncio.to_thread(role.arrived.acquire)
        await asyncio.to_thread(controller.stop)
        return await running

    controller.start()
    finished = asyncio.run(lose())
    assert finished.error is not None
    assert finished.error.startswith("connection to the controller lost: ")
    assert finished.summary is not None
    assert finished.summary.sent >= 8


def test_a_closed_port_is_told_before_anything_is_sent() -> None:
    """The error names the address."""
    workload = Workload("w", (), ())
    with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1"):
        asyncio.run(play(workload, options(1), out=sys.stderr, stop=asyncio.Event()))
