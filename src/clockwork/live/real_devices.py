"""Runs a worker role on an engine, with one thread per executor; see `clockwork.live.devices`.

Threads: two per GPU (infers; loads of weights), one for models. Each has a queue that only it
takes from. Shared by all threads, and touched only under the lock: the role, what waits to be
emitted, the count of running tasks.
"""

import asyncio
import logging
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from clockwork.engines.engine import Engine, EngineError
from clockwork.live.clock import now_ns
from clockwork.live.devices import Emit, OnFailure
from clockwork.live.scheduling import give_way, stay_on
from clockwork.live.timer import PreciseTimer
from clockwork.live.upload_desk import UploadDesk
from clockwork.messages.actions import Timing
from clockwork.messages.ids import GpuId
from clockwork.messages.role import WAKEUP
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import DropUploads, StoreUpload
from clockwork.messages.worker_io import (
    InferTask,
    InferTaskDone,
    LoadModelTaskDone,
    LoadWeightsTask,
    LoadWeightsTaskDone,
    ReleaseModel,
    SendResult,
    StartTask,
    Task,
    TaskDone,
    TaskFailed,
    WorkerEvent,
    WorkerSay,
)
from clockwork.models.uploads import UploadStore
from clockwork.worker.core import WorkerRole

_LOG: Final = logging.getLogger(__name__)

JOIN_S: Final = 10.0
"""How long a thread may take to end; what it runs was waited for before (chosen)."""

_Queue = SimpleQueue[Task | ReleaseModel | None]
"""Orders for one thread; None ends it."""


