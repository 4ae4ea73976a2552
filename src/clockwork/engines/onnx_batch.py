"""From the bytes of requests to the tensors of a batch, and back.

A request's payload is its input tensors one after the other; a batch wants each tensor of all
requests together. `BatchBuffer` is the one place where inputs are copied: from the frame that
came over the network to where the session reads. Outputs go into fresh memory and are handed on as
views.

An input whose size is not the model's is an LZ4 block, and is unpacked on the way.

Units: bytes; the buffer is uint8 whatever the tensors are.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clockwork.engines.compression import decompress
from clockwork.engines.engine import EngineError
from clockwork.engines.memory import Block
from clockwork.engines.onnx_code import LoadedCode
from clockwork.errors import ConfigurationError
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
        tensors = [
            region.reshape(task.padded_size, operand.size_bytes)
            for operand, region in zip(code.inputs, regions, strict=True)
        ]
        _fill(tensors, code, task)
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


def _fill(tensors: list[Bytes], code: LoadedCode, task: InferTask) -> None:
    """Write the inputs of a task into tensors of `[padded size, bytes of a request]`."""
    if not task.payload or not code.input_bytes:
        for tensor in tensors:
            tensor[:] = 0
        return
    if all(size == code.input_bytes for size in task.input_sizes):
        count = _copy_raw(tensors, code, task)
    else:
        count = _unpack(tensors, code, task)
    assert count <= task.batch_size, f"{count} inputs for {task.batch_size} requests"
    for tensor in tensors:
        # Requests without an input of their own, and padding.
        tensor[count:] = tensor[count - 1]


def _copy_raw(tensors: list[Bytes], code: LoadedCode, task: InferTask) -> int:
    """Copy inputs that lie one after the other as they are; return how many there are."""
    count = len(task.input_sizes) or task.batch_size
    expected = count * code.input_bytes
    if len(task.payload) != expected:
        text = f"{len(task.payload)} bytes of input, {task.batch_size} requests have {expected}"
        raise EngineError(ActionStatus.COPY_INPUT_INVALID_INPUT, text)
    rows = np.frombuffer(task.payload, dtype=np.uint8).reshape(count, code.input_bytes)
    for tensor, operand in zip(tensors, code.inputs, strict=True):
        tensor[:count] = rows[:, operand.offset : operand.offset + operand.size_bytes]
    return count


def _unpack(tensors: list[Bytes], code: LoadedCode, task: InferTask) -> int:
    """Copy inputs of which some are LZ4 blocks or missing; return how many there are."""
    view = memoryview(task.payload)
    start = 0
    for index, size in enumerate(task.input_sizes):
        if start + size > len(view):
            text = f"input sizes go beyond the {len(view)} bytes that came"
            raise EngineError(ActionStatus.COPY_INPUT_BAD_SIZES, text)
        row = _row(view[start : start + size], code.input_bytes, index)
        for tensor, operand in zip(tensors, code.inputs, strict=True):
            tensor[index] = row[operand.offset : operand.offset + operand.size_bytes]
        start += size
    return len(task.input_sizes)


def _row(piece: memoryview, size_bytes: int, index: int) -> Bytes:
    """Return the input of one request: as it came, unpacked, or zeros if it is missing."""
    if not len(piece):
        return np.zeros(size_bytes, dtype=np.uint8)
    if len(piece) == size_bytes:
        return np.frombuffer(piece, dtype=np.uint8)
    try:
        return np.frombuffer(decompress(piece, size_bytes), dtype=np.uint8)
    except (ConfigurationError, ValueError) as error:
        text = f"input {index} of the batch has {len(piece)} bytes, the model {size_bytes}: {error}"
        raise EngineError(ActionStatus.COPY_INPUT_BAD_DECOMPRESS, text) from None
