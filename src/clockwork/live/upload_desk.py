"""Where a worker's uploads are stored: on a thread of its own, so that no disk stops the loop.

Steps are carried out in the order in which they come. The thread starts with the first one.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from clockwork.errors import ModelError
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import (
    BeginUpload,
    DropUploads,
    StoreChunk,
    StoreUpload,
    UploadAction,
    UploadStored,
)
from clockwork.messages.worker_io import WorkerEvent
from clockwork.models.uploads import UploadStore

_LOG: Final = logging.getLogger(__name__)

JOIN_S: Final = 10.0
"""How long the thread may take to end, which is at most one chunk and one flush (chosen)."""

_Order = StoreUpload | DropUploads


class UploadDesk:
    """Carries out steps of uploads; `put` from any thread, the rest on the loop's."""

    def __init__(
        self, store: UploadStore | None, deliver: Callable[[Sequence[WorkerEvent]], None]
    ) -> None:
        """Begin on the running loop.

        Args:
            store: who writes; None: every upload is refused.
            deliver: takes the events UploadStored, on the loop's thread.
        """
        self._store = store or UploadStore(None, size_max=0)
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Order | None] = SimpleQueue()
        self._lock = Lock()
        self._thread: Thread | None = None
        self._is_closed = False
        # Steps that were put and whose end was not delivered.
        self.open_count = 0

    def put(self, order: _Order) -> None:
        """Carry out an order after those before it."""
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._work, name="Disk-0", daemon=True)
                self._thread.start()
            if isinstance(order, StoreUpload):
                self.open_count += 1
        self._queue.put(order)

    def close(self) -> None:
        """End after what was put; unfinished uploads are removed, nothing is delivered any more."""
        self._is_closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(JOIN_S)

    def _work(self) -> None:
        while (order := self._queue.get()) is not None:
            if isinstance(order, StoreUpload):
                event = self._perform(order)
                if not self._is_closed:
                    self._loop.call_soon_threadsafe(self._report, event)
            else:
                self._store.drop_all()
        self._store.drop_all()

    def _perform(self, order: StoreUpload) -> UploadStored:
        try:
            is_there = self._step(order.action, order.payload)
        except ModelError as error:
            status = ActionStatus.INVALID_MODEL_PATH
            return UploadStored(order.task_id, False, status, str(error))
        except Exception as error:
            _LOG.exception("task_id=%d an upload failed", order.task_id)
            text = f"{type(error).__name__}: {error}"
            return UploadStored(order.task_id, False, ActionStatus.RUNTIME_ERROR, text)
        return UploadStored(order.task_id, is_there)

    def _step(self, action: UploadAction, payload: Payload) -> bool:
        """Carry out one step; return whether the model is there as a whole."""
        if isinstance(action, BeginUpload):
            return self._store.begin(action.name, action.files)
        if isinstance(action, StoreChunk):
            self._store.append(action.name, action.file_index, action.offset, payload)
            return False
        if action.is_complete:
            self._store.finish(action.name)
        else:
            self._store.drop(action.name)
        return action.is_complete

    def _report(self, event: UploadStored) -> None:
        with self._lock:
            self.open_count -= 1
        if not self._is_closed:
            self._deliver((event,))
