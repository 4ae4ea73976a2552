"""Workers that join and leave, and a controller that is asked to end: what goes over the wire."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import uvloop
from device_stage import load_model, save_model
from wire_stage import LOCALHOST, Port, Recorder, dial
from worker_stage import get_state, infer, load_weights

from clockwork.live.controller_program import ControllerProgram, ControllerProgramConfig
from clockwork.live.options import WORKER_DUMMY, WorkerSettings, resolve_settings, worker_settings
from clockwork.live.state_keeper import StateKeeper
from clockwork.live.traffic import Flusher
from clockwork.live.vocabulary import AT_WORKER, CONTROLLER_TO_WORKER, Leaving
from clockwork.live.wire import Connection
from clockwork.live.worker_program import WorkerProgram
from clockwork.messages.actions import ClearCacheDone, GetWorkerState, InferDone
from clockwork.messages.controller_io import (
    ControllerEffect,
    ControllerEvent,
    Dismiss,
    FromWorker,
    StopAsked,
    Stopped,
    ToClient,
    ToWorker,
    WorkerConnected,
    WorkerLeaving,
    WorkerLost,
)
from clockwork.messages.ids import ActionId, ClientId, ModelId, WorkerId
from clockwork.messages.requests import InferRequest, InferResponse
from clockwork.messages.role import Wakeup
from clockwork.messages.status import Status

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model directory with measurements."""
    return save_model(tmp_path_factory.mktemp("models"))


def settings(**flags: object) -> WorkerSettings:
    """Return settings for a free local port."""
    flags = {"host": LOCALHOST, "port": 0, **flags}
    return worker_settings(resolve_settings(WORKER_DUMMY, flags=flags, environ={}, config=None))


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario that must not take for ever."""
    uvloop.run(asyncio.wait_for(scenario(), PATIENCE_S))


class Worker:
    """A worker program on the running loop."""

    def __init__(self, **flags: object) -> None:
        self.program = WorkerProgram(settings(**flags), is_emulated=True)

    async def __aenter__(self) -> "Worker":
        """Start it."""
        await self.program.start()
        self.end = asyncio.ensure_future(self.program.wait())
        return self

    async def __aexit__(self, *unused: object) -> None:
        """End it without patience."""
        self.program.interrupt()
        self.program.interrupt()
        assert await self.end == 0
        await self.program.close()

    async def busy(self, model: Path) -> tuple[Connection, Recorder]:
        """Return a controller's connection to it, with an infer that runs and one that waits."""
        connection, recorder = await dial(self.program.port, CONTROLLER_TO_WORKER)
        connection.send(load_model(model))
        await recorder.wait_for(1)
        connection.send(load_weights(action=1))
        await recorder.wait_for(2)
        for action in (2, 3):
            connection.send(infer(action=action), (bytes(128),))
        # Its answer shows that both have arrived.
        connection.send(get_state(action=4))
        await recorder.wait_for(3)
        return connection, recorder


def test_a_worker_that_drains_finishes_all_it_was_given(model: Path) -> None:
    """It says so, carries out what waits, and ends when the controller lets it go."""

    async def scenario() -> None:
        async with Worker() as worker:
            connection, recorder = await worker.busy(model)
            worker.program.interrupt(signal.SIGTERM)
            messages = [message for message, _ in await recorder.wait_for(6)]
            assert isinstance(messages[3], Leaving)
            assert [type(message) for message in messages[4:]] == [InferDone, InferDone]
            assert not worker.end.done()
            connection.close("it may go")
            assert await worker.end == 0

    play(scenario)


def test_a_second_signal_ends_the_patience_with_the_controller(model: Path) -> None:
    """What waits is cancelled, and the connection is closed."""

    async def scenario() -> None:
        async with Worker() as worker:
            _, recorder = await worker.busy(model)
            worker.program.interrupt(signal.SIGTERM)
            worker.program.interrupt(signal.SIGTERM)
            assert await worker.end == 0
            await worker.program.close()
            assert "closed the connection" in await recorder.closed

    play(scenario)


