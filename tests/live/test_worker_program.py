"""The worker process: its port, its controllers, its clock, its end."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from device_stage import load_model, save_model
from wire_stage import Recorder, dial
from worker_stage import get_state, infer, load_weights

from clockwork.errors import ConfigurationError
from clockwork.live.clock import now_ns
from clockwork.live.options import WORKER_DUMMY, WorkerSettings, resolve_settings, worker_settings
from clockwork.live.vocabulary import CONTROLLER_TO_WORKER, Leaving
from clockwork.live.wire import Connection
from clockwork.live.worker_program import WorkerProgram
from clockwork.messages.actions import InferDone, WorkerStateDone
from clockwork.units import MS

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model directory with measurements."""
    return save_model(tmp_path_factory.mktemp("models"))


def settings(**flags: object) -> WorkerSettings:
    """Return settings for a free local port."""
    flags = {"host": "127.0.0.1", "port": 0, **flags}
    return worker_settings(resolve_settings(WORKER_DUMMY, flags=flags, environ={}, config=None))


def play(
    scenario: Callable[[WorkerProgram], Awaitable[None]],
    *,
    is_emulated: bool = True,
    **flags: object,
) -> None:
    """Run a scenario with a worker that listens, and end it as a signal would."""

    async def whole() -> None:
        program = WorkerProgram(settings(**flags), is_emulated=is_emulated)
        await program.start()
        wait = asyncio.ensure_future(program.wait())
        try:
            await asyncio.wait_for(scenario(program), PATIENCE_S)
            program.interrupt()
            assert await asyncio.wait_for(wait, PATIENCE_S) == 0
        finally:
            await program.close()

    uvloop.run(whole())


async def controller(program: WorkerProgram) -> tuple[Connection, Recorder]:
    """Return a controller's connection that is ready."""
    connection, recorder = await dial(program.port, CONTROLLER_TO_WORKER)
    await recorder.ready.wait()
    return connection, recorder


@pytest.mark.parametrize("is_emulated", [True, False])
def test_actions_get_results_over_the_wire(model: Path, is_emulated: bool) -> None:
    """Load, warm and run; the output follows its result."""

    async def scenario(program: WorkerProgram) -> None:
        connection, recorder = await controller(program)
        connection.send(load_model(model))
        await recorder.wait_for(1)
        connection.send(load_weights(action=1))
        await recorder.wait_for(2)
        connection.send(infer(action=2), (bytes(64), bytes(64)))
        (_, _, (result, output)) = await recorder.wait_for(3)
        assert isinstance(result, InferDone)
        assert output == bytes(256)

    flags = {"weights_cache_size": "1MiB", "weights_cache_page_size": "64KiB"}
    play(scenario, is_emulated=is_emulated, **flags)


def test_times_of_results_are_in_the_clock_of_the_controller(model: Path) -> None:
    """Both are in this process here, so that nothing may be shifted by more than its journey."""

    async def scenario(program: WorkerProgram) -> None:
        connection, recorder = await controller(program)
        connection.send(load_model(model))
        connection.send(get_state(action=1))
        await recorder.wait_for(2)
        connection.send(load_weights(action=2))
        await recorder.wait_for(3)
        sent_ns = now_ns()
        connection.send(infer(action=3, earliest=sent_ns + 10 * MS), (bytes(128),))
        result, _ = (await recorder.wait_for(4))[3]
        received_ns = now_ns()
        assert isinstance(result, InferDone)
        slack_ns = received_ns - sent_ns - result.exec.duration_ns
        assert sent_ns + 10 * MS - slack_ns <= result.exec.begin_ns
        assert result.exec.end_ns <= received_ns + slack_ns

    play(scenario)


def test_a_second_controller_is_refused_with_the_reason() -> None:
    """The first one goes on."""

    async def scenario(program: WorkerProgram) -> None:
        connection, recorder = await controller(program)
        _, second = await controller(program)
        reason = await second.closed
        assert "this worker serves the controller at 127.0.0.1:" in reason
        connection.send(get_state())
        assert len(await recorder.wait_for(1)) == 1

    play(scenario)


