"""Runs a workload against a controller: the live shell of the client role.

Everything that is printed is the original's (SPEC 1.4, 6.4) up to the summary at the end.
"""

import asyncio
import gc
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

import msgspec
import uvloop
from msgspec import Struct

from clockwork.client.core import INTERVAL_NS, ClientRole
from clockwork.client.summary import summary_lines
from clockwork.client.workload import Workload
from clockwork.errors import ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.dialling import Backoff, dial
from clockwork.live.driver import RoleDriver
from clockwork.live.process import calm_garbage_collector, keep_freed_memory
from clockwork.live.sample_inputs import SampleInputs
from clockwork.live.scheduling import answer_promptly
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import AT_CLIENT, Message
from clockwork.live.wire import Connection
from clockwork.messages.client_io import (
    ClientEffect,
    ClientEvent,
    ControllerClosed,
    ControllerConnected,
    Finished,
    ResponseArrived,
    SendInfer,
    SendRequest,
    StopAsked,
)
from clockwork.messages.controller_io import Say
from clockwork.messages.requests import LoadModelResponse, LsResponse
from clockwork.messages.role import Payload
from clockwork.units import US

SENDING_LINE: Final = (
    "Client is sending inputs with requests.  Set CLOCKWORK_DISABLE_INPUTS=1 to disable inputs."
)
DISABLED_LINE: Final = (
    "Client inputs are DISABLED.  Set CLOCKWORK_DISABLE_INPUTS=0 to send inputs with requests."
)
GRAIN_NS: Final = 500 * US
"""Between two wake-ups for sending, on average. Measured at 15,000 requests/s: half of the client's
time for a quarter of a millisecond of latency; below 2,000 requests/s nothing waits."""
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1


class RunOptions(Struct, frozen=True):
    """Where and how a workload is run."""

    address: Address
    sends_inputs: bool = True
    # Sends them as LZ4 blocks.
    compresses_inputs: bool = False
    interval_ns: int = INTERVAL_NS
    # How long to dial again when the connection breaks; 0: that ends the run.
    reconnect_ns: int = 0
    # Unload the models of the run at its end.
    unloads: bool = False
    # Refuse a part of the requests here while the controller says that it is overloaded; never
    # done with a trace.
    throttles: bool = False
    # Where the summary goes as JSON; None: nowhere.
    json_path: Path | None = None


def run_client(workload: Workload, options: RunOptions) -> int:
    """Run `workload` until it ends or the user stops it; return the exit code of the process.

    Raises:
        ConnectionLostError: nobody listens at the address.
    """
    keep_freed_memory()
    answer_promptly()
    print(f"Running workload `{workload.name}` on {options.address}")
    print(SENDING_LINE if options.sends_inputs else DISABLED_LINE)
    finished = uvloop.run(play(workload, options))
    return report(finished, options)


async def play(
    workload: Workload,
    options: RunOptions,
    *,
    out: TextIO | None = None,
    stop: asyncio.Event | None = None,
) -> Finished:
    """Run `workload` on the running loop and return how it ended.

    Args:
        out: takes everything that is printed; None: stdout.
        stop: ends the run when it is set, as Ctrl-C does; None: listen to Ctrl-C itself.

    Raises:
        ConnectionLostError: nobody listens at the address.
    """
    shell = _ClientShell(workload, options, out or sys.stdout, stop)
    try:
        await shell.connect()
        return await shell.finished
    finally:
        await shell.close()


def report(finished: Finished, options: RunOptions) -> int:
    """Print how a run ended, write it down where asked for, and return the exit code."""
    if finished.summary is not None:
        for line in summary_lines(finished.summary):
            print(line)
        if options.json_path is not None:
            options.json_path.write_bytes(
                msgspec.json.format(msgspec.json.encode(finished.summary))
            )
    if finished.error is not None:
        print(f"error: {finished.error}", file=sys.stderr)
        return EXIT_FAILED
    if finished.summary is None:
        print("Stopped before the first request")
    return EXIT_DONE


