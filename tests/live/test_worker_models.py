"""Where a worker process finds models, and what it accepts as one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from device_stage import load_model
from original_files import write_original
from wire_stage import Recorder, dial

from clockwork.live.options import WORKER_DUMMY, WorkerSettings, resolve_settings, worker_settings
from clockwork.live.vocabulary import CONTROLLER_TO_WORKER
from clockwork.live.wire import Connection
from clockwork.live.worker_program import WorkerProgram
from clockwork.messages.actions import LoadModelDone
from clockwork.units import MS

PATIENCE_S = 30.0


def settings(**flags: object) -> WorkerSettings:
    """Return settings for a free local port."""
    flags = {"host": "127.0.0.1", "port": 0, **flags}
    return worker_settings(resolve_settings(WORKER_DUMMY, flags=flags, environ={}, config=None))


def play(
    scenario: Callable[[Connection, Recorder], Awaitable[None]],
    *,
    is_emulated: bool = True,
    **flags: object,
) -> None:
    """Run a scenario with the connection of a worker's controller."""

    async def whole() -> None:
        program = WorkerProgram(settings(**flags), is_emulated=is_emulated)
        await program.start()
        try:
            connection, recorder = await dial(program.port, CONTROLLER_TO_WORKER)
            await recorder.ready.wait()
            await asyncio.wait_for(scenario(connection, recorder), PATIENCE_S)
        finally:
            await program.close()

    uvloop.run(whole())


def test_an_emulated_worker_takes_models_of_the_original(tmp_path: Path) -> None:
    """The base path that the original's clients send, and the folder, are the same model."""
    base = write_original(tmp_path / "resnet")

    async def scenario(connection: Connection, recorder: Recorder) -> None:
        connection.send(load_model(base))
        connection.send(load_model(base.parent, model=1, action=1))
        results = [message for message, _ in await recorder.wait_for(2)]
        for result in results:
            assert isinstance(result, LoadModelDone), result
            assert result.profile.batch_sizes == (1, 2, 4)
            assert result.profile.exec_ns == (1 * MS, 2 * MS, 4 * MS)
            assert result.profile.load_ns == 10 * MS

    play(scenario)
