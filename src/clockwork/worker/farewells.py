"""UnloadModel and ClearCache: answered once nobody uses what they dropped.

What is dropped is gone for everybody at once; a task that runs on it may still need its pages and
its code. The shell is told to release a code only when no task of it runs, and the answer is sent
only when it is true: the model is gone, the caches are empty. That takes one task at most.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from clockwork.messages.actions import ClearCache, ClearCacheDone, UnloadModel, UnloadModelDone
from clockwork.messages.ids import CodeId
from clockwork.messages.worker_io import ReleaseModel, SendResult
from clockwork.worker.gpu import Gpu
from clockwork.worker.outbox import Outbox
from clockwork.worker.store import ModelStore


class _Farewell:
    __slots__ = ("code_id", "is_orphan", "result")

    def __init__(self, result: UnloadModelDone | ClearCacheDone, code_id: CodeId | None) -> None:
        # Stamped anew when it is sent.
        self.result = result
        # A code that leaves with its last model.
        self.code_id = code_id
        # True once its controller is gone.
        self.is_orphan = False


class Farewells:
    """Drops models and weights, and answers when they are gone."""

    __slots__ = ("_gpus", "_outbox", "_store", "_waiting")

    def __init__(self, *, store: ModelStore, gpus: Sequence[Gpu], outbox: Outbox) -> None:
        self._store = store
        self._gpus = gpus
        self._outbox = outbox
        self._waiting: list[_Farewell] = []

    def clear(self, action: ClearCache, *, received_at_ns: int) -> None:
        """Drop all weights."""
        for gpu in self._gpus:
            gpu.cache.drop_all()
        result = ClearCacheDone(action.action_id, received_at_ns, self._outbox.now_ns)
        self._waiting.append(_Farewell(result, None))
        self.settle()

    def unload(self, action: UnloadModel, *, received_at_ns: int) -> None:
        """Drop one model, which must be loaded, and its weights everywhere."""
        code_id = self._store.remove(action.model_id)
        for gpu in self._gpus:
            instance = gpu.cache.find(action.model_id)
            if instance is not None:
                gpu.cache.drop(instance)
        result = UnloadModelDone(action.action_id, received_at_ns, self._outbox.now_ns)
        self._waiting.append(_Farewell(result, code_id))
        self.settle()

    def settle(self) -> None:
        """Answer all that wait, if nothing dropped is in use any more."""
        if not self._waiting or not self._is_settled():
            return
        effects = self._outbox.effects
        for farewell in self._waiting:
            if farewell.code_id is not None:
                self._store.release(farewell.code_id)
                effects.append(ReleaseModel(code_id=farewell.code_id))
            if not farewell.is_orphan:
                result = replace(farewell.result, sent_at_ns=self._outbox.now_ns)
                effects.append(SendResult(message=result, payloads=()))
        self._waiting.clear()

    def forget_controller(self) -> None:
        """Answer nobody who waits now."""
        for farewell in self._waiting:
            farewell.is_orphan = True

    def check(self) -> None:
        """Assert that nobody waits without a reason."""
        assert not (self._waiting and self._is_settled()), "a farewell is overdue"

    def _is_settled(self) -> bool:
        return all(gpu.cache.is_settled for gpu in self._gpus)
