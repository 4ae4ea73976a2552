"""Parts an optimised ONNX file into code and weights."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import numpy_helper

from clockwork.models.dtypes import BY_ONNX_TYPE
from clockwork.models.format import ALIGN_BYTES, Code, WeightSpec
from clockwork.models.operands import Choice, weights_of


def extract(optimised: Path, folder: Path, code: Code, choice: Choice) -> Code:
    """Write the two files that `code` names into `folder`; return `code` with its table of weights.

    Weights keep the order of the graph, which is about that in which they are used.
    """
    model = onnx.load(os.fspath(optimised), load_external_data=False)
    graph = model.graph
    chosen = weights_of(graph, choice)
    taken = {tensor.name for tensor in chosen}
    weights = []
    with (folder / code.weights_file).open("wb") as file:
        for tensor in chosen:
            weights.append(_spec(tensor, offset=_align(file)))
            _write(tensor, optimised.parent, file)
        weights_bytes = file.tell()
    listed = {entry.name for entry in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in chosen
        if tensor.name not in listed
    )
    kept = [tensor for tensor in graph.initializer if tensor.name not in taken]
    for tensor in kept:
        _inline(tensor, optimised.parent)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.save(model, os.fspath(folder / code.file))
    return Code(
        file=code.file,
        weights_file=code.weights_file,
        weights_bytes=weights_bytes,
        weights=tuple(weights),
        runtime=code.runtime,
    )


def _align(file: BinaryIO) -> int:
    end = file.tell()
    file.write(bytes(-end % ALIGN_BYTES))
    return file.tell()


def _spec(tensor: onnx.TensorProto, *, offset: int) -> WeightSpec:
    return WeightSpec(
        name=tensor.name,
        dtype=BY_ONNX_TYPE[tensor.data_type].name,
        shape=tuple(tensor.dims),
        offset=offset,
    )


def _write(tensor: onnx.TensorProto, folder: Path, file: BinaryIO) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        file.write(_external(tensor, folder))
    else:
        file.write(numpy_helper.to_array(tensor).tobytes())


def _inline(tensor: onnx.TensorProto, folder: Path) -> None:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    tensor.raw_data = bytes(_external(tensor, folder))
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT


def _external(tensor: onnx.TensorProto, folder: Path) -> memoryview:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    array = np.memmap(
        folder / entries["location"],
        dtype=np.uint8,
        mode="r",
        offset=int(entries.get("offset", 0)),
        shape=(int(entries["length"]),),
    )
    return array.data
