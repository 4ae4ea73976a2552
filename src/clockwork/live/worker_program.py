"""The worker process: listens for a controller and puts a worker role to work on devices.

One controller at a time. Another is refused with a reason while the first is there; a first one
that died without a word is found out by TCP's keep-alive in about 10 s. Models and warm weights
stay when a controller leaves, for the next one. With `join` the worker does not listen: it dials
the controller, for ever.

Clocks are translated here and nowhere else (SPEC 2.8): windows come in as instants of the
controller's clock and go on as instants of ours; results go the other way.

On SIGTERM the worker drains: it tells its controller, which sends nothing new and closes the
connection when all that was sent has its result (`LEAVE_S` at most). On SIGINT it does not wait for
that: queued actions are cancelled, and the controller has them done elsewhere. Then, in both cases,
running tasks are finished and reported, and the process ends with 0. A second signal does not wait
for devices.

Source: SPEC 1.1, 1.2, 5.10, 6.5.
"""

import asyncio
import signal
import socket
import sys
import traceback
from collections.abc import Coroutine
from typing import Final

import uvloop

from clockwork.live.addresses import parse_address
from clockwork.live.dialling import listen, port_of
from clockwork.live.joining import Joining, default_name, process_name
from clockwork.live.options import WorkerSettings
from clockwork.live.process import calm_garbage_collector, keep_freed_memory, say
from clockwork.live.scheduling import answer_promptly
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import AT_WORKER, Leaving, Message
from clockwork.live.wire import Connection
from clockwork.live.worker_console import WorkerConsole
from clockwork.live.worker_devices import make_devices
from clockwork.messages.role import Payload
from clockwork.messages.worker_io import (
    ActionArrived,
    ControllerLost,
    SendResult,
    Shutdown,
    WorkerEvent,
    WorkerSay,
)
from clockwork.parts.clock_offset import shift_action, shift_result
from clockwork.units import SECOND

GOODBYE: Final = "the worker is shutting down"
CONTROLLER_PORT: Final = 12346
"""Where a controller listens unless told otherwise (the original's port for clients)."""
LEAVE_S: Final = 10.0
"""How long a controller may take to find the end; chosen: longer than anything waits in a queue."""
DRAIN_S: Final = 30.0
"""How long running tasks may take at the end; chosen: the longest load of a large model."""
SWITCH_INTERVAL_S: Final = 100e-6
"""How long a thread may keep the GIL when another wants it; Python's own 5 ms exceed an infer."""

