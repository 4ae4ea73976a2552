"""Devices in real time: what carries out the worker role's effects and tells it what happened.

Both kinds look alike to the worker program (`Devices`): it delivers what the network brought, and
results come out of `emit`; both happen on the event loop's thread.

`EmulatedDevices` lets an `EmulatedEngine`'s durations pass. It is a discrete-event simulation that
is paced by the real clock: every end of a task and every wakeup of the role is handled *as of* its
exact instant and in order, some 50 us after it; only what the network brings is handled as of
now. So a busy executor starts its next task at the very instant at which the last one ended, late
timers never add up, and reported times are exact. No threads but the one that stores uploads.

`RealDevices` runs an `Engine` in one thread per executor: two per GPU, and one that loads models.
One lock guards the role. The thread that ends a task calls the role itself and finds its next task
in its own queue, so nobody has to be woken between two tasks; results go to the loop in one
coalesced call. Whatever an engine raises becomes a failed task, never the end of a thread.

Source: SPEC 5.1, 5.9; clockwork: src/clockwork/worker.cpp, src/clockwork/dummy/.
"""

import asyncio
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Final, Protocol

from clockwork.engines.emulated import EmulatedEngine
from clockwork.engines.engine import EngineError
from clockwork.live.clock import now_ns
from clockwork.live.timer import PreciseTimer
from clockwork.live.upload_desk import UploadDesk
from clockwork.messages.actions import Timing
from clockwork.messages.role import WAKEUP
from clockwork.messages.uploads import DropUploads, StoreUpload
from clockwork.messages.worker_io import (
    LoadModelTask,
    LoadModelTaskDone,
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
from clockwork.parts.pace import Pace
from clockwork.parts.wake_lead import WakeLead
from clockwork.units import FOREVER_NS, US
from clockwork.worker.core import WorkerRole

STEP_NS: Final = 200 * US
"""Between two wake-ups of emulated devices, on average. A result that waits for it is late by less
than the promise allows. (With 250 us, 15,000 of them per second cost a third less than without.)"""

Emit = Callable[[SendResult | WorkerSay], None]
"""Takes what leaves the worker, in order; called on the loop's thread."""

OnFailure = Callable[[BaseException], None]
"""Told once, on the loop's thread, that the role raised: a bug, after which it decides nothing."""


class Devices(Protocol):
    """A worker's role at work. All members belong to the event loop's thread."""

    def deliver(self, events: Sequence[WorkerEvent]) -> None:
        """Hand a non-empty batch of events from outside to the role, as of now."""

    async def wait_idle(self) -> None:
        """Wait until no task runs and every result has been emitted."""

    def close(self) -> None:
        """Stop; running tasks are waited for. Nothing is emitted any more."""


class EmulatedDevices:
    """Runs a role on an emulated engine; see the module."""

    def __init__(
        self,
        role: WorkerRole,
        engine: EmulatedEngine,
        emit: Emit,
        on_failure: OnFailure,
        *,
        store: UploadStore | None = None,
    ) -> None:
        """Begin on the running loop; without a store uploads are refused."""
        self._role = role
        self._engine = engine
        self._emit = emit
        self._on_failure = on_failure
        # (end, sequence, what the task yields) of all running tasks.
        self._ends: list[tuple[int, int, TaskDone]] = []
        self._start_count = 0
        # As of when the role was called last.
        self._handled_ns = 0
        self._is_closed = False
        self._timer = PreciseTimer(asyncio.get_running_loop(), self._on_timer)
        self._pace = Pace(STEP_NS)
        # When something is due, and by how much earlier the timer is set.
        self._due_ns = 0
        self._lead = WakeLead()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._desk = UploadDesk(store, self.deliver)

    def deliver(self, events: Sequence[WorkerEvent]) -> None:
        """Hand events to the role as of now, after all that should have happened before."""
        self._step(events)

    async def wait_idle(self) -> None:
        """Wait until no task and no step of an upload runs."""
        await self._is_idle.wait()

    def close(self) -> None:
        """Stop; nothing is emitted any more."""
        if not self._is_closed:
            self._is_closed = True
            self._timer.close()
            self._desk.close()

    def _on_timer(self) -> None:
        due_ns = self._due_ns
        self._lead.note(now_ns() - due_ns)
        while now_ns() < due_ns:
            pass  # shorter than what waking up takes
        self._step(())

    def _step(self, events: Sequence[WorkerEvent]) -> None:
        """Let everything happen that is due, then `events`, if any."""
        if self._is_closed:
            return
        try:
            at_ns = now_ns()
            self._pace.note(at_ns)
            self._advance(at_ns)
            if events:
                self._handle(events, at_ns)
            self._rest()
        except Exception as error:
            self.close()
            self._on_failure(error)

    def _advance(self, until_ns: int) -> None:
        """Let everything happen that is due by `until_ns`, each as of its own instant."""
        ends = self._ends
        while True:
            at_ns = self._next_ns()
            if at_ns > until_ns:
                return
            at_ns = max(at_ns, self._handled_ns)
            batch: list[WorkerEvent] = []
            while ends and ends[0][0] <= at_ns:
                batch.append(heappop(ends)[2])
            self._handle(batch or (WAKEUP,), at_ns)

    def _next_ns(self) -> int:
        end_ns = self._ends[0][0] if self._ends else FOREVER_NS
        wakeup_ns = self._role.wakeup_ns
        return end_ns if wakeup_ns is None or end_ns < wakeup_ns else wakeup_ns

    def _handle(self, events: Sequence[WorkerEvent], at_ns: int) -> None:
        self._handled_ns = at_ns
        for effect in self._role.handle(events, at_ns):
            if isinstance(effect, StartTask):
                self._start(effect.task, at_ns)
            elif isinstance(effect, ReleaseModel):
                self._engine.release(effect.code_id)
            elif isinstance(effect, StoreUpload | DropUploads):
                self._desk.put(effect)
            else:
                self._emit(effect)

    def _start(self, task: Task, at_ns: int) -> None:
        self._start_count += 1
        if isinstance(task, LoadModelTask):
            end_ns, event = self._load_model(task, at_ns)
        else:
            end_ns = at_ns + self._engine.duration_ns(task)
            event = self._engine.done(task, begin_ns=at_ns, end_ns=end_ns)
        heappush(self._ends, (end_ns, self._start_count, event))

    def _load_model(self, task: LoadModelTask, at_ns: int) -> tuple[int, TaskDone]:
        """Load a model now; it takes as long as it really took."""
        begin_ns = now_ns()
        try:
            profile = self._engine.load_model(task)
        except EngineError as error:
            return at_ns, TaskFailed(task.task_id, error.status, str(error))
        duration_ns = now_ns() - begin_ns
        timing = Timing(at_ns, at_ns + duration_ns, duration_ns)
        return timing.end_ns, LoadModelTaskDone(task.task_id, timing, profile)

    def _rest(self) -> None:
        """Set the timer for what comes next."""
        if self._ends or self._desk.open_count:
            self._is_idle.clear()
        else:
            self._is_idle.set()
        next_ns = self._next_ns()
        if next_ns < FOREVER_NS:
            self._due_ns = max(next_ns, self._pace.next_ns)
            self._timer.arm(self._due_ns - self._lead.lead_ns)
        else:
            self._timer.disarm()
