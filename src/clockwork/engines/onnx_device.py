"""One GPU of the ONNX engine, which here is a group of cores: its pages and what is in them.

Weights are bound to a session by address once, when they are loaded; an inference only binds the
batch. Two threads use a device: one loads, one infers, on pages that do not overlap.

Invariants: an `Instance` is findable only while all its pages hold its weights; pages that an
inference is reading are never written to.
"""

from collections.abc import Sequence
from typing import Final

import onnxruntime as ort

from clockwork.engines import memory
from clockwork.engines.arena import PageArena
from clockwork.engines.engine import EngineError
from clockwork.engines.onnx_batch import Batch, BatchBuffer
from clockwork.engines.onnx_code import LoadedCode, Operand
from clockwork.messages.ids import CodeId
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import InferTask

# How ONNX Runtime says that a limited arena is full; it has no code of its own for it.
_OUT_OF_WORKSPACE: Final = ("Available memory of", "Failed to allocate memory")


class Instance:
    """Weights of one model in pages, bound to its session."""

    __slots__ = ("binding", "bound_batch", "code", "code_id", "pages")

    def __init__(self, code_id: CodeId, code: LoadedCode, pages: tuple[int, ...]) -> None:
        self.code_id = code_id
        self.code = code
        self.pages = pages
        self.binding = ort.IOBinding(code.session)
        # The batch size whose inputs are bound; 0: none yet.
        self.bound_batch = 0

    def bind_weights(self, address: int) -> None:
        """Point the session to weights that start at `address`; some 2 us per tensor."""
        for weight in self.code.weights:
            _bind_input(self.binding, weight, weight.shape, address + weight.offset)


class Device:
    """The weights cache and the executing session of one GPU."""

    def __init__(
        self, *, page_count: int, page_bytes: int, io_pool_bytes: int, workspace_bytes: int
    ) -> None:
        self._arena = PageArena(page_count=page_count, page_bytes=page_bytes)
        self._buffer = BatchBuffer(io_pool_bytes)
        self._workspace_bytes = workspace_bytes
        self._instance_by_place: dict[tuple[CodeId, tuple[int, ...]], Instance] = {}
        # What each page holds, if anything.
        self._instance_by_page: dict[int, Instance] = {}
        self._running: Instance | None = None

    def load(self, code_id: CodeId, code: LoadedCode, pages: tuple[int, ...]) -> None:
        """Copy weights into `pages`; whatever was there is forgotten.

        Raises:
            EngineError: the pages are not enough, not there, or in use.
        """
        self._check_pages(code, pages)
        self._forget(pages)
        try:
            address = self._arena.join(pages)
        except OSError as error:
            raise EngineError(ActionStatus.RUNTIME_ERROR, str(error)) from None
        memory.copy(address, code.host.address, code.host.size_bytes)
        instance = Instance(code_id, code, pages)
        instance.bind_weights(address)
        for page in pages:
            self._instance_by_page[page] = instance
        self._instance_by_place[code_id, pages] = instance

    def place_inputs(self, task: InferTask) -> Batch:
        """Write the inputs of a batch to where the session will read them.

        Raises:
            EngineError: the weights are not where the task says, or the inputs are wrong.
        """
        instance = self._instance_by_place.get((task.code_id, task.pages))
        if instance is None:
            text = f"code {task.code_id} has no weights in pages {list(task.pages[:8])}"
            raise EngineError(ActionStatus.EXEC_WEIGHTS_MISSING, text)
        self._running = instance
        return self._buffer.place(instance.code, task)

    def execute(self, batch: Batch) -> None:
        """Run the batch whose inputs were placed last; it then holds the outputs.

        Raises:
            EngineError: the workspace is too small, or execution failed.
        """
        instance = self._running
        assert instance is not None, "execute() without place_inputs()"
        self._bind_batch(instance, batch)
        try:
            instance.code.session.run_with_iobinding(instance.binding)
        except Exception as error:
            raise self._explained(error) from None

    def finish(self) -> None:
        """Let go of the pages that the last batch read."""
        self._running = None

    def release(self, code_id: CodeId) -> None:
        """Forget every instance of a model; the pages keep their bytes until they are reused."""
        for instance in list(self._instance_by_place.values()):
            if instance.code_id == code_id:
                self._forget(instance.pages)

    def close(self) -> None:
        """Give the memory back; nothing can run afterwards."""
        self._instance_by_place.clear()
        self._instance_by_page.clear()
        self._arena.close()

    def _check_pages(self, code: LoadedCode, pages: tuple[int, ...]) -> None:
        room = len(pages) * self._arena.page_bytes
        if room < code.host.size_bytes or not pages:
            text = f"{code.host.size_bytes} bytes of weights do not fit {len(pages)} pages"
            raise EngineError(ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE, text)
        if not 0 <= min(pages) <= max(pages) < self._arena.page_count:
            text = f"pages {list(pages[:8])}, the cache has 0 to {self._arena.page_count - 1}"
            raise EngineError(ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE, text)
        running = self._running
        if running is not None and not set(pages).isdisjoint(running.pages):
            text = f"an execution is reading pages {sorted(set(pages) & set(running.pages))[:8]}"
            raise EngineError(ActionStatus.LOAD_WEIGHTS_CONCURRENT_MODIFICATION, text)

    def _forget(self, pages: Sequence[int]) -> None:
        for page in pages:
            old = self._instance_by_page.pop(page, None)
            if old is not None:
                self._instance_by_place.pop((old.code_id, old.pages), None)

    def _bind_batch(self, instance: Instance, batch: Batch) -> None:
        size = batch.padded_size
        if instance.bound_batch != size:
            for operand, address in zip(instance.code.inputs, batch.input_addresses, strict=True):
                _bind_input(instance.binding, operand, (size, *operand.shape), address)
            instance.bound_batch = size
        for operand, address in zip(instance.code.outputs, batch.output_addresses, strict=True):
            instance.binding.bind_output(
                operand.name, "cpu", 0, operand.onnx_type, (size, *operand.shape), address
            )

    def _explained(self, error: Exception) -> EngineError:
        text = str(error)
        if any(words in text for words in _OUT_OF_WORKSPACE):
            return EngineError(
                ActionStatus.EXEC_WORKSPACE_POOL_EXHAUSTED,
                f"the batch needs more than the {self._workspace_bytes} bytes of "
                f"workspace_pool_size: raise it, or lower max_batch_size",
            )
        return EngineError(ActionStatus.RUNTIME_ERROR, text)


def _bind_input(
    binding: ort.IOBinding, operand: Operand, shape: tuple[int, ...], address: int
) -> None:
    binding.bind_input(operand.name, "cpu", 0, operand.onnx_type, shape, address)