def test_a_worker_that_drains_takes_no_other_controller(model: Path) -> None:
    """Whoever dials finds nobody, or is refused."""

    async def scenario() -> None:
        async with Worker() as worker:
            await worker.busy(model)
            worker.program.interrupt(signal.SIGTERM)
            with pytest.raises(OSError):
                await until_nobody_listens(worker.program.port)

    play(scenario)


async def until_nobody_listens(port: int) -> None:
    """Dial again and again; raises OSError in the end."""
    while True:
        _, recorder = await dial(port, CONTROLLER_TO_WORKER)
        await recorder.closed


def test_a_worker_that_joins_dials_again_under_its_name() -> None:
    """Name and process are the same on every connection."""

    async def scenario() -> None:
        port = Port(CONTROLLER_TO_WORKER)
        async with port, Worker(join=f"{LOCALHOST}:{port.port}", name="gpu7"):
            hellos = []
            for _ in range(3):
                connection, recorder = await port.accepted()
                await recorder.ready.wait()
                hellos.append(connection.hello)
                connection.send(get_state())
                await recorder.wait_for(1)
                connection.abort("the test wants it")
            assert hellos[0] is not None
            assert hellos[0].name == "gpu7"
            assert hellos[0].process
            assert hellos[1:] == hellos[:1] * 2

    play(scenario)


def test_a_worker_may_be_there_before_the_controller(capsys: pytest.CaptureFixture[str]) -> None:
    """It tells once that nobody answers, and joins when somebody does."""

    async def scenario() -> None:
        async with Port(CONTROLLER_TO_WORKER) as port:
            number = port.port
        async with Worker(join=f"{LOCALHOST}:{number}"):
            out = ""
            while "nobody listens" not in out:
                await asyncio.sleep(0)
                out += capsys.readouterr().out
            controller = Port(CONTROLLER_TO_WORKER)
            controller.listen_on = number
            async with controller:
                _, recorder = await controller.accepted()
                await recorder.ready.wait()
        assert "nobody listens" not in capsys.readouterr().out

    play(scenario)


class Script:
    """A controller role that keeps events, and answers each as the test wants."""

    def __init__(
        self, answer: Callable[[ControllerEvent], Sequence[ControllerEffect]] = lambda event: ()
    ) -> None:
        self.events: list[ControllerEvent] = []
        self.changed = asyncio.Event()
        self.wakeup_ns = None
        self._answer = answer

    def handle(self, batch: Sequence[ControllerEvent], now_ns: int) -> list[ControllerEffect]:
        """Keep the batch; answer it."""
        self.events += [event for event in batch if not isinstance(event, Wakeup)]
        self.changed.set()
        return [effect for event in batch for effect in self._answer(event)]

    def check(self) -> None:
        """Nothing can be wrong."""

    async def wait_for(self, count: int) -> list[ControllerEvent]:
        """Return the events once there are `count` of them."""
        while len(self.events) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.events


class Controller:
    """A controller program without a list of workers, on the running loop."""

    def __init__(self, script: Script, state: StateKeeper | None = None) -> None:
        config = ControllerProgramConfig(workers=(), host=LOCALHOST, port=0)
        self.program = ControllerProgram(config, script, state=state)

    async def __aenter__(self) -> "Controller":
        """Start it."""
        await self.program.start()
        return self

    async def __aexit__(self, *unused: object) -> None:
        """Close it."""
        await self.program.close()

    async def join(self, name: str, process: str) -> tuple[Connection, Recorder]:
        """Return a connection of a worker that joins."""
        recorder = Recorder()
        loop = asyncio.get_running_loop()
        flusher = Flusher(loop)
        _, connection = await loop.create_connection(
            lambda: Connection(recorder, AT_WORKER, flusher, name=name, process=process),
            LOCALHOST,
            self.program.port,
        )
        await recorder.ready.wait()
        return connection, recorder