_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A peer that does not answer for 10 s is gone; accepted sockets inherit this on Linux."""


def run_worker(settings: WorkerSettings, *, is_emulated: bool) -> int:
    """Run a worker until a signal comes; return the exit code of the process.

    Raises:
        ConfigurationError: the port is in use, or a setting makes no sense.
    """
    assert __debug__, "assertions guard the role: do not run with python -O"
    keep_freed_memory()
    answer_promptly()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return uvloop.run(_main(settings, is_emulated=is_emulated))


async def _main(settings: WorkerSettings, *, is_emulated: bool) -> int:
    say("Starting Clockwork Worker")
    program = WorkerProgram(settings, is_emulated=is_emulated)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, program.interrupt, number)
    try:
        await program.start()
        calm_garbage_collector()
        return await program.wait()
    finally:
        await program.close()
        say("Clockwork Worker Exiting")


class WorkerProgram:
    """All that a worker process consists of, on the running loop."""

    def __init__(self, settings: WorkerSettings, *, is_emulated: bool) -> None:
        """Prepare; `start` listens.

        Raises:
            ConfigurationError: a setting makes no sense.
        """
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._flusher = Flusher(self._loop)
        self._devices = make_devices(
            settings, is_emulated=is_emulated, emit=self._emit, on_failure=self._on_failure
        )
        self._console = WorkerConsole()
        # The controller's connection once it has said Hello.
        self._controller: Connection | None = None
        # Every open connection, the controller's and those that are being refused.
        self._connections: set[Connection] = set()
        # What this turn of the loop has brought.
        self._batch: list[WorkerEvent] = []
        # Which start of this worker this is, for the controller that is joined.
        self._process = process_name()
        self._server: asyncio.Server | None = None
        # Keeps the connection to the controller that is joined.
        self._joining: asyncio.Task[None] | None = None
        # Prints the interval lines.
        self._reporter: asyncio.Task[None] | None = None
        # Done when the program is to end: the exit code.
        self._end: asyncio.Future[int] = self._loop.create_future()
        self._is_impatient = asyncio.Event()
        # Set by the first signal; what it was.
        self._signal: int | None = None
        # Set while no controller is there.
        self._is_alone = asyncio.Event()
        self._is_alone.set()
        # The port that is listened on, known after `start`.
        self.port = settings.port

    async def start(self) -> None:
        """Listen, or begin to dial the controller that is to be joined.

        Raises:
            ConfigurationError: the address cannot be listened on, or not be read.
        """
        if self._settings.join:
            self._join()
        else:
            await self._listen()
        self._reporter = self._loop.create_task(self._report())

    async def _listen(self) -> None:
        host = self._settings.host
        self._server = await listen(host, self._settings.port, self._connection)
        _notice_dead_peers(self._server)
        self.port = port_of(self._server)
        say(f"IO service thread listening on {host}:{self.port}")

    def _join(self) -> None:
        address = parse_address(self._settings.join, default_port=CONTROLLER_PORT)
        joining = Joining(address, make_connection=self._connection, say=say)
        self._joining = self._loop.create_task(joining.keep())

    async def wait(self) -> int:
        """Work until a signal or a failure; then finish what runs. Return the exit code."""
        exit_code = await self._end
        if exit_code == 0:
            await self._leave()
            self._devices.deliver([Shutdown()])
            await self._drain()
        return exit_code

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Begin to end; the second call ends without waiting for devices."""
        say(f"Interrupt signal ({number}) received.")
        if self._end.done():
            self._is_impatient.set()
        else:
            self._signal = number
            self._end.set_result(0)

    async def close(self) -> None:
        """Close sockets, then devices; everything that was sent arrives."""
        if self._reporter is not None:
            self._reporter.cancel()
        self._take_no_controller()
        connections = list(self._connections)
        for connection in connections:
            connection.close(GOODBYE)
        for connection in connections:
            await connection.wait_closed()
        self._devices.close()

    # What connections call.

    def on_ready(self, connection: Connection) -> None:
        """Take the first controller, refuse others."""
        if self._signal is not None:
            connection.refuse(GOODBYE)
            return
        if self._controller is not None:
            say(f"Refusing {connection.peer}: {self._controller.peer} is connected")
            connection.refuse(
                f"this worker serves the controller at {self._controller.peer}; it takes another "
                "when that one has gone"
            )
            return
        self._controller = connection
        self._is_alone.clear()
        self._console = WorkerConsole()
        say(f"Connection established with {connection.peer}")

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Put an action into this turn's batch."""
        if connection is not self._controller:
            return
        if not self._batch:
            self._loop.call_soon(self._deliver)
        action = shift_action(message, connection.clock.delta_ns)
        line = self._console.add_action(action, len(payload), at_ns)
        if line is not None:
            say(line)
        self._batch.append(ActionArrived(action, payload, at_ns))

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Tell the role that the controller is gone."""
        self._connections.discard(connection)
        if connection is self._controller:
            say(f"Closing connection {connection.peer}, reason: {reason}")
            self._controller = None
            self._is_alone.set()
            # At once: a next controller must not get what this one asked for.
            self._batch.append(ControllerLost())
            self._deliver()
        elif connection.hello is None:
            # A stranger; controllers that are refused have a line of their own.
            say(f"Closing connection {connection.peer}, reason: {reason}")

    # Private.

    def _connection(self) -> Connection:
        connection = Connection(
            self,
            AT_WORKER,
            self._flusher,
            name=self._settings.name or default_name(),
            process=self._process,
        )
        self._connections.add(connection)
        return connection

    def _deliver(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._devices.deliver(batch)

    def _emit(self, effect: SendResult | WorkerSay) -> None:
        if isinstance(effect, WorkerSay):
            say(effect.text)
            return
        connection = self._controller
        if connection is None:
            return
        line = self._console.add_result(effect.message)
        if line is not None:
            say(line)
        connection.send(shift_result(effect.message, connection.clock.offset_ns), effect.payloads)

    def _on_failure(self, error: BaseException) -> None:
        traceback.print_exception(error)
        if not self._end.done():
            self._end.set_result(1)

    async def _report(self) -> None:
        """Print a line per interval while a controller is there."""
        while True:
            await asyncio.sleep(self._settings.interval_ns / SECOND)
            if self._controller is not None:
                clock = self._controller.clock
                line = self._console.interval_line(
                    skew_ns=clock.delta_ns, round_trip_ns=clock.round_trip_ns
                )
                say(line)

    async def _leave(self) -> None:
        """Tell the controller; on SIGTERM wait until it has no use for us any more."""
        self._take_no_controller()
        if self._controller is not None:
            self._controller.send(Leaving("it was asked to end"))
            if self._signal == signal.SIGTERM:
                await self._wait_for(self._is_alone.wait(), LEAVE_S)

    async def _drain(self) -> None:
        """Wait until no task runs, a second signal comes, or the patience ends."""
        await self._wait_for(self._devices.wait_idle(), DRAIN_S)

    async def _wait_for(self, state: Coroutine[None, None, object], patience_s: float) -> None:
        """Wait for a state, but no longer than for a second signal or the patience's end."""
        waits = [
            self._loop.create_task(state),
            self._loop.create_task(self._is_impatient.wait()),
        ]
        await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _take_no_controller(self) -> None:
        """Listen and dial no more."""
        if self._server is not None:
            self._server.close()
        if self._joining is not None:
            self._joining.cancel()


def _notice_dead_peers(server: asyncio.Server) -> None:
    for listener in server.sockets:
        for level, option, value in _KEEP_ALIVE:
            listener.setsockopt(level, option, value)