class _ClientShell:
    """Owns the connection, the role's driver and the signals of one run."""

    def __init__(
        self,
        workload: Workload,
        options: RunOptions,
        out: TextIO,
        stop: asyncio.Event | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._out = out
        self._stop = stop
        self._stopping: asyncio.Task[None] | None = None
        self.finished: asyncio.Future[Finished] = self._loop.create_future()
        self._inputs = SampleInputs(workload.seed, compresses=options.compresses_inputs)
        self._flusher = Flusher(self._loop)
        self._connection = self._new_connection()
        # Dials again while there is no connection.
        self._dialling: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._is_closing = False
        role = ClientRole(
            workload,
            sends_inputs=options.sends_inputs,
            interval_ns=options.interval_ns,
            grain_ns=GRAIN_NS,
            reconnect_ns=options.reconnect_ns,
            unloads=options.unloads,
            throttles=options.throttles and not workload.is_replay,
        )
        self._driver: RoleDriver[ClientEvent, ClientEffect] = RoleDriver(
            role,
            {
                SendInfer: self._send_infer,
                SendRequest: self._send_request,
                Say: self._say,
                Finished: self._finish,
            },
            on_batch_end=self._flusher.flush,
            on_failure=self._fail,
        )

    async def connect(self) -> None:
        """Dial the controller and listen to who may stop the run."""
        self._print(f"Connecting to clockwork @ {self._options.address}")
        await dial(self._options.address, lambda: self._connection)
        if self._stop is not None:
            self._stopping = asyncio.ensure_future(self._stop_when_set(self._stop))
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._driver.post, StopAsked())

    async def close(self) -> None:
        """Give everything back."""
        if self._stopping is not None:
            self._stopping.cancel()
        elif self._stop is None:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.remove_signal_handler(number)
        self._driver.close()
        self._is_closing = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        self._connection.close("the run is over")
        await self._connection.wait_closed()
        gc.unfreeze()

    # What the connection reports.

    def on_ready(self, connection: Connection) -> None:
        """Begin."""
        self._print("Connection established")
        self._backoff.reset()
        self._driver.post(ControllerConnected())

    def on_message(
        self, connection: Connection, message: Message, payload: Payload, at_ns: int
    ) -> None:
        """Pass a response on."""
        if type(message) is LoadModelResponse and message.model is not None:
            self._inputs.learn(message.model, message.copies)
        elif type(message) is LsResponse:
            # All is loaded and nothing is sent yet: the last moment for a long pause.
            calm_garbage_collector()
        self._driver.post(ResponseArrived(message, len(payload), at_ns))

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Tell the role, and dial again if that is wanted."""
        self._driver.post(ControllerClosed(reason))
        if self._options.reconnect_ns and not self._is_closing:
            self._dialling = asyncio.ensure_future(self._dial_again())

    def _new_connection(self) -> Connection:
        return Connection(self, AT_CLIENT, self._flusher)

    async def _dial_again(self) -> None:
        """Dial until somebody answers; the role decides for how long."""
        while True:
            await asyncio.sleep(self._backoff.next_s())
            self._connection = self._new_connection()
            with suppress(ConnectionLostError):
                await dial(self._options.address, lambda: self._connection)
                return

    # What the role wants.

    def _send_infer(self, effect: SendInfer) -> None:
        request = effect.request
        if effect.input_bytes:
            payloads, is_compressed = self._inputs.take(request.model_id, request.user_request_id)
            if is_compressed:
                request = msgspec.structs.replace(request, is_compressed=True)
            self._connection.send(request, payloads)
        else:
            self._connection.send(request)

    def _send_request(self, effect: SendRequest) -> None:
        self._connection.send(effect.message)

    def _say(self, effect: Say) -> None:
        self._print(effect.text, end=effect.end)

    def _finish(self, effect: Finished) -> None:
        if not self.finished.done():
            self.finished.set_result(effect)

    def _fail(self, error: BaseException) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)

    def _print(self, text: str, *, end: str = "\n") -> None:
        print(text, end=end, file=self._out, flush=True)

    async def _stop_when_set(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._driver.post(StopAsked())
