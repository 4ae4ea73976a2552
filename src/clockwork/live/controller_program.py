"""The controller process: a controller role between a port for clients and links to workers.

On SIGINT or SIGTERM it refuses what is new, answers what is under way (up to `STOP_S`, or until a
second signal), and ends with 0, after telling everybody, with every record in its sinks. When the
role has a bug it ends with 1, after printing the traceback.

Clients and workers that join come in through one port.

Source: SPEC 1.3, 6.3. Ours redials workers, and prints an event loop's lag besides.
"""

import asyncio
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, Protocol

import uvloop
from msgspec import Struct

from clockwork.live.addresses import Address
from clockwork.live.client_port import ClientPort
from clockwork.live.clock import now_ns
from clockwork.live.driver import RoleDriver
from clockwork.live.lag_watch import LagWatch
from clockwork.live.process import calm_garbage_collector, keep_freed_memory, say
from clockwork.live.state_keeper import StateKeeper
from clockwork.live.traffic import Flusher
from clockwork.live.wire import WireLimits
from clockwork.live.worker_links import WorkerLinks
from clockwork.messages.controller_io import (
    ControllerEffect,
    ControllerEvent,
    Dismiss,
    Say,
    StopAsked,
    Stopped,
    ToClient,
    ToWorker,
)
from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.messages.remembered import Remember
from clockwork.messages.role import WAKEUP, Role
from clockwork.telemetry.console import (
    INTERVAL_NS,
    ControllerConsole,
    controller_lines,
    traffic_line,
)
from clockwork.telemetry.figures import ControllerFigures
from clockwork.telemetry.lag import LagHistogram
from clockwork.units import SECOND

DEFAULT_PORT: Final = 12346
"""Where clients look for a controller (the original's port)."""
GOODBYE: Final = "the controller is shutting down"
STOP_S: Final = 5.0
"""How long answers may take at the end; chosen: far above usual SLOs."""

LINES_A_TURN: Final = 32
"""Lines printed in one turn of the loop: 0.2 ms; 150 GPUs have 300, which take more than 1 ms."""

ControllerLike = Role[ControllerEvent, ControllerEffect]
"""A controller role, real or pretended."""


Display = Callable[[ControllerFigures, LagHistogram], None]
"""What shows an interval instead of lines."""


class Sink(Protocol):
    """What takes telemetry."""

    def add(self, record: Record) -> None:
        """Take a record; return at once."""

    def close(self) -> None:
        """Bring all records to where they belong."""


class ControllerProgramConfig(Struct, frozen=True, kw_only=True):
    """What the shell needs to know; what the role decides by is `ControllerConfig`."""

    workers: tuple[Address, ...]
    host: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    # Time between two blocks of console lines.
    interval_ns: int = INTERVAL_NS
    limits: WireLimits = WireLimits()


def run_controller(
    config: ControllerProgramConfig,
    role: ControllerLike,
    *,
    sinks: Sequence[Sink] = (),
    display: Display | None = None,
    state: StateKeeper | None = None,
) -> int:
    """Run a controller until a signal comes; return the exit code of the process.

    Args:
        config: where to listen and whom to dial.
        role: decides; made for as many workers as `config` names.
        sinks: take every record, and are closed at the end.
        display: shows each interval; absent: lines are printed.
        state: keeps what the role remembers, and is closed at the end; absent: nothing is kept.

    Raises:
        ConfigurationError: the port is in use, or the host is not ours.
    """
    assert __debug__, "assertions guard the role: do not run with python -O"
    keep_freed_memory()
    program = partial(
        ControllerProgram,
        config,
        role,
        sinks=sinks,
        display=display,
        state=state,
    )
    return uvloop.run(_main(program))


async def _main(make_program: "Callable[[], ControllerProgram]") -> int:
    program = make_program()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, program.interrupt, number)
    try:
        await program.start()
        calm_garbage_collector()
        return await program.wait()
    finally:
        await program.close()
        say("Clockwork Controller Exiting")


