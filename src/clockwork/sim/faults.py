"""What goes wrong in a run, and when it is over: carries out the faults of a scenario.

Each fault has its instant and, where it lasts, ends by itself; `heal` ends whatever still lasts.
Numbers of workers, GPUs and clients wrap around, so that any fault suits any cluster.

Overlapping faults of one kind on one thing: the first end ends both, except that stalls add up.

Not here: what faults are (`scenario.py`), what they do to tasks (`devices.py`) and parcels
(`network.py`).
"""

from collections.abc import Callable
from typing import Final

from clockwork.messages.ids import ModelId
from clockwork.messages.requests import (
    DoneResponse,
    EvictRequest,
    LoadModelRequest,
    LoadModelResponse,
    UnloadModelRequest,
)
from clockwork.messages.status import Status
from clockwork.sim.devices import GpuFaults
from clockwork.sim.loop import START_NS
from clockwork.sim.scenario import (
    AddModel,
    Burst,
    CutConnection,
    DelayMessages,
    DriftClock,
    DropClient,
    EvictModel,
    FailExecutions,
    FailLoads,
    Fault,
    KillWorker,
    LeaveWorker,
    Partition,
    PauseController,
    RemoveModel,
    RestartController,
    ShortMemory,
    SlowGpu,
    StallGpu,
)
from clockwork.sim.worker_shell import WorkerShell
from clockwork.sim.world import World


