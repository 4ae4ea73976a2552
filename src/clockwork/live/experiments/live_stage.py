"""Performs runs of experiments in real time: a worker, a controller, and a client beside them.

Worker and controller are processes of their own; the client plays its workload in this one. Ctrl-C
once ends the run with what was measured so far, twice without waiting for answers.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

import uvloop

from clockwork.errors import ClockworkError
from clockwork.live.addresses import parse_address
from clockwork.live.experiments.interruption import Interruption
from clockwork.live.experiments.plan import Cluster, OnProgress, Performed, Run
from clockwork.live.load_generator import RunOptions, play
from clockwork.live.serve import ServeConfig, Serving
from clockwork.messages.client_io import ClientSummary

CONSOLE_LOG: Final = "console.log"
"""What all three programs printed."""
CLIENT_PORT: Final = 12346
LOOK_S: Final = 0.5
"""Between two reports of progress."""
DEATH_S: Final = 2.0
"""How long a lost connection waits for a dead process to explain it; chosen: reaping takes less."""


class LiveStage:
    """Real time on this machine."""

    name = "live"

    def perform(
        self, run: Run, logs: Path, progress: OnProgress, interruption: Interruption
    ) -> Performed:
        """Perform a run with its logs in the folder `logs`, and end it early when interrupted.

        Raises:
            ClockworkError: a program did not come up, ended by itself, or refused its work.
        """
        with (logs / CONSOLE_LOG).open("w", encoding="utf-8") as console:
            live_run = _LiveRun(run, logs, console, progress)
            return uvloop.run(live_run.perform(interruption))


class _LiveRun:
    """One run; owns its processes."""

    def __init__(self, run: Run, logs: Path, console: TextIO, progress: OnProgress) -> None:
        self._run = run
        self._logs = logs
        self._console = console
        self._progress = progress
        self._stop = asyncio.Event()
        self._is_playing = False
        # Until it was, or until nothing is left to do but to stop the processes.
        self._may_cancel = True
        self._working: asyncio.Task[ClientSummary | None] | None = None

    async def perform(self, interruption: Interruption) -> Performed:
        """Start everything, play, stop everything."""
        loop = asyncio.get_running_loop()
        self._working = asyncio.create_task(self._work())
        # A handler of signals may come between any two steps of the loop.
        with interruption.told_to(lambda: loop.call_soon_threadsafe(self._interrupt)):
            try:
                summary = await self._working
            except asyncio.CancelledError:
                return Performed(sent=None, is_interrupted=True)
        sent = None if summary is None else summary.sent
        return Performed(sent=sent, is_interrupted=self._stop.is_set())

    def _interrupt(self) -> None:
        """Stop sending; before there is anything to send, or for the second time, stop at once."""
        assert self._working is not None
        if (not self._is_playing or self._stop.is_set()) and self._may_cancel:
            # Only once: what stops the processes in order must not be cut short.
            self._may_cancel = False
            self._working.cancel()
        self._stop.set()

    async def _work(self) -> ClientSummary | None:
        run = self._run
        serving = Serving(_serve_config(run.cluster, self._logs), _writer(self._console))
        async with serving:
            options = RunOptions(
                address=parse_address(serving.address, default_port=CLIENT_PORT),
                sends_inputs=run.sends_inputs,
            )
            self._is_playing = True
            playing = asyncio.create_task(
                play(run.workload, options, out=self._console, stop=self._stop)
            )
            dying = asyncio.create_task(serving.wait())
            ticking = asyncio.create_task(self._tick())
            try:
                await asyncio.wait([playing, dying], return_when=asyncio.FIRST_COMPLETED)
                if not playing.done() or playing.result().error is not None:
                    # A program that died explains more than the client that has lost it.
                    await asyncio.wait([dying], timeout=DEATH_S)
                if dying.done():
                    await dying
                finished = await playing
                self._may_cancel = False
            finally:
                for task in (playing, dying, ticking):
                    task.cancel()
        if finished.error is not None:
            raise ClockworkError(f"the client failed: {finished.error}")
        return finished.summary

    async def _tick(self) -> None:
        """Report progress until cancelled."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            self._progress(round((loop.time() - begin_s) * 1e9))


def _serve_config(cluster: Cluster, logs: Path) -> ServeConfig:
    return ServeConfig(
        offers=(),
        host="127.0.0.1",
        port=0,
        is_emulated=not cluster.is_real,
        worker_arguments=(
            f"--gpus={cluster.gpus}",
            f"--cores-per-gpu={cluster.cores_per_gpu}",
            f"--weights-cache-size={cluster.cache_bytes}",
            f"--weights-cache-page-size={cluster.page_bytes}",
        ),
        controller_arguments=(
            f"--max-gpus={cluster.gpus}",
            f"--default-slo={cluster.default_slo_ns}",
            f"--schedule-ahead={cluster.schedule_ahead_ns}",
            f"--log-dir={logs.resolve()}",
            # Who loads the models is about to come; the default waits a second for stragglers.
            "--load-stage-timeout=500ms",
        ),
    )


def _writer(console: TextIO) -> Callable[[str, str], None]:
    def write(name: str, line: str) -> None:
        console.write(f"{name:<12} | {line}\n")

    return write
