"""The controller process: workers that come and go, telemetry, console lines, signals, bugs."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop
from telemetry_records import action
from telemetry_records import request as request_record
from wire_stage import LOCALHOST, Port, PretendedRole, dial

import clockwork
from clockwork.live.addresses import Address, parse_address, parse_addresses
from clockwork.live.controller_program import ControllerProgram, ControllerProgramConfig
from clockwork.live.vocabulary import AT_WORKER
from clockwork.messages.actions import ClearCacheDone, GetWorkerState
from clockwork.messages.controller_io import (
    ControllerEffect,
    ControllerEvent,
    FromWorker,
    Say,
    ToWorker,
    WorkerConnected,
    WorkerLost,
)
from clockwork.messages.ids import ActionId, WorkerId
from clockwork.messages.records import Record
from clockwork.messages.requests import LsRequest
from clockwork.messages.role import Wakeup
from clockwork.units import MS

STAGE = Path(__file__).parent.parent
PROGRAM = """
import sys
from wire_stage import LOCALHOST, PretendedRole
from clockwork.live.addresses import Address
from clockwork.live.controller_program import ControllerProgramConfig, run_controller
from clockwork.live.process import say

class Sink:
    def add(self, record): pass
    def close(self): say("sink closed")

class Role(PretendedRole):
    def handle(self, batch, now_ns):
        if {is_broken} and "FromClient" in [type(event).__name__ for event in batch]:
            raise AssertionError("3 pages are missing")
        return super().handle(batch, now_ns)

config = ControllerProgramConfig(
    workers=(Address(LOCALHOST, 1),), host=LOCALHOST, port=0, interval_ns=1_000_000
)
sys.exit(run_controller(config, Role(), sinks=[Sink()]))
"""


class Events:
    """A role that keeps events, and sends what the test wants when a worker comes."""

    def __init__(self, effects: Sequence[ControllerEffect] = ()) -> None:
        self.events: list[ControllerEvent] = []
        self.changed = asyncio.Event()
        self.wakeup_ns = None
        self._effects = list(effects)

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Keep the batch; answer a worker's coming."""
        self.events += [event for event in batch if not isinstance(event, Wakeup)]
        self.changed.set()
        is_coming = any(isinstance(event, WorkerConnected) for event in batch)
        return self._effects if is_coming else []

    def check(self) -> None:
        """Nothing can be wrong."""

    async def wait_for(self, count: int) -> list[ControllerEvent]:
        """Return the events once there are `count` of them."""
        while len(self.events) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.events


class Sink:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_closed = False

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)

    def close(self) -> None:
        """Keep that all is over."""
        self.is_closed = True


def config_for(*ports: int, interval_ns: int = 1000 * MS) -> ControllerProgramConfig:
    """Return a configuration with workers at these ports."""
    workers = tuple(Address(LOCALHOST, port) for port in ports)
    return ControllerProgramConfig(workers=workers, host=LOCALHOST, port=0, interval_ns=interval_ns)


def test_a_worker_comes_answers_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """The role learns of each step, and the console tells them."""

    async def scenario() -> None:
        async with Port(AT_WORKER) as port:
            role = Events([ToWorker(WorkerId(0), GetWorkerState(ActionId(7)), ())])
            program = ControllerProgram(config_for(port.port), role)
            await program.start()
            client_port = program.port
            worker, heard = await port.accepted()
            assert await heard.wait_for(1) == [(GetWorkerState(ActionId(7)), b"")]
            done = ClearCacheDone(ActionId(7), 1, 2)
            worker.send(done, (b"xyz",))
            events = await role.wait_for(2)
            assert events[0] == WorkerConnected(WorkerId(0))
            assert isinstance(events[1], FromWorker)
            assert (events[1].message, bytes(events[1].payload)) == (done, b"xyz")
            worker.refuse("maintenance")
            lost = (await role.wait_for(3))[2]
            assert isinstance(lost, WorkerLost)
            assert "maintenance" in lost.reason
            assert (await role.wait_for(4))[3] == WorkerConnected(WorkerId(0))
            await program.close()
            address = f"{LOCALHOST}:{port.port}"
            assert capsys.readouterr().out.splitlines() == [
                f"IO service thread listening for clients on {LOCALHOST}:{client_port}",
                f"Connecting to worker {address}",
                "Connection established",
                f"Closing connection {address}, reason: {lost.reason}",
                "Connection established",
                f"Closing connection {address}, reason: the controller is shutting down",
            ]

    uvloop.run(scenario())