def test_a_new_controller_finds_what_the_last_one_left(model: Path) -> None:
    """Models and warm weights stay; results of the lost controller do not reach the next."""

    async def scenario(program: WorkerProgram) -> None:
        connection, recorder = await controller(program)
        connection.send(load_model(model))
        await recorder.wait_for(1)
        connection.send(load_weights(action=1))
        await recorder.wait_for(2)
        connection.send(infer(action=2), (bytes(128),))
        connection.send(get_state(action=3))
        await recorder.wait_for(3)
        connection.close("the test wants it")
        second, recorder = await next_controller(program)
        second.send(infer(action=9), (bytes(128),))
        second.send(get_state(action=4))
        messages = await recorder.wait_for(2)
        assert [message.action_id for message, _ in messages] == [4, 9]
        state = messages[0][0]
        assert isinstance(state, WorkerStateDone)
        assert [info.model_id for info in state.state.models] == [0]
        assert state.state.gpus[0].warm == (0,)

    play(scenario)


async def next_controller(program: WorkerProgram) -> tuple[Connection, Recorder]:
    """Return a controller that is taken; until the last one's end is seen, it is refused."""
    while True:
        connection, recorder = await controller(program)
        connection.send(get_state(action=100))
        taken = asyncio.ensure_future(recorder.wait_for(1))
        await asyncio.wait([taken, recorder.closed], return_when=asyncio.FIRST_COMPLETED)
        if taken.done():
            recorder.messages.clear()
            return connection, recorder
        taken.cancel()


def test_garbage_closes_its_connection_and_nothing_else(model: Path) -> None:
    """The worker stays for the next one."""

    async def scenario(program: WorkerProgram) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", program.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
        await reader.read()
        writer.close()
        connection, recorder = await controller(program)
        connection.send(get_state())
        assert len(await recorder.wait_for(1)) == 1

    play(scenario)


def test_interrupting_cancels_finishes_and_says_goodbye(model: Path) -> None:
    """All that was asked for is answered before the connection closes."""

    async def scenario(program: WorkerProgram) -> None:
        connection, recorder = await controller(program)
        connection.send(load_model(model))
        await recorder.wait_for(1)
        connection.send(load_weights(action=1))
        await recorder.wait_for(2)
        for action in (2, 3):
            connection.send(infer(action=action), (bytes(128),))
        connection.send(get_state(action=4))
        await recorder.wait_for(3)
        program.interrupt()
        messages = [message for message, _ in await recorder.wait_for(6)]
        assert isinstance(messages[3], Leaving)
        del messages[3]
        assert [message.action_id for message in messages] == [0, 1, 4, 3, 2]

    async def whole() -> None:
        program = WorkerProgram(settings(), is_emulated=True)
        await program.start()
        wait = asyncio.ensure_future(program.wait())
        await asyncio.wait_for(scenario(program), PATIENCE_S)
        assert await wait == 0
        program.interrupt()
        await program.close()

    uvloop.run(whole())


def test_a_port_in_use_is_named() -> None:
    """The message says what to do."""

    async def scenario(program: WorkerProgram) -> None:
        second = WorkerProgram(settings(port=program.port), is_emulated=True)
        with pytest.raises(ConfigurationError, match=f"port {program.port} on 127.0.0.1 is in use"):
            await second.start()
        await second.close()

    play(scenario)


def test_a_cache_without_a_page_is_a_mistake() -> None:
    """Both figures are named."""

    async def whole() -> None:
        with pytest.raises(ConfigurationError, match=r"1MiB, less than one page of 16MiB"):
            WorkerProgram(settings(weights_cache_size="1MiB"), is_emulated=True)

    uvloop.run(whole())


def test_the_interval_line_is_printed_while_a_controller_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its shape is that of the original."""

    async def scenario(program: WorkerProgram) -> None:
        connection, recorder = await controller(program)
        connection.send(get_state())
        await recorder.wait_for(1)
        printed = ""
        while "|| Total Pending=0  Errors=0" not in printed:
            connection.send(get_state())
            await recorder.wait_for(len(recorder.messages) + 1)
            printed += capsys.readouterr().out
        assert "Clock Skew=" in printed
        assert "Received A0:GetWorkerState" in printed

    play(scenario, interval="5ms")


PROGRAM = """
import sys
from clockwork.live.options import WORKER_DUMMY, resolve_settings, worker_settings
from clockwork.live.worker_program import run_worker
flags = {"host": "127.0.0.1", "port": 0}
settings = worker_settings(resolve_settings(WORKER_DUMMY, flags=flags, environ={}, config=None))
sys.exit(run_worker(settings, is_emulated=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_with_zero(number: signal.Signals) -> None:
    """It says what it does from the first to the last line."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Starting Clockwork Worker\n"
        assert process.stdout.readline().startswith("IO service thread listening on 127.0.0.1:")
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert rest == f"Interrupt signal ({int(number)}) received.\nClockwork Worker Exiting\n"
