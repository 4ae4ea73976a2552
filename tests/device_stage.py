"""Devices at work in real time, for a suite that holds for all kinds of them.

`emulated` lets measured durations pass, `pretended` is an engine with threads that sleeps as long
and moves bytes about, `onnx` computes. All read the same model directory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from threading import Event

import uvloop
from msgspec.structs import replace
from onnx_models import PAGE, save_linear

from clockwork.engines.emulated import DirectoryProfiles, EmulatedEngine
from clockwork.engines.engine import Engine, EngineError, Inference
from clockwork.engines.onnx import OnnxConfig, OnnxEngine
from clockwork.errors import ModelError
from clockwork.live.clock import now_ns
from clockwork.live.devices import Devices, EmulatedDevices
from clockwork.live.real_devices import RealDevices
from clockwork.messages.actions import Action, ActionFailed, LoadModel, LoadWeights, Result, Timing
from clockwork.messages.ids import ActionId, CodeId, GpuId, ModelId
from clockwork.messages.models import GpuState, ModelProfile
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    ActionArrived,
    InferTask,
    LoadModelTask,
    LoadWeightsTask,
    SendResult,
    WorkerEvent,
    WorkerSay,
)
from clockwork.models.compile import compile_model
from clockwork.models.folders import ModelFolders
from clockwork.models.format import (
    EMULATED,
    Measurement,
    ModelFile,
    profile_of,
    read_model_file,
    write_model_file,
)
from clockwork.units import FOREVER_NS, MIB, MS, SECOND
from clockwork.worker.core import WorkerRole

KINDS = ("emulated", "pretended", "onnx")
SLOW_KINDS = ("emulated", "pretended")
"""Those whose infers and loads take as long as measured."""
EXEC_NS = 20 * MS
LOAD_NS = 30 * MS
INPUT_BYTES = 32 * 4
OUTPUT_BYTES = 64 * 4
PATIENCE_S = 30.0


def save_model(folder: Path) -> Path:
    """Compile a matrix product with measurements of 20 ms per infer; return its directory."""
    directory = folder / "linear"
    compile_model(save_linear(folder / "linear.onnx"), directory, measure=False)
    file = read_model_file(directory)
    exec_ns = {size: EXEC_NS + size * MS for size in file.batch_sizes}
    write_measured(directory, file, {EMULATED: Measurement(exec_ns=exec_ns, load_ns=LOAD_NS)})
    return directory


def write_measured(directory: Path, file: ModelFile, measurements: dict[str, Measurement]) -> None:
    """Write a model file with other measurements."""
    directory.mkdir(exist_ok=True)
    write_model_file(directory, replace(file, measurements=measurements))


class PretendedEngine:
    """An engine that sleeps, and answers every input with itself, twice."""

    def __init__(self, *, gpus: int, pages: int, folders: Sequence[str]) -> None:
        self._gpus = states(gpus, pages)
        self._check_path = ModelFolders(folders)
        self._profiles: dict[CodeId, ModelProfile] = {}
        self._pages: dict[tuple[GpuId, int], CodeId] = {}
        self._reading: set[tuple[GpuId, int]] = set()
        self.closed: list[GpuId] = []
        self.released: list[CodeId] = []
        # What the next infer raises instead.
        self.failure: Exception | None = None

    @property
    def page_bytes(self) -> int:
        """Bytes of a page."""
        return PAGE

    def gpus(self) -> list[GpuState]:
        """Return the GPUs."""
        return self._gpus

    def load_model(self, task: LoadModelTask) -> ModelProfile:
        """Read a model file."""
        try:
            file = read_model_file(self._check_path(task.path))
        except ModelError as error:
            raise EngineError(ActionStatus.INVALID_MODEL_PATH, str(error)) from None
        profile = self._profiles[task.code_id] = profile_of(
            file,
            page_bytes=PAGE,
            device_kind=EMULATED,
            batch_max=task.batch_max,
            exec_max_ns=task.exec_max_ns,
        )
        return profile

    def load_weights(self, task: LoadWeightsTask) -> None:
        """Mark pages as a model's, which nobody may be reading."""
        places = {(task.gpu_id, page) for page in task.pages}
        assert not places & self._reading, "pages are written while they are read"
        pause(self._profiles[task.code_id].load_ns)
        assert not places & self._reading, "pages are read while they are written"
        self._pages.update(dict.fromkeys(places, task.code_id))

    def infer(self, task: InferTask) -> Inference:
        """Answer every input with itself, twice; the pages must be the model's all the time."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        profile = self._profiles[task.code_id]
        places = {(task.gpu_id, page) for page in task.pages}
        self._reading |= places
        self._check_pages(places, task.code_id)
        begin_ns = now_ns()
        pause(profile.exec_ns[profile.batch_sizes.index(task.padded_size)])
        end_ns = now_ns()
        self._check_pages(places, task.code_id)
        self._reading -= places
        payload = bytes(task.payload) or bytes(profile.input_bytes * task.batch_size)
        size = len(payload) // task.batch_size
        rows = [payload[size * row : size * (row + 1)] for row in range(task.batch_size)]
        return Inference(
            copy_input=Timing(begin_ns, begin_ns, 0),
            exec=Timing(begin_ns, end_ns, end_ns - begin_ns),
            copy_output=Timing(end_ns, end_ns, 0),
            outputs=(b"".join(row + row for row in rows),),
        )

    def release(self, code_id: CodeId) -> None:
        """Forget a model."""
        self.released.append(code_id)
        del self._profiles[code_id]

    def close(self, gpu_id: GpuId) -> None:
        """Note that a GPU was closed."""
        self.closed.append(gpu_id)

    def _check_pages(self, places: set[tuple[GpuId, int]], code_id: CodeId) -> None:
        for place in places:
            assert self._pages[place] == code_id, f"page {place} holds {self._pages[place]}"


def pause(duration_ns: int) -> None:
    """Let time pass on this thread."""
    Event().wait(duration_ns / SECOND)


class DeviceStage:
    """Devices of one kind on the running loop, with all results kept in order."""

    def __init__(self, kind: str, *, gpus: int, pages: int, folders: Sequence[str]) -> None:
        self.results: list[tuple[Result, bytes]] = []
        self.failures: list[BaseException] = []
        self.lines: list[str] = []
        self.engine: Engine | EmulatedEngine = _engine(kind, gpus, pages, folders)
        self.role = WorkerRole(
            page_bytes=PAGE, gpus=self.engine.gpus(), may_lack_inputs=kind == "emulated"
        )
        self.devices: Devices
        if isinstance(self.engine, EmulatedEngine):
            self.devices = EmulatedDevices(self.role, self.engine, self._emit, self._fail)
        else:
            self.devices = RealDevices(self.role, self.engine, self._emit, self._fail)
        self._news = asyncio.Event()

    def send(self, *actions: Action, payload: Payload = b"") -> None:
        """Let actions arrive now, as one batch."""
        self.deliver(*(ActionArrived(action, payload, now_ns()) for action in actions))

    def deliver(self, *events: WorkerEvent) -> None:
        """Hand events to the devices."""
        self.devices.deliver(events)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for a state that comes with a result or a failure."""
        while not is_true():
            self._news.clear()
            await self._news.wait()

    async def wait_for(self, count: int) -> list[Result]:
        """Return all results once there are `count` of them."""
        await self.until(lambda: len(self.results) >= count)
        return [result for result, _ in self.results]

    async def result(self, action_id: int) -> tuple[Result, bytes]:
        """Return the result of an action and its payload."""
        while True:
            for result, payload in self.results:
                if result.action_id == action_id:
                    return result, payload
            await self.wait_for(len(self.results) + 1)

    async def status(self, action_id: int) -> ActionStatus:
        """Return how an action ended."""
        result, _ = await self.result(action_id)
        return result.status if isinstance(result, ActionFailed) else ActionStatus.SUCCESS

    async def warm(self, directory: Path, *, model: int = 0, gpus: int = 1) -> None:
        """Load a model everywhere; uses action ids from 1,000 on."""
        self.send(load_model(directory, model=model, action=1_000 + model))
        await self.result(1_000 + model)
        for gpu_id in range(gpus):
            action_id = ActionId(2_000 + 100 * model + gpu_id)
            self.send(LoadWeights(action_id, ModelId(model), GpuId(gpu_id), 0, FOREVER_NS, 0))
            assert await self.status(action_id) is ActionStatus.SUCCESS

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self._news.set()

    def _emit(self, effect: SendResult | WorkerSay) -> None:
        if isinstance(effect, WorkerSay):
            self.lines.append(effect.text)
            return
        payload = b"".join(bytes(part) for part in effect.payloads)
        self.results.append((effect.message, payload))
        self._news.set()


