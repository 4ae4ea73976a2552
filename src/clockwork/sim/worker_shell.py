"""The shell of simulated workers: one controller at a time, tasks on devices, clocks translated.

One process after the other: what replaces a killed worker has nothing loaded.

Source: SPEC 2.8, as in the live worker.
"""

from collections.abc import Callable

from clockwork.messages.controller_io import ToWorker
from clockwork.messages.worker_io import (
    ActionArrived,
    ControllerLost,
    ReleaseModel,
    SendResult,
    StartTask,
    TaskDone,
    WorkerEffect,
)
from clockwork.parts.clock_offset import shift_action, shift_result
from clockwork.sim.devices import Devices
from clockwork.sim.links import Leaving, WorkerHost, WorkerLink, Zeros, frames_bytes


class WorkerShell:
    """One worker process after the other in one place of the controller's list."""

    def __init__(
        self,
        make_process: Callable[["WorkerShell"], tuple[WorkerHost, Devices]],
        zeros: Zeros,
    ) -> None:
        """Start the first process."""
        self._make_process = make_process
        self._zeros = zeros
        # The controller's connection; one at a time.
        self.link: WorkerLink | None = None
        self.host: WorkerHost | None = None
        self.devices: Devices | None = None
        # True from the word that it leaves until the process is gone.
        self.is_leaving = False
        self.start()

    def start(self) -> None:
        """Start an empty process."""
        self.host, self.devices = self._make_process(self)

    def ensure(self) -> None:
        """Start a process unless one is alive."""
        if self.host is None:
            self.start()

    def kill(self, reason: str) -> None:
        """Kill the process; its controller learns it."""
        assert self.host is not None
        assert self.devices is not None
        self._end()
        if self.link is not None:
            self.link.die_at_b(reason)
            self.link = None

    def leave(self, reason: str) -> None:
        """Have the process finish what it has, and end when its controller lets it go."""
        if self.link is None:
            self._end()
        else:
            self.is_leaving = True
            self.link.send_to_a([Leaving(reason)])

    def carry_out(self, effects: list[WorkerEffect]) -> None:
        """Start tasks, and send results in one parcel."""
        results: list[SendResult | Leaving] = []
        devices, link = self.devices, self.link
        assert devices is not None
        for effect in effects:
            if isinstance(effect, SendResult):
                results.append(_in_their_clock(effect, link))
            elif isinstance(effect, StartTask):
                devices.start(effect.task)
            elif isinstance(effect, ReleaseModel):
                devices.release(effect.code_id)
        if results and link is not None:
            size_bytes = frames_bytes(results) if link.counts_bytes else 0
            link.send_to_a(results, size_bytes)

    def on_task_done(self, done: TaskDone) -> None:
        """Tell the role that a task has ended."""
        assert self.host is not None
        self.host.deliver([done])

    def on_actions(self, actions: list[ToWorker]) -> None:
        """Hand actions to the role, their windows in its own clock."""
        host, link = self.host, self.link
        if host is None or link is None or not actions:
            return
        at_ns = host.now_ns
        delta_ns = link.offset_at_b.delta_ns
        host.deliver(
            [
                ActionArrived(
                    shift_action(item.message, delta_ns) if delta_ns else item.message,
                    self._zeros.joined(item.payloads),
                    at_ns,
                )
                for item in actions
            ]
        )

    def on_controller_lost(self, link: WorkerLink) -> None:
        """Tell the role that nobody waits for its results any more."""
        if self.link is link:
            self.link = None
            if self.host is not None:
                self.host.deliver([ControllerLost()])
            if self.is_leaving:
                self._end()

    def _end(self) -> None:
        """End the process, if there is one."""
        self.is_leaving = False
        if self.host is not None and self.devices is not None:
            self.host.die()
            self.devices.is_alive = False
            self.host = self.devices = None


def _in_their_clock(effect: SendResult, link: WorkerLink | None) -> SendResult:
    """Return a result with its instants in the controller's clock."""
    offset_ns = 0 if link is None else link.offset_at_b.offset_ns
    if not offset_ns:
        return effect
    return SendResult(shift_result(effect.message, offset_ns), effect.payloads)
