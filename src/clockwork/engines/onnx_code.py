"""A real model in host memory: its code as a session, its weights as one block.

Copies of a model, and the same directory loaded again, share both (`Library`).

Units: bytes; `batch` counts requests.
"""

import hashlib
from math import prod
from pathlib import Path

import onnxruntime as ort
from msgspec import Struct

from clockwork.engines.memory import Block
from clockwork.errors import ModelError
from clockwork.messages.ids import CodeId
from clockwork.messages.models import TensorSpec
from clockwork.models.dtypes import DTYPES
from clockwork.models.format import MODEL_NAME, Code, ModelFile, read_model_file
from clockwork.models.hardware import processor_kind
from clockwork.models.sessions import RUNTIME, Optimise, open_session


class Operand(Struct, frozen=True, gc=False):
    """A tensor that is bound to a session by its address."""

    name: str
    # ONNX's number of the type.
    onnx_type: int
    # Of one request, for inputs and outputs: the batch dimension comes first and is missing here.
    shape: tuple[int, ...]
    size_bytes: int
    # First byte: of a weight within the weights file, of an input or output within a request.
    offset: int


class LoadedCode:
    """What can be executed once the weights are in pages."""

    def __init__(self, model: ModelFile, code: Code, session: ort.InferenceSession, host: Block):
        self.model = model
        self.code = code
        self.session = session
        # The weights file, byte by byte: what a load copies.
        self.host = host
        self.weights = tuple(
            Operand(
                name=weight.name,
                onnx_type=DTYPES[weight.dtype].onnx_type,
                shape=weight.shape,
                size_bytes=weight.size_bytes,
                offset=weight.offset,
            )
            for weight in code.weights
        )
        self.inputs = _operands(model.inputs)
        self.outputs = _operands(model.outputs)
        self.input_bytes = sum(operand.size_bytes for operand in self.inputs)
        self.output_bytes = sum(operand.size_bytes for operand in self.outputs)


class Library:
    """All models in host memory, by code id."""

    def __init__(self, *, cores: int) -> None:
        self._cores = cores
        self._code_by_id: dict[CodeId, LoadedCode] = {}
        # Directory and what its model.json says. Directories that were compiled anew are others.
        self._code_by_source: dict[tuple[Path, bytes], LoadedCode] = {}

    def load(self, code_id: CodeId, directory: Path) -> LoadedCode:
        """Return the model in `directory`, read if it is not here yet.

        Raises:
            ModelError: the directory cannot be used.
        """
        model = read_model_file(directory)
        source = (directory, _fingerprint(directory))
        code = self._code_by_source.get(source)
        if code is None:
            code = _read(directory, model, cores=self._cores)
            self._code_by_source[source] = code
        self._code_by_id[code_id] = code
        return code

    def find(self, code_id: CodeId) -> LoadedCode | None:
        """Return a model that was loaded, or None."""
        return self._code_by_id.get(code_id)

    def release(self, code_id: CodeId) -> None:
        """Forget `code_id`; memory is free when the last alias goes."""
        code = self._code_by_id.pop(code_id, None)
        if code is None or any(other is code for other in self._code_by_id.values()):
            return
        for source in [key for key, value in self._code_by_source.items() if value is code]:
            del self._code_by_source[source]


def choose_code(model: ModelFile) -> Code:
    """Return the fastest code of `model` that this machine can run.

    Raises:
        ModelError: it has none.
    """
    tuned = model.tuned.get(processor_kind())
    if tuned is not None and tuned.runtime == RUNTIME:
        return tuned
    if model.code is None:
        raise ModelError(
            f"{model.name} has measurements but no code: only an emulated worker can serve it"
        )
    return model.code


def _operands(specs: tuple[TensorSpec, ...]) -> tuple[Operand, ...]:
    operands = []
    offset = 0
    for spec in specs:
        dtype = DTYPES.get(spec.dtype)
        if dtype is None or dtype.item_bytes != spec.item_bytes:
            raise ModelError(f"tensor {spec.name!r} has the unknown type {spec.dtype!r}")
        size_bytes = prod(spec.shape) * dtype.item_bytes
        operands.append(
            Operand(
                name=spec.name,
                onnx_type=dtype.onnx_type,
                shape=spec.shape,
                size_bytes=size_bytes,
                offset=offset,
            )
        )
        offset += size_bytes
    return tuple(operands)


def _fingerprint(directory: Path) -> bytes:
    return hashlib.sha256((directory / MODEL_NAME).read_bytes()).digest()


def _read(directory: Path, model: ModelFile, *, cores: int) -> LoadedCode:
    code = choose_code(model)
    graph = _read_block(directory / code.file, model)
    host = _read_block(directory / code.weights_file, model)
    if host.size_bytes != code.weights_bytes:
        raise ModelError(
            f"{directory / code.weights_file} has {host.size_bytes} bytes, "
            f"not {code.weights_bytes} as {MODEL_NAME} says"
        )
    session = _session(bytes(graph.view()), code, directory, cores=cores)
    loaded = LoadedCode(model, code, session, host)
    _check_names(loaded, directory)
    return loaded


def _session(graph: bytes, code: Code, directory: Path, *, cores: int) -> ort.InferenceSession:
    optimise = Optimise.NOTHING if code.runtime else Optimise.FULLY
    try:
        return open_session(graph, cores=cores, optimise=optimise, shares_workspace=True)
    except Exception as error:
        raise ModelError(f"ONNX Runtime refuses {directory / code.file}: {error}") from None


def _check_names(loaded: LoadedCode, directory: Path) -> None:
    expected = sorted(operand.name for operand in (*loaded.inputs, *loaded.weights))
    found = sorted(node.name for node in loaded.session.get_inputs())
    if expected != found:
        raise ModelError(
            f"{directory / loaded.code.file} has other inputs than {MODEL_NAME} says: "
            f"{sorted(set(expected) ^ set(found))[:5]}"
        )
    outputs = [operand.name for operand in loaded.outputs]
    if outputs != [node.name for node in loaded.session.get_outputs()]:
        raise ModelError(f"{directory / loaded.code.file} has other outputs than {outputs}")


def _read_block(path: Path, model: ModelFile) -> Block:
    """Return the contents of a file, if they are those that `model` was written for."""
    try:
        block = Block(path.stat().st_size)
        view, filled = block.view(), 0
        with path.open("rb", buffering=0) as file:
            while filled < len(view) and (count := file.readinto(view[filled:])):
                filled += count
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    if hashlib.sha256(view).hexdigest() != model.checksums[path.name]:
        raise ModelError(
            f"{path} is damaged or truncated: its checksum is not the one in {MODEL_NAME}"
        )
    return block