def test_a_worker_that_is_not_there_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The address, the reason and what to do; then it is dialled in silence until it comes."""

    async def scenario() -> None:
        async with Port(AT_WORKER) as port:
            number = port.port
        role = Events()
        program = ControllerProgram(config_for(number), role)
        await program.start()
        out = ""
        while "nobody listens" not in out:
            await asyncio.sleep(0)
            out += capsys.readouterr().out
        assert f"Worker 0: cannot reach {LOCALHOST}:{number}: nobody listens there" in out
        worker = Port(AT_WORKER)
        worker.listen_on = number
        async with worker:
            assert await role.wait_for(1) == [WorkerConnected(WorkerId(0))]
            assert "cannot reach" not in capsys.readouterr().out
            await program.close()

    uvloop.run(scenario())


def test_a_client_at_a_workers_place_is_no_worker(capsys: pytest.CaptureFixture[str]) -> None:
    """Dialling a port that is not a worker's is told once, and no worker is announced."""

    async def scenario() -> None:
        async with Port() as port:
            role = Events()
            program = ControllerProgram(config_for(port.port), role)
            await program.start()
            _, recorder = await port.accepted()
            assert "the peer is a controller" in await recorder.closed
            _, again = await port.accepted()
            await again.closed
            await program.close()
            assert role.events == []
        assert capsys.readouterr().out.count("expected a worker, but the peer is a") == 1

    uvloop.run(scenario())


def test_records_reach_every_sink_and_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    """Telemetry goes out in order, lines come each interval, and sinks are closed at the end."""

    async def scenario() -> None:
        async with Port(AT_WORKER) as port:
            records: list[Record] = [request_record(), action()]
            role = Events([*records, Say("so it is", end="!\n")])
            sinks = [Sink(), Sink()]
            config = config_for(port.port, interval_ns=MS)
            program = ControllerProgram(config, role, sinks=sinks)
            await program.start()
            await role.wait_for(1)
            out = ""
            while "Event loop lag" not in out or "Client throughput" not in out:
                await asyncio.sleep(0)
                out += capsys.readouterr().out
            await program.close()
            assert [sink.records for sink in sinks] == [records, records]
            assert all(sink.is_closed for sink in sinks)
            assert "so it is!" in out
            assert "Network->Workers: " in out

    uvloop.run(scenario())


def test_messages_leave_before_records_of_them_are_kept() -> None:
    """When a sink gets a batch's records, its messages have reached the other side's kernel."""

    async def scenario() -> None:
        async with Port(AT_WORKER) as port:
            waiting_bytes: list[int] = []

            class Watcher(Sink):
                def add(self, record: Record) -> None:
                    # The port is on this loop: it has not had a turn to read in.
                    waiting_bytes.append(port.unread_bytes(-1))

            ask = ToWorker(WorkerId(0), GetWorkerState(ActionId(7)), ())
            role = Events([request_record(), ask, request_record()])
            program = ControllerProgram(config_for(port.port), role, sinks=[Watcher()])
            await program.start()
            await role.wait_for(1)
            await asyncio.sleep(0)
            await program.close()
            assert len(waiting_bytes) == 2
            assert min(waiting_bytes) > 0

    uvloop.run(scenario())


def test_records_of_a_batch_that_fails_are_kept() -> None:
    """What was answered before a bug showed is in the logs."""

    async def scenario() -> None:
        async with Port(AT_WORKER) as port:
            sink = Sink()
            unknown: Any = object()
            role = Events([request_record(), unknown])
            program = ControllerProgram(config_for(port.port), role, sinks=[sink])
            await program.start()
            assert await program.wait() == 1
            await program.close()
            assert sink.records == [request_record()]

    uvloop.run(scenario())


