"""From the bytes of requests to the tensors of a batch, and back.

A request's payload is its input tensors one after the other; a batch wants each tensor of all
requests together. `BatchBuffer` is the one place where inputs are copied: from the frame that
came over the network to where the session reads. Outputs go into fresh memory and are handed on as
views.

Units: bytes; the buffer is uint8 whatever the tensors are.

Not here: compressed inputs; `BatchBuffer.place` is where they would be unpacked.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clockwork.engines.engine import EngineError
from clockwork.engines.memory import Block
from clockwork.engines.onnx_code import LoadedCode, Operand
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import InferTask
from clockwork.models.format import ALIGN_BYTES

Bytes = NDArray[np.uint8]

# Addresses must not be null, not even of tensors without elements.
_OUTPUT_BYTES_MIN: Final = 1


class Batch:
    """Where a batch's inputs and outputs are."""

    __slots__ = ("_code", "_outputs", "_size", "input_addresses", "output_addresses", "padded_size")

    def __init__(self, code: LoadedCode, task: InferTask, input_addresses: list[int]) -> None:
        self._code = code
        self._size = task.batch_size
        self.padded_size = task.padded_size
        self.input_addresses = input_addresses
        self._outputs: list[Bytes] = [
            np.empty(max(_OUTPUT_BYTES_MIN, task.padded_size * operand.size_bytes), dtype=np.uint8)
            for operand in code.outputs
        ]
        self.output_addresses = [output.ctypes.data for output in self._outputs]

    def outputs(self) -> tuple[Payload, ...]:
        """Return the outputs of the requests, one request after the other, without padding.

        The views keep the memory alive; nobody writes to it again.
        """
        views = [output.data for output in self._outputs]
        sizes = [operand.size_bytes for operand in self._code.outputs]
        if len(views) == 1:
            return (views[0][: self._size * sizes[0]],)
        return tuple(
            view[index * size : (index + 1) * size]
            for index in range(self._size)
            for view, size in zip(views, sizes, strict=True)
        )


class BatchBuffer:
    """The inputs of the batch that runs next; reused by every batch of one GPU."""

    def __init__(self, size_bytes: int) -> None:
        """Reserve the memory; it is touched as far as batches need it."""
        self._block = Block(size_bytes)
        self._bytes: Bytes = np.frombuffer(self._block.view(), dtype=np.uint8)

    def place(self, code: LoadedCode, task: InferTask) -> Batch:
        """Write the inputs of `task` into the buffer, padded by copies of its last request.

        Padding must be something that the model can run on: leftovers of another model may be, for
        example, token numbers that do not exist.

        Raises:
            EngineError: the payload does not fit the model, or the batch does not fit the io pool.
        """
        regions = list(self._regions(code, task))
        rows = _rows(code, task)
        for operand, region in zip(code.inputs, regions, strict=True):
            tensor = region.reshape(task.padded_size, operand.size_bytes)
            _fill(tensor, rows, operand, task.batch_size)
        return Batch(code, task, [self._address_of(region) for region in regions])

    def _regions(self, code: LoadedCode, task: InferTask) -> Iterator[Bytes]:
        need = task.padded_size * (code.input_bytes + code.output_bytes)
        need += ALIGN_BYTES * len(code.inputs)
        if need > len(self._bytes):
            text = (
                f"a batch of {task.padded_size} needs {need} bytes for inputs and outputs, "
                f"io_pool_size is {len(self._bytes)}"
            )
            raise EngineError(ActionStatus.COPY_INPUT_IO_POOL_EXHAUSTED, text)
        start = 0
        for operand in code.inputs:
            end = start + task.padded_size * operand.size_bytes
            yield self._bytes[start:end]
            start = -(-end // ALIGN_BYTES) * ALIGN_BYTES

    def _address_of(self, region: Bytes) -> int:
        # A view of no elements may claim any address.
        return region.ctypes.data if region.size else self._block.address


def _rows(code: LoadedCode, task: InferTask) -> Bytes | None:
    """Return the payload as `[requests, bytes of a request]`; None if inputs are to be made up."""
    if not task.payload or not code.input_bytes:
        return None
    if any(size != code.input_bytes for size in task.input_sizes):
        return _spread(code, task)
    expected = (len(task.input_sizes) or task.batch_size) * code.input_bytes
    if len(task.payload) != expected:
        text = f"{len(task.payload)} bytes of input, {task.batch_size} requests have {expected}"
        raise EngineError(ActionStatus.COPY_INPUT_INVALID_INPUT, text)
    return np.frombuffer(task.payload, dtype=np.uint8).reshape(-1, code.input_bytes)


def _spread(code: LoadedCode, task: InferTask) -> Bytes:
    """Return rows for inputs of which some are missing (made up as zeros)."""
    rows = np.zeros((len(task.input_sizes), code.input_bytes), dtype=np.uint8)
    start = 0
    for row, size in zip(rows, task.input_sizes, strict=True):
        if size not in (0, code.input_bytes):
            text = f"an input of {size} bytes, the model takes {code.input_bytes}"
            raise EngineError(ActionStatus.COPY_INPUT_BAD_SIZES, text)
        if start + size > len(task.payload):
            text = f"input sizes go beyond the {len(task.payload)} bytes that came"
            raise EngineError(ActionStatus.COPY_INPUT_BAD_SIZES, text)
        if size:
            row[:] = np.frombuffer(task.payload, dtype=np.uint8, count=size, offset=start)
        start += size
    return rows


def _fill(tensor: Bytes, rows: Bytes | None, operand: Operand, batch_size: int) -> None:
    if rows is None:
        tensor[:] = 0
        return
    count = len(rows)
    assert count <= batch_size, f"{count} inputs for {batch_size} requests"
    tensor[:count] = rows[:, operand.offset : operand.offset + operand.size_bytes]
    # Requests without an input of their own, and padding.
    tensor[count:] = tensor[count - 1]
