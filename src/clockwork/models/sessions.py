"""Sessions of ONNX Runtime, opened the same way when a model is compiled and when it is served.

Why apart: what compile checks must be what workers run.

A session of ours never takes memory beside the environment's arena, never spins on a core while
nothing runs, and prints nothing: what goes wrong is raised.
"""

from enum import Enum
from pathlib import Path
from typing import Final

import onnxruntime as ort

RUNTIME: Final = f"onnxruntime {ort.__version__}"
"""What tuned code must have been made with."""

# ONNX Runtime counts the bytes of a first block in 32 bits with a sign.
_CHUNK_BYTES_MAX: Final = 2**31 - 2**20


class Optimise(Enum):
    """How far ONNX Runtime rewrites a graph."""

    # Not at all: for graphs that are optimised already.
    NOTHING = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Standard operators only, the same for every processor.
    PORTABLY = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # For this processor.
    FULLY = ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def limit_workspace(size_bytes: int) -> None:
    """Make the sessions opened from now on share `size_bytes` of memory for intermediate values.

    The memory is one block, reserved at once and touched as it is needed: executions one after the
    other leave no holes in it. Not limited, it would grow in blocks and keep all of them.
    """
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    same_as_requested = 1
    arena = ort.OrtArenaCfg(
        {
            "max_mem": size_bytes,
            "initial_chunk_size_bytes": min(size_bytes, _CHUNK_BYTES_MAX),
            "arena_extend_strategy": same_as_requested,
        }
    )
    ort.create_and_register_allocator(place, arena)


def open_session(
    graph: Path | bytes, *, cores: int, optimise: Optimise, shares_workspace: bool
) -> ort.InferenceSession:
    """Return a session that uses `cores` cores, the caller's included.

    Args:
        shares_workspace: take memory as the last `limit_workspace` says, instead of its own.

    Raises:
        Exception: what ONNX Runtime raises has no common base; the graph cannot be run.
    """
    options = _options(cores, optimise)
    if shares_workspace:
        options.add_session_config_entry("session.use_env_allocators", "1")
    return _open(graph, options)


def save_optimised(graph: Path, *, optimise: Optimise, folder: Path, name: str) -> Path:
    """Write what ONNX Runtime makes of `graph` to `folder`; return its path.

    Tensors from 1 KiB are in a second file beside it, so that any size works.

    Raises:
        Exception: as for `open_session`.
    """
    target = folder / f"{name}.onnx"
    options = _options(1, optimise)
    options.optimized_model_filepath = str(target)
    prefix = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{prefix}_file_name", f"{name}.data")
    options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
    _open(graph, options)
    return target


def _options(cores: int, optimise: Optimise) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = optimise.value
    options.intra_op_num_threads = cores
    options.inter_op_num_threads = 1
    # Spinning helps within an execution; after it, the cores are needed by the next model.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    only_fatal = 4
    options.log_severity_level = only_fatal
    return options


def _open(graph: Path | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    source = graph if isinstance(graph, bytes) else str(graph)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