Scenario = Callable[[DeviceStage], Awaitable[None]]


def play(
    kind: str,
    scenario: Scenario,
    *,
    folders: Sequence[str] = (),
    gpus: int = 1,
    pages: int = 4,
    ends_idle: bool = True,
) -> DeviceStage:
    """Run a scenario on fresh devices; return the stage after all has ended."""

    async def whole() -> DeviceStage:
        stage = DeviceStage(kind, gpus=gpus, pages=pages, folders=folders)
        try:
            await asyncio.wait_for(scenario(stage), PATIENCE_S)
            if ends_idle:
                await asyncio.wait_for(stage.devices.wait_idle(), PATIENCE_S)
                stage.role.check()
        finally:
            stage.devices.close()
        return stage

    return uvloop.run(whole())


def states(gpus: int, pages: int) -> list[GpuState]:
    """Return GPUs with small pages."""
    return [
        GpuState(GpuId(index), pages * PAGE, pages, 4 * MIB, 64 * MIB, ()) for index in range(gpus)
    ]


def load_model(
    directory: Path | str, *, model: int = 0, action: int = 0, copies: int = 1
) -> LoadModel:
    """Return a LoadModel of a directory."""
    ids = ActionId(action), ModelId(model)
    return LoadModel(*ids, str(directory), 0, FOREVER_NS, copies, 16, SECOND)


def _engine(kind: str, gpus: int, pages: int, folders: Sequence[str]) -> Engine | EmulatedEngine:
    if kind == "emulated":
        profiles = DirectoryProfiles(page_bytes=PAGE, check_path=ModelFolders(folders))
        return EmulatedEngine(gpus=states(gpus, pages), page_bytes=PAGE, profiles=profiles)
    if kind == "pretended":
        return PretendedEngine(gpus=gpus, pages=pages, folders=folders)
    config = OnnxConfig(
        gpu_count=gpus,
        cache_bytes=pages * PAGE,
        page_bytes=PAGE,
        io_pool_bytes=4 * MIB,
        workspace_bytes=64 * MIB,
        model_folders=tuple(folders),
    )
    return OnnxEngine(config, now_ns=now_ns)