class Faults:
    """Carries out the faults of a world's scenario."""

    def __init__(self, world: World) -> None:
        """Enter all faults into the world's agenda."""
        self._world = world
        # Models that were added, oldest first.
        self._added: list[ModelId] = []
        # Answers of the controller to the operator's orders, by kind and status, for tests.
        self.answers: list[tuple[str, Status]] = []
        for fault in world.scenario.faults:
            world.loop.at(START_NS + fault.at_ns, self._begin, fault)

    def heal(self) -> None:
        """End everything that lasts."""
        world = self._world
        for path in world.paths:
            path.extra_ns = 0
            path.heal(path.cut_count)
        for worker in world.faults:
            worker.model_loads_failing = 0
            for gpu in worker.gpus:
                gpu.slowness = 1.0
                gpu.executions_failing = gpu.loads_failing = 0
        world.controller.ensure()
        for shell in world.workers:
            shell.ensure()

    def _begin(self, fault: Fault) -> None:
        _BEGIN[type(fault)](self, fault)

    def _worker_index(self, index: int) -> int:
        return index % len(self._world.workers)

    def _gpu(self, worker: int, gpu: int) -> GpuFaults:
        gpus = self._world.faults[self._worker_index(worker)].gpus
        return gpus[gpu % len(gpus)]

    def _after(self, for_ns: int, call: Callable[[None], None]) -> None:
        self._world.loop.at(self._world.loop.now_ns + for_ns, call, None)

    # Processes.

    def _kill_worker(self, fault: KillWorker) -> None:
        shell = self._world.workers[self._worker_index(fault.worker)]
        if shell.host is None:
            return
        shell.kill("the worker was killed")
        self._after(fault.down_ns, lambda _: shell.ensure())

    def _leave_worker(self, fault: LeaveWorker) -> None:
        shell = self._world.workers[self._worker_index(fault.worker)]
        if shell.host is not None and not shell.is_leaving:
            shell.leave("the worker was asked to end")
            self._replace_when_gone(shell, fault.down_ns)

    def _replace_when_gone(self, shell: WorkerShell, after_ns: int) -> None:
        """Start a new worker after a time, or after another if the old one still has to finish."""

        def look(_: None) -> None:
            if shell.is_leaving:
                self._replace_when_gone(shell, after_ns)
            else:
                shell.ensure()

        self._after(after_ns, look)

    def _restart_controller(self, fault: RestartController) -> None:
        controller = self._world.controller
        if controller.host is None:
            return
        controller.kill("the controller was killed")
        self._after(fault.down_ns, lambda _: controller.ensure())

    def _pause_controller(self, fault: PauseController) -> None:
        host = self._world.controller.host
        if host is not None:
            host.busy_until_ns = max(host.busy_until_ns, self._world.loop.now_ns) + fault.for_ns

    def _drop_client(self, fault: DropClient) -> None:
        clients = self._world.clients
        if clients:
            clients[fault.client % len(clients)].kill(fault.down_ns)

    def _burst(self, fault: Burst) -> None:
        self._world.visit(fault.workload)

    # Connections and clocks.

    def _cut(self, fault: CutConnection) -> None:
        link = self._world.workers[self._worker_index(fault.worker)].link
        if link is not None:
            link.reset("the connection was reset")

    def _partition(self, fault: Partition) -> None:
        index = self._worker_index(fault.worker)
        path = self._world.paths[index]
        if path.is_cut:
            return
        path.cut()
        episode = path.cut_count
        self._after(fault.for_ns, lambda _: path.heal(episode))
        dead_after_ns = self._world.scenario.network.dead_after_ns
        self._after(dead_after_ns, lambda _: self._give_up(index, episode))

    def _give_up(self, index: int, episode: int) -> None:
        """Break a connection whose ends have not heard of each other for too long."""
        path, link = self._world.paths[index], self._world.workers[index].link
        if path.is_cut and path.cut_count == episode and link is not None:
            link.reset("the other side does not answer")

    def _delay(self, fault: DelayMessages) -> None:
        path = self._world.paths[self._worker_index(fault.worker)]
        path.extra_ns = fault.extra_ns

        def end(_: None) -> None:
            path.extra_ns = 0

        self._after(fault.for_ns, end)

    def _drift(self, fault: DriftClock) -> None:
        clock = self._world.clocks[self._worker_index(fault.worker)]
        clock.drift(fault.drift_ppm, self._world.loop.now_ns)

    # Devices.

    def _stall(self, fault: StallGpu) -> None:
        self._gpu(fault.worker, fault.gpu).stall(self._world.loop.now_ns, fault.for_ns)

    def _slow(self, fault: SlowGpu) -> None:
        gpu = self._gpu(fault.worker, fault.gpu)
        gpu.slowness = fault.factor

        def end(_: None) -> None:
            gpu.slowness = 1.0

        self._after(fault.for_ns, end)

    def _fail_executions(self, fault: FailExecutions) -> None:
        self._gpu(fault.worker, fault.gpu).executions_failing += fault.count

    def _fail_loads(self, fault: FailLoads) -> None:
        self._gpu(fault.worker, fault.gpu).loads_failing += fault.count

    def _short_memory(self, fault: ShortMemory) -> None:
        index = self._worker_index(fault.worker)
        self._world.faults[index].model_loads_failing += fault.count

    # Models.

    def _add_model(self, fault: AddModel) -> None:
        operator = self._world.operator
        request = LoadModelRequest(operator.next_id(), 0, fault.path, fault.copies)
        operator.ask(request, self._on_added)

    def _on_added(self, response: LoadModelResponse) -> None:
        self.answers.append(("load", response.status))
        if response.model is not None:
            first = response.model.model_id
            self._added += [ModelId(first + copy) for copy in range(response.copies)]

    def _remove_model(self, fault: RemoveModel) -> None:
        if self._added:
            operator = self._world.operator
            request = UnloadModelRequest(operator.next_id(), 0, self._added.pop(0))
            operator.ask(request, lambda response: self._on_done("unload", response))

    def _evict_model(self, fault: EvictModel) -> None:
        operator = self._world.operator
        request = EvictRequest(operator.next_id(), 0, ModelId(fault.model))
        operator.ask(request, lambda response: self._on_done("evict", response))

    def _on_done(self, kind: str, response: DoneResponse) -> None:
        self.answers.append((kind, response.status))


_BEGIN: Final[dict[type, Callable[..., None]]] = {
    KillWorker: Faults._kill_worker,
    LeaveWorker: Faults._leave_worker,
    CutConnection: Faults._cut,
    Partition: Faults._partition,
    DelayMessages: Faults._delay,
    StallGpu: Faults._stall,
    SlowGpu: Faults._slow,
    FailExecutions: Faults._fail_executions,
    FailLoads: Faults._fail_loads,
    ShortMemory: Faults._short_memory,
    DriftClock: Faults._drift,
    RestartController: Faults._restart_controller,
    PauseController: Faults._pause_controller,
    DropClient: Faults._drop_client,
    Burst: Faults._burst,
    AddModel: Faults._add_model,
    RemoveModel: Faults._remove_model,
    EvictModel: Faults._evict_model,
}