def test_a_port_in_use_is_a_configuration_error() -> None:
    """The message names the port and what to do."""

    async def scenario() -> None:
        async with Port() as port:
            config = ControllerProgramConfig(workers=(), host=LOCALHOST, port=port.port)
            program = ControllerProgram(config, Events())
            with pytest.raises(clockwork.ConfigurationError) as caught:
                await program.start()
            await program.close()
            assert f"port {port.port} on {LOCALHOST} is in use" in str(caught.value)
            assert "--port" in str(caught.value)

    uvloop.run(scenario())


def test_an_address_that_is_not_ours_is_a_configuration_error() -> None:
    """The message names the host."""

    async def scenario() -> None:
        program = ControllerProgram(
            ControllerProgramConfig(workers=(), host="192.0.2.1", port=0), Events()
        )
        with pytest.raises(clockwork.ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0"):
            await program.start()
        await program.close()

    uvloop.run(scenario())


def test_garbage_on_the_client_port_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """The connection closes with one logged reason; the role hears nothing of it."""

    async def scenario() -> None:
        role = PretendedRole()
        program = ControllerProgram(config_for(), role)
        await program.start()
        client, recorder = await dial(program.port)
        await recorder.ready.wait()
        reader, writer = await asyncio.open_connection(LOCALHOST, program.port)
        writer.write(os.urandom(1000))
        await reader.read()
        writer.close()
        await writer.wait_closed()
        client.send(LsRequest(1, 0))
        await recorder.wait_for(1)
        await program.close()
        out = capsys.readouterr().out
        assert out.count("no Clockwork frame") == 1
        assert out.count("Closing connection") == 2
        assert not any(type(event).__name__ == "ClientLost" for event in role.events[:-1])

    uvloop.run(scenario())


class Process:
    """A controller in a process of its own, up to its first lines."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(is_broken=is_broken)],
            cwd=STAGE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "IO service thread listening" in line, line
        self.address = line.split()[-1]

    def end(self) -> tuple[int, list[str], str]:
        """Return exit code, further lines, and what went to stderr."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out.splitlines(), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_in_order(number: int) -> None:
    """Everything is flushed, clients are told why, and the exit code is 0."""
    controller = Process()
    with clockwork.connect(controller.address) as client:
        assert client.models() == []
        controller.process.send_signal(number)
        code, lines, err = controller.end()
    assert code == 0
    assert err == ""
    assert f"Interrupt signal ({int(number)}) received." in lines
    assert lines[-2:] == ["sink closed", "Clockwork Controller Exiting"]
    assert any(line.startswith("Closing connection 127.0.0.1:") for line in lines)


def test_a_bug_of_the_role_ends_the_process_with_1() -> None:
    """The traceback is printed, telemetry is flushed, clients get ConnectionLostError."""
    controller = Process(is_broken=True)
    with (
        clockwork.connect(controller.address, timeout_s=1) as client,
        pytest.raises(clockwork.ConnectionLostError),
    ):
        client.models()
    code, lines, err = controller.end()
    assert code == 1
    assert "AssertionError: 3 pages are missing" in err
    assert lines[-2:] == ["sink closed", "Clockwork Controller Exiting"]


def test_a_console_that_has_gone_is_no_reason_to_stop() -> None:
    """Closing the pipe that reads the lines leaves the controller at work."""
    controller = Process()
    assert controller.process.stdout is not None
    controller.process.stdout.close()
    with clockwork.connect(controller.address) as client:
        assert client.load_model("/models/echo").name == "echo"
    controller.process.terminate()
    assert controller.process.wait(timeout=20) == 0
    assert controller.process.stderr is not None
    controller.process.stderr.close()


def test_addresses_are_read_as_users_write_them() -> None:
    """A port may be left out; hosts may be IPv6; lists must not repeat."""
    assert str(parse_address("gpu7", default_port=5)) == "gpu7:5"
    assert parse_address("[::1]:99", default_port=5) == Address("::1", 99)
    assert str(parse_address("[::1]", default_port=5)) == "[::1]:5"
    assert len(parse_addresses("a:1,b,a:2", default_port=5)) == 3
    with pytest.raises(clockwork.ConfigurationError, match="a:5 is listed twice"):
        parse_addresses("a,b,a:5", default_port=5)
