"""Uploads at a worker: steps are handed to the shell as they come, and answered as they end.

The shell carries them out one after the other, away from the devices; so there is no queue here.
When the controller goes, what has arrived of its uploads is dropped: the next one begins anew.

Bound: `OPEN_MAX` steps at once, far more than a controller that keeps to the rules ever sends.
"""

from typing import Final

from clockwork.messages.actions import ActionFailed, ActionType
from clockwork.messages.ids import ActionId, TaskId
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import (
    DropUploads,
    StoreUpload,
    UploadAction,
    UploadDone,
    UploadStored,
)
from clockwork.messages.worker_io import SendResult
from clockwork.worker.outbox import Outbox

OPEN_MAX: Final = 1_024
"""Steps under way (chosen)."""


class Uploads:
    """Steps of uploads that the shell carries out."""

    __slots__ = ("_is_used", "_open", "_outbox")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        # What the shell has been told and has not reported: the action and when it was received;
        # None if its controller is gone.
        self._open: dict[TaskId, tuple[ActionId, int] | None] = {}
        # True once the controller has begun an upload.
        self._is_used = False

    def begin(
        self, task_id: TaskId, action: UploadAction, payload: Payload, received_at_ns: int
    ) -> None:
        """Have the shell carry out a step."""
        if len(self._open) >= OPEN_MAX:
            text = f"{OPEN_MAX} steps of uploads are under way already"
            status = ActionStatus.RUNTIME_ERROR
            self._outbox.fail(action, status, text, received_at_ns=received_at_ns)
            return
        self._is_used = True
        self._open[task_id] = (action.action_id, received_at_ns)
        self._outbox.effects.append(StoreUpload(task_id, action, payload))

    def end(self, event: UploadStored) -> None:
        """Answer a step that the shell has carried out."""
        assert event.task_id in self._open, f"step {event.task_id} ended, but is not under way"
        begun = self._open.pop(event.task_id)
        if begun is None:
            return
        (action_id, received_ns), now_ns = begun, self._outbox.now_ns
        result: UploadDone | ActionFailed
        if event.status is ActionStatus.SUCCESS:
            result = UploadDone(action_id, event.is_there, received_ns, now_ns)
        else:
            kind = ActionType.UPLOAD_MODEL
            result = ActionFailed(action_id, kind, event.status, event.message, received_ns, now_ns)
        self._outbox.effects.append(SendResult(message=result, payloads=()))

    def forget_controller(self) -> None:
        """Drop what has arrived, and answer nobody who waits now."""
        self._open = dict.fromkeys(self._open)
        if self._is_used:
            self._is_used = False
            self._outbox.effects.append(DropUploads())