class RealDevices:
    """Runs a role on an engine; members belong to the event loop's thread."""

    def __init__(
        self,
        role: WorkerRole,
        engine: Engine,
        emit: Emit,
        on_failure: OnFailure,
        *,
        store: UploadStore | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        """Begin on the running loop and start the threads; `close` ends them.

        Args:
            store: takes uploads; without one they are refused.
            cores: the core that each GPU's infers stay on; empty: the system chooses.
        """
        self._role = role
        self._engine = engine
        self._emit = emit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._outbox: list[SendResult | WorkerSay] = []
        # Tasks that a thread has been told to start and has not reported.
        self._running_count = 0
        # True while the loop has been asked to look at what changed.
        self._is_flush_due = False
        # When the role wants to be woken, as the loop knows it.
        self._wakeup_ns: int | None = None
        self._is_closed = False
        self._cores = cores
        self._timer = PreciseTimer(self._loop, self._on_timer)
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._desk = UploadDesk(store, self.deliver)
        self._models: _Queue = SimpleQueue()
        gpu_ids = [GpuId(gpu.gpu_id) for gpu in engine.gpus()]
        self._weights: list[_Queue] = [SimpleQueue() for _ in gpu_ids]
        self._infers: list[_Queue] = [SimpleQueue() for _ in gpu_ids]
        self._loaders = [self._thread("CPU-0", self._models)]
        self._loaders += [
            self._thread(f"GPU{gpu_id}-Weights-0", self._weights[gpu_id]) for gpu_id in gpu_ids
        ]
        self._inferrers = [
            self._thread(f"GPU{gpu_id}-GPU-0", self._infers[gpu_id], closes=gpu_id)
            for gpu_id in gpu_ids
        ]
        for thread in (*self._loaders, *self._inferrers):
            emit(WorkerSay(f"{thread.name} started"))

    def deliver(self, events: Sequence[WorkerEvent]) -> None:
        """Hand events to the role as of now, and emit what it answers."""
        if self._is_closed:
            return
        try:
            with self._lock:
                self._handle(events)
            self._flush()
        except Exception as error:
            self._fail(error)

    async def wait_idle(self) -> None:
        """Wait until no task runs and every result has been emitted."""
        await self._is_idle.wait()

    def close(self) -> None:
        """End all threads after what they run now; nothing is emitted any more.

        Threads that hang in the engine are left behind, and what they hold with them.
        """
        self._stop()
        self._desk.close()
        # In this order: the threads of infers give back the pages that loads may still write.
        for queue in (self._models, *self._weights):
            queue.put(None)
        if _are_ended(self._loaders):
            for queue in self._infers:
                queue.put(None)
            _are_ended(self._inferrers)

    # On any thread, under the lock.

    def _handle(self, events: Sequence[WorkerEvent]) -> None:
        """Call the role and pass its effects on."""
        for effect in self._role.handle(events, now_ns()):
            if isinstance(effect, StartTask):
                self._running_count += 1
                self._queue_of(effect.task).put(effect.task)
            elif isinstance(effect, ReleaseModel):
                self._models.put(effect)
            elif isinstance(effect, StoreUpload | DropUploads):
                self._desk.put(effect)
            else:
                self._outbox.append(effect)

    def _queue_of(self, task: Task) -> _Queue:
        if isinstance(task, InferTask):
            return self._infers[task.gpu_id]
        if isinstance(task, LoadWeightsTask):
            return self._weights[task.gpu_id]
        return self._models

    # On the loop's thread.

    def _flush(self) -> None:
        """Emit what waits, and set the timer anew."""
        if self._is_closed:
            return
        with self._lock:
            outbox, self._outbox = self._outbox, []
            self._is_flush_due = False
            is_idle = not self._running_count and not self._desk.open_count
            wakeup_ns = self._wakeup_ns = self._role.wakeup_ns
        for effect in outbox:
            self._emit(effect)
        if wakeup_ns is None:
            self._timer.disarm()
        else:
            self._timer.arm(wakeup_ns)
        if is_idle:
            self._is_idle.set()
        else:
            self._is_idle.clear()

    def _on_timer(self) -> None:
        self.deliver((WAKEUP,))

    def _fail(self, error: BaseException) -> None:
        if not self._is_closed:
            self._stop()
            self._on_failure(error)

    def _stop(self) -> None:
        """Call the role no more."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._timer.close()

    # On an executor's thread.

    def _thread(self, name: str, queue: _Queue, *, closes: GpuId | None = None) -> Thread:
        # A daemon: a device that hangs for ever must not keep the process alive.
        thread = Thread(target=self._work, args=(queue, closes), name=name, daemon=True)
        thread.start()
        return thread

    def _work(self, queue: _Queue, closes: GpuId | None) -> None:
        """Carry out orders until None comes; then close a GPU, if it is this thread's to close."""
        # All of them: sessions start threads of their own, which are like those that load models.
        give_way()
        if closes is not None and self._cores:
            stay_on(self._cores[closes])
        while (order := queue.get()) is not None:
            if isinstance(order, ReleaseModel):
                self._release(order)
            else:
                self._report(self._perform(order))
        if closes is not None:
            self._engine.close(closes)

    def _perform(self, task: Task) -> TaskDone:
        """Run `task`; whatever goes wrong becomes its failure."""
        try:
            if isinstance(task, InferTask):
                return self._infer(task)
            begin_ns = now_ns()
            if isinstance(task, LoadWeightsTask):
                self._engine.load_weights(task)
                return LoadWeightsTaskDone(task.task_id, _since(begin_ns))
            profile = self._engine.load_model(task)
            return LoadModelTaskDone(task.task_id, _since(begin_ns), profile)
        except EngineError as error:
            return TaskFailed(task.task_id, error.status, str(error))
        except Exception as error:
            # The engine's library failed in a way that the engine does not know.
            _LOG.exception("task_id=%d the engine raised", task.task_id)
            text = f"{type(error).__name__}: {error}"
            return TaskFailed(task.task_id, ActionStatus.RUNTIME_ERROR, text)

    def _infer(self, task: InferTask) -> InferTaskDone:
        inference = self._engine.infer(task)
        return InferTaskDone(
            task_id=task.task_id,
            copy_input=inference.copy_input,
            exec=inference.exec,
            copy_output=inference.copy_output,
            clock_before_mhz=inference.clock_before_mhz,
            clock_mhz=inference.clock_mhz,
            outputs=inference.outputs,
        )

    def _release(self, order: ReleaseModel) -> None:
        try:
            self._engine.release(order.code_id)
        except Exception:
            _LOG.exception("code_id=%d could not be released", order.code_id)

    def _report(self, event: TaskDone) -> None:
        """Tell the role that a task ended; ask the loop to look if there is anything to see."""
        with self._lock:
            if self._is_closed:
                return
            self._running_count -= 1
            try:
                self._handle((event,))
            except Exception as error:
                self._loop.call_soon_threadsafe(self._fail, error)
                return
            is_news = (
                bool(self._outbox)
                or not self._running_count
                or self._role.wakeup_ns != self._wakeup_ns
            )
            if is_news and not self._is_flush_due:
                self._is_flush_due = True
                self._loop.call_soon_threadsafe(self._flush)


def _are_ended(threads: Sequence[Thread]) -> bool:
    """Wait for threads that were told to end; False if one hangs in its task."""
    for thread in threads:
        thread.join(JOIN_S)
        if thread.is_alive():
            _LOG.error("thread=%s does not end: its task hangs", thread.name)
            return False
    return True


def _since(begin_ns: int) -> Timing:
    end_ns = now_ns()
    return Timing(begin_ns, end_ns, end_ns - begin_ns)