class ControllerProgram:
    """All that a controller process consists of, on the running loop."""

    def __init__(
        self,
        config: ControllerProgramConfig,
        role: ControllerLike,
        *,
        sinks: Sequence[Sink] = (),
        display: Display | None = None,
        state: StateKeeper | None = None,
    ) -> None:
        """Prepare; `start` listens and dials. See `run_controller` for the arguments."""
        loop = asyncio.get_running_loop()
        self._config = config
        self._sinks = sinks
        self._display = display
        self._state = state
        self._flusher = Flusher(loop)
        self._console = ControllerConsole(now_ns=now_ns(), interval_ns=config.interval_ns)
        self._adds = [self._console.add, *(sink.add for sink in sinks)]
        # Of the current batch: messages leave before any record of them is looked at.
        self._records: list[Record] = []
        methods: dict[type, Callable[..., None]] = {
            Say: self._on_say,
            RequestRecord: self._records.append,
            ActionRecord: self._records.append,
        }
        self._driver: RoleDriver[ControllerEvent, ControllerEffect] = RoleDriver(
            role,
            methods,
            on_batch_end=self._end_batch,
            on_failure=self._on_failure,
        )
        self._links = WorkerLinks(
            config.workers,
            seats=state.seats if state is not None else (),
            post=self._driver.post_urgent,
            say=say,
            flusher=self._flusher,
            on_seat=state.add_seat if state is not None else _forget,
            on_left=state.remove_seat if state is not None else _forget,
        )
        self._clients = ClientPort(
            post=self._driver.post,
            say=say,
            flusher=self._flusher,
            limits=config.limits,
            welcome_worker=self._links.welcome,
        )
        methods[ToClient] = self._clients.send
        methods[ToWorker] = self._links.send
        methods[Dismiss] = self._links.dismiss
        methods[Remember] = state.add if state is not None else _forget
        methods[Stopped] = self._on_stopped
        # Tasks that run as long as the program: one per link, and the interval lines.
        self._tasks: list[asyncio.Task[None]] = []
        self._watch = LagWatch(loop)
        self._is_stopping = False
        # Done when the program is to end: the exit code.
        self._end: asyncio.Future[int] = loop.create_future()

    @property
    def port(self) -> int:
        """The port for clients, after `start`."""
        return self._clients.port

    async def start(self) -> None:
        """Listen for clients, and begin to dial the workers.

        Raises:
            ConfigurationError: the port is in use, or the host is not ours.
        """
        await self._clients.open(self._config.host, self._config.port)
        self._tasks = self._links.start()
        self._tasks.append(asyncio.ensure_future(self._report()))
        # Lets the role begin, and say when it wants to be woken.
        self._driver.post(WAKEUP)

    async def wait(self) -> int:
        """Wait for a signal or a failure; return the exit code that it means."""
        return await self._end

    def interrupt(self, number: int = signal.SIGTERM) -> None:
        """Begin to end, because a user or a parent wants it; the second call ends at once."""
        say(f"Interrupt signal ({number}) received.")
        if self._is_stopping:
            self._end_with(0)
            return
        self._is_stopping = True
        self._driver.post(StopAsked())
        asyncio.get_running_loop().call_later(STOP_S, self._end_with, 0)

    async def close(self) -> None:
        """Say goodbye to everybody, and bring all records to where they belong."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._driver.close()
        self._watch.close()
        await self._clients.close(GOODBYE)
        await self._links.close(GOODBYE)
        self._pass_records_on()
        for sink in self._sinks:
            sink.close()
        if self._state is not None:
            self._state.close()

    def _on_stopped(self, effect: Stopped) -> None:
        self._end_with(0)

    def _on_say(self, effect: Say) -> None:
        say(effect.text, end=effect.end)

    def _end_batch(self) -> None:
        """Send what is queued, then keep records: rows take a fifth of a batch's time."""
        self._flusher.flush()
        self._pass_records_on()

    def _pass_records_on(self) -> None:
        for record in self._records:
            for add in self._adds:
                add(record)
        self._records.clear()

    def _on_failure(self, error: BaseException) -> None:
        traceback.print_exception(error)
        self._end_with(1)

    def _end_with(self, exit_code: int) -> None:
        if not self._end.done():
            self._end.set_result(exit_code)

    async def _report(self) -> None:
        """Show each interval: as lines, or on the display."""
        before_ns, before = now_ns(), self._links.traffic.reading()
        while True:
            # A little more than what is left: the console says nothing before its time.
            left_ns = max(self._console.due_ns - now_ns(), 0)
            await asyncio.sleep(left_ns / SECOND + 0.002)
            figures = self._console.figures(now_ns())
            if figures is None:
                continue
            at_ns, after = now_ns(), self._links.traffic.reading()
            traffic = traffic_line(
                "Network->Workers", before=before, after=after, elapsed_ns=at_ns - before_ns
            )
            if self._display is not None:
                # On a thread: drawing takes some 20 ms, in which deadlines would be missed.
                lag = self._watch.histogram
                await asyncio.to_thread(self._display, figures, lag)
            else:
                await _print(controller_lines(figures))
                say(f"{traffic}\n{self._watch.histogram.line()}")
            self._watch.histogram.reset()
            before_ns, before = at_ns, after


async def _print(lines: Iterator[str]) -> None:
    """Print lines, some in each turn of the loop."""
    while part := list(islice(lines, LINES_A_TURN)):
        say("\n".join(part))
        await asyncio.sleep(0)


def _forget(unused: object) -> None:
    """Keep nothing: there is no state file."""
