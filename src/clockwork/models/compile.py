"""Turns an ordinary ONNX file into a model directory.

1. Fix the free dimensions (`models.signature`) and run the file as it is: that is the reference.
2. Let ONNX Runtime optimise the graph *while its weights are constants*: what folds constants or
   merges batch normalisation into convolutions needs their values.
3. Part the result into code and weights (`models.extract`), and check that it still gives the
   reference's answers at every batch size. If not, once more with fewer tensors taken out.
4. The same for this kind of processor, if that has operators of its own: ONNX Runtime's blocked
   convolutions take 25 % less time (measured, ResNet-50 with AVX-512) and want weights in their
   layout, which a session can only prepare if weights are constants.
5. Measure (`models.measure`).

Everything happens in a hidden directory beside the target, which is renamed at the end: a failed
compile leaves nothing, a finished one replaces an older directory at once.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from msgspec import Struct

from clockwork.errors import ModelError
from clockwork.models.extract import extract
from clockwork.models.format import (
    CODE_NAME,
    FORMAT_VERSION,
    MODEL_NAME,
    WEIGHTS_NAME,
    Code,
    ImageInfo,
    ModelFile,
    Origin,
    sha256_of,
    write_model_file,
)
from clockwork.models.hardware import processor_kind
from clockwork.models.measure import measure_model
from clockwork.models.operands import Choice
from clockwork.models.sessions import RUNTIME, Optimise, open_session, save_optimised
from clockwork.models.signature import Signature, prepare
from clockwork.models.verify import (
    Array,
    compare,
    made_up_inputs,
    numpy_dtype,
    output_specs,
    run,
)

BATCH_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16)
"""Where the batch dimension is free: the original's (1, 2, 4, 8, 16) and one between two of them,
so that three requests that wait need not run as two and one. (Measured with an SLO of 100 ms: 2 %
more goodput.)"""

_BLOCKED_DOMAIN: Final = "com.microsoft.nchwc"
# Checking uses all cores that there are, up to this many: it is no measurement.
_CORES_MAX: Final = 8


class _Reference(Struct, frozen=True):
    """What a model should answer: inputs and outputs by batch size."""

    inputs: dict[int, dict[str, Array]]
    outputs: dict[int, dict[str, Array]]


def compile_model(
    onnx_path: Path,
    out_dir: Path,
    *,
    name: str | None = None,
    dims: Mapping[str, int] | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    measure: bool = True,
    image: ImageInfo | None = None,
    note: str = "",
    progress: Callable[[str], None] | None = None,
) -> ModelFile:
    """Write the model directory `out_dir` for an ONNX file and return its ``model.json``.

    An older model directory of that name is replaced.

    Args:
        dims: sizes of free dimensions by name, or as ``INPUT:AXIS`` where they have none.
        batch_sizes: used if the model's batch dimension is free.
        measure: store execution and load times of one core of this machine.
        note: kept in the model's origin.
        progress: is told what happens, a line at a time.

    Raises:
        ModelError: the file cannot be compiled, or `out_dir` is something else.
    """
    say = progress or _say_nothing
    if not batch_sizes or min(batch_sizes) < 1:
        raise ModelError(f"batch sizes must be at least 1, not {list(batch_sizes)}")
    with _draft_of(out_dir) as draft, tempfile.TemporaryDirectory(dir=draft) as scratch:
        folder = Path(scratch)
        prepared, signature = prepare(onnx_path, dims or {}, folder)
        sizes = (signature.batch_size,) if signature.batch_size else tuple(sorted({*batch_sizes}))
        say(f"running {onnx_path.name} at batch sizes {', '.join(map(str, sizes))}")
        reference = _run_reference(onnx_path, prepared, signature, sizes)
        say("taking code and weights apart")
        code = _portable_code(prepared, draft, folder, reference)
        tuned = _tuned_code(prepared, draft, folder, reference)
        model = ModelFile(
            format=FORMAT_VERSION,
            name=name or out_dir.resolve().name,
            inputs=signature.inputs,
            outputs=output_specs(reference.outputs),
            batch_sizes=sizes,
            weights_bytes=code.weights_bytes,
            code=code,
            tuned={processor_kind(): tuned} if tuned else {},
            checksums=_checksums(draft, code, tuned),
            origin=Origin(source=onnx_path.name, compiler=RUNTIME, note=note),
            image=image,
        )
        write_model_file(draft, model)
        if measure:
            model = measure_model(draft, progress=say)
    return model


@contextmanager
def _draft_of(out_dir: Path) -> Iterator[Path]:
    """Yield a new directory that becomes `out_dir` unless the block raises."""
    target = out_dir.absolute()
    is_model = (target / MODEL_NAME).exists()
    try:
        if not is_model and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ModelError(f"{out_dir} exists and is no model directory: choose another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelError(f"cannot write to {out_dir}: {error.strerror}") from None
    try:
        yield draft
        draft.chmod(0o755)
        _replace(target, draft)
    except OSError as error:
        raise ModelError(f"cannot write {out_dir}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(target: Path, draft: Path) -> None:
    """Put `draft` in the place of `target`; readers never see half of either."""
    if not target.exists():
        draft.rename(target)
        return
    old = draft.with_name(f"{draft.name}.old")
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def _run_reference(
    onnx_path: Path, prepared: Path, signature: Signature, sizes: Sequence[int]
) -> _Reference:
    inputs = {size: made_up_inputs(signature.inputs, size) for size in sizes}
    try:
        session = open_session(
            prepared, cores=_cores(), optimise=Optimise.FULLY, shares_workspace=False
        )
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot load {onnx_path}: {error}") from None
    outputs = {}
    for size in sizes:
        try:
            outputs[size] = run(session, inputs[size])
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{onnx_path} does not run at batch size {size}: {error}; if its batch dimension "
                f"is not really free, fix it with --dim"
            ) from None
    return _Reference(inputs=inputs, outputs=outputs)


def _portable_code(prepared: Path, draft: Path, folder: Path, reference: _Reference) -> Code:
    optimised = save_optimised(prepared, optimise=Optimise.PORTABLY, folder=folder, name="portable")
    bare = Code(file=CODE_NAME, weights_file=WEIGHTS_NAME, weights_bytes=0, weights=())
    return _extract_and_check(optimised, draft, bare, reference)


def _tuned_code(prepared: Path, draft: Path, folder: Path, reference: _Reference) -> Code | None:
    """Return code for this kind of processor, or None if that would be the portable one again."""
    optimised = save_optimised(prepared, optimise=Optimise.FULLY, folder=folder, name="tuned")
    graph = onnx.load(os.fspath(optimised), load_external_data=False).graph
    if all(node.domain != _BLOCKED_DOMAIN for node in graph.node):
        return None
    kind = processor_kind()
    bare = Code(
        file=f"code.{kind}.onnx",
        weights_file=f"weights.{kind}.bin",
        weights_bytes=0,
        weights=(),
        runtime=RUNTIME,
    )
    return _extract_and_check(optimised, draft, bare, reference)


def _extract_and_check(optimised: Path, draft: Path, bare: Code, reference: _Reference) -> Code:
    complaints = []
    for choice in Choice:
        code = extract(optimised, draft, bare, choice)
        complaint = _complaint_about(code, draft, reference)
        if complaint is None:
            return code
        complaints.append(complaint)
    raise ModelError(
        f"the compiled model does not answer like the original ({complaints[-1]}); a model with "
        f"random numbers or unstable arithmetic cannot be checked and is refused"
    )


def _complaint_about(code: Code, draft: Path, reference: _Reference) -> str | None:
    """Return in which way `code` differs from the reference, or None."""
    optimise = Optimise.NOTHING if code.runtime else Optimise.FULLY
    weights = _weights(code, draft)
    try:
        session = open_session(
            draft / code.file, cores=_cores(), optimise=optimise, shares_workspace=False
        )
        for size, inputs in reference.inputs.items():
            mismatch = compare(reference.outputs[size], run(session, {**inputs, **weights}))
            if mismatch is not None:
                return f"batch size {size}, output {mismatch.output!r}: {mismatch.text}"
    except Exception as error:
        return str(error)
    return None


def _weights(code: Code, draft: Path) -> dict[str, Array]:
    if not code.weights:
        return {}
    raw = np.memmap(draft / code.weights_file, dtype=np.uint8, mode="r")
    return {
        weight.name: raw[weight.offset : weight.offset + weight.size_bytes]
        .view(numpy_dtype(weight.dtype))
        .reshape(weight.shape)
        for weight in code.weights
    }


def _checksums(draft: Path, *codes: Code | None) -> dict[str, str]:
    names = [name for code in codes if code for name in (code.file, code.weights_file)]
    return {name: sha256_of(draft / name) for name in names}


def _cores() -> int:
    return min(_CORES_MAX, len(os.sched_getaffinity(0)))


def _say_nothing(_: str) -> None:
    pass