def test_joined_workers_are_workers_like_others() -> None:
    """They get ids, actions and dismissals; results and farewells reach the role."""

    def answer(event: ControllerEvent) -> Sequence[ControllerEffect]:
        if isinstance(event, WorkerConnected):
            return [ToWorker(event.worker_id, GetWorkerState(ActionId(7)), ())]
        return [Dismiss(event.worker_id)] if isinstance(event, WorkerLeaving) else []

    async def scenario() -> None:
        script = Script(answer)
        async with Controller(script) as controller:
            await controller.join("a", "p1")
            await script.wait_for(1)
            worker, recorder = await controller.join("b", "p2")
            assert await recorder.wait_for(1) == [(GetWorkerState(ActionId(7)), b"")]
            done = ClearCacheDone(ActionId(7), 1, 2)
            worker.send(done)
            worker.send(Leaving("maintenance"))
            assert "closed the connection" in await recorder.closed
            events = await script.wait_for(5)
        ids = [WorkerId(0), WorkerId(1)]
        assert events[:2] == [WorkerConnected(each) for each in ids]
        assert isinstance(events[2], FromWorker)
        assert events[2].message == done
        assert events[3] == WorkerLeaving(ids[1], "maintenance")
        assert isinstance(events[4], WorkerLost)
        assert events[4].worker_id == 1

    play(scenario)


def test_a_joined_worker_that_dials_again_replaces_its_old_connection() -> None:
    """The role learns that the old one is lost before the new one is there."""

    async def scenario() -> None:
        script = Script()
        async with Controller(script) as controller:
            _, old = await controller.join("a", "p1")
            await script.wait_for(1)
            await controller.join("a", "p1")
            await old.closed
            kinds = [type(event) for event in await script.wait_for(3)]
            assert kinds == [WorkerConnected, WorkerLost, WorkerConnected]
            assert {event.worker_id for event in script.events} == {0}  # type: ignore[union-attr]

    play(scenario)


def test_a_restarted_controller_knows_the_ids_of_those_that_had_joined(tmp_path: Path) -> None:
    """Whoever comes first, each gets its own; who left in order is forgotten."""
    path = tmp_path / "state.db"

    async def first_life() -> None:
        script = Script()
        async with Controller(script, StateKeeper(path, (), print)) as controller:
            for name in "abc":
                worker, _ = await controller.join(name, f"of {name}")
            worker.send(Leaving("for good"))
            await script.wait_for(4)

    async def second_life() -> None:
        keeper = StateKeeper(path, (), print)
        assert keeper.remembered.workers == (0, 1)
        script = Script()
        async with Controller(script, keeper) as controller:
            for count, name in enumerate("bda", 1):
                await controller.join(name, f"of {name}")
                await script.wait_for(count)
        assert script.events[:3] == [WorkerConnected(WorkerId(each)) for each in (1, 2, 0)]

    play(first_life)
    play(second_life)


async def ask(controller: Controller) -> Recorder:
    """Send an inference to a controller; return the recorder of its answer."""
    connection, recorder = await dial(controller.program.port)
    await recorder.ready.wait()
    connection.send(InferRequest(1, 0, ModelId(0)))
    return recorder


def test_a_controller_that_is_asked_to_end_answers_first() -> None:
    """It ends when the role says that nothing is under way; the answer arrives."""
    response = InferResponse(1, Status.SUCCESS, "", ModelId(0), 1, 5, False)

    def answer(event: ControllerEvent) -> Sequence[ControllerEffect]:
        is_asked = isinstance(event, StopAsked)
        return [ToClient(ClientId(0), response, b"out"), Stopped()] if is_asked else []

    async def scenario() -> None:
        script = Script(answer)
        async with Controller(script) as controller:
            recorder = await ask(controller)
            await script.wait_for(1)
            controller.program.interrupt(signal.SIGTERM)
            assert await controller.program.wait() == 0
        assert recorder.messages == [(response, b"out")]
        assert "shutting down" in await recorder.closed

    play(scenario)


def test_a_second_signal_ends_a_controller_at_once() -> None:
    """Nobody waits for answers that do not come."""

    async def scenario() -> None:
        script = Script()
        async with Controller(script) as controller:
            await ask(controller)
            await script.wait_for(1)
            controller.program.interrupt(signal.SIGTERM)
            await script.wait_for(2)
            wait = asyncio.ensure_future(controller.program.wait())
            await asyncio.sleep(0)
            assert not wait.done()
            controller.program.interrupt(signal.SIGTERM)
            assert await wait == 0

    play(scenario)
