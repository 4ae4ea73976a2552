"""A controller and a worker as child processes, with models loaded: all of Clockwork as one thing.

Why: the roles are separate programs so that they can be on separate machines; on one machine
nobody wants to start three things in the right order and to stop them again.

Order: the worker, then the controller, then the models through the client library; the other way
round to stop. When a child dies, the other one is stopped and `Serving.wait` raises.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from msgspec import Struct

from clockwork.errors import ConfigurationError, ModelError
from clockwork.live.async_client import AsyncClient, AsyncModel
from clockwork.live.processes import Child, OnLine, start_child
from clockwork.models.format import MODEL_NAME

START_TIMEOUT_S: Final = 60.0
"""How long a child may take to listen; chosen: large weights caches are touched first."""
LOAD_TIMEOUT_S: Final = 600.0
"""Patience with models that are being loaded; chosen: gigabytes from a slow disk."""


class Offer(Struct, frozen=True):
    """A model directory to serve, as so many models."""

    path: str
    copies: int = 1


class ServeConfig(Struct, frozen=True, kw_only=True):
    """What to start."""

    # Empty: whoever connects first loads models, while the controller still waits for them.
    offers: tuple[Offer, ...]
    # Where clients connect; port 0: a free one.
    host: str = "0.0.0.0"
    port: int = 12346
    # Where the worker listens, on this machine only; 0: a free one.
    worker_port: int = 0
    is_emulated: bool = False
    # Further arguments of both commands, as on the command line.
    worker_arguments: tuple[str, ...] = ()
    controller_arguments: tuple[str, ...] = ()


class Serving:
    """A running controller and worker; an asynchronous context manager.

    Entering starts both and loads the models; leaving stops both. `models` are in the order of
    the offers, with all copies of the first one first.
    """

    def __init__(self, config: ServeConfig, on_line: OnLine) -> None:
        """Prepare; `on_line` gets every line that a child prints."""
        self._config = config
        self._on_line = on_line
        # In the order in which they were started.
        self._children: list[Child] = []
        self.address = ""
        self.models: list[AsyncModel] = []

    async def __aenter__(self) -> "Serving":
        """Start everything.

        Raises:
            ChildError: a program did not come up.
            RequestError: a model cannot be loaded.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        await self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name of program."""
        return {child.name: child.pid for child in self._children}

    async def wait(self) -> None:
        """Wait until a child ends by itself.

        Raises:
            ChildError: always, and it says which child and how.
        """
        ends = {asyncio.ensure_future(child.wait()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        raise ends[done.pop()].failure("ended")

    async def stop(self) -> None:
        """Stop all children, the last started first; further calls do nothing."""
        while self._children:
            await self._children.pop().stop()

    async def _start(self) -> None:
        config = self._config
        worker_port = await self._start_worker()
        controller = await self._start_child(
            "controller",
            "INFER4",
            f"127.0.0.1:{worker_port}",
            f"--host={config.host}",
            f"--port={config.port}",
            *config.controller_arguments,
        )
        port = await _port_of(controller, r"listening for clients on \S+:(\d+)")
        host = "localhost" if config.host in {"0.0.0.0", "::"} else config.host
        self.address = f"{host}:{port}"
        if config.offers:
            await self._race(self._load())

    async def _start_worker(self) -> int:
        config = self._config
        worker = await self._start_child(
            "worker_dummy" if config.is_emulated else "worker",
            "--host=127.0.0.1",
            f"--port={config.worker_port}",
            *config.worker_arguments,
        )
        return await _port_of(worker, r"thread listening on \S+:(\d+)")

    async def _start_child(self, name: str, *arguments: str) -> Child:
        child = await start_child(name, [name, *arguments], self._on_line)
        self._children.append(child)
        return child

    async def _load(self) -> None:
        async with await AsyncClient.connect(self.address, timeout_s=LOAD_TIMEOUT_S) as client:
            loads = [client.load_model(offer.path, offer.copies) for offer in self._config.offers]
            firsts = await asyncio.gather(*loads)
            self.models = [copy for first in firsts for copy in first.copies]
            # Answered once the controller has left its load phase.
            await client.models()

    async def _race(self, work: Coroutine[None, None, None]) -> None:
        """Wait for `work`, or for a child's end, which raises."""
        working = asyncio.create_task(work)
        dying = asyncio.create_task(self.wait())
        try:
            done, _ = await asyncio.wait([working, dying], return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            dying.cancel()
        await done.pop()


def find_offers(directories: Sequence[Path], *, copies: int) -> tuple[Offer, ...]:
    """Return what is to be served: model directories themselves, or those directly below.

    Raises:
        ConfigurationError: a directory is not there.
        ModelError: there is no model in it.
    """
    offers: list[Offer] = []
    for directory in directories:
        if not directory.is_dir():
            raise ConfigurationError(f"{directory} is no directory")
        found = (
            [directory] if _is_model(directory) else sorted(filter(_is_model, directory.iterdir()))
        )
        if not found:
            raise ModelError(
                f"there is no model in {directory}: make one with clockwork compile MODEL.onnx -o "
                f"{directory}/NAME, or with clockwork zoo build resnet18_v1 -o {directory}"
            )
        offers += [Offer(str(path.resolve()), copies) for path in found]
    return tuple(offers)


def _is_model(path: Path) -> bool:
    return (path / MODEL_NAME).is_file() or (path / "model.clockwork_params").is_file()


async def _port_of(child: Child, pattern: str) -> int:
    return int((await child.wait_for_line(pattern, timeout_s=START_TIMEOUT_S))[1])
