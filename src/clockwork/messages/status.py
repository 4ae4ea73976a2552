"""Status codes of responses and results.

The numbers are those of the original (SPEC 2.1 and 2.4), so that log parsers keep working. Codes
that no part of ours produces any more are left out here and listed in ``docs/status-codes.md``.
"""

from enum import IntEnum


class Status(IntEnum):
    """The outcome of a request, as its client and the request log see it."""

    SUCCESS = 0
    ERROR = 1
    """A worker failed and no other could take over, or anything else."""
    TIMEOUT = 4
    """The deadline passed before the request was put into an action."""
    INITIALIZING = 5
    """The controller is in its startup phases, or shutting down; ask again."""
    INVALID_REQUEST = 6
    """Unknown model, wrong input size, wrong path, or not allowed in this phase."""
    SKIPPED = 7
    """Given up in favour of a larger batch of later requests of its model."""
    COULD_NOT_START_IN_TIME = 8
    """No GPU could have finished it by its deadline."""


class ActionStatus(IntEnum):
    """The outcome of an action, as its worker reports it and the action log shows it."""

    SUCCESS = 0
    CANCELLED = 1
    RUNTIME_ERROR = 2
    SHUTTING_DOWN = 3
    UNKNOWN_MODEL = 10
    COULD_NOT_START_IN_TIME = 11
    INVALID_ACTION = 12
    INVALID_GPU = 13
    INVALID_MODEL_ID = 40
    INVALID_MODEL_PATH = 41
    LOAD_WEIGHTS_TOO_LATE = 51
    LOAD_WEIGHTS_UNKNOWN_MODEL = 52
    LOAD_WEIGHTS_INSUFFICIENT_CACHE = 53
    LOAD_WEIGHTS_CONCURRENT_MODIFICATION = 54
    EVICT_WEIGHTS_TOO_LATE = 61
    EVICT_WEIGHTS_UNKNOWN_MODEL = 62
    EVICT_WEIGHTS_NOT_IN_CACHE = 63
    COPY_INPUT_UNKNOWN_MODEL = 72
    COPY_INPUT_INVALID_BATCH_SIZE = 73
    COPY_INPUT_INVALID_INPUT = 75
    COPY_INPUT_IO_POOL_EXHAUSTED = 76
    COPY_INPUT_BAD_SIZES = 77
    COPY_INPUT_BAD_DECOMPRESS = 78
    EXEC_TOO_LATE = 81
    EXEC_WEIGHTS_MISSING = 82
    EXEC_WORKSPACE_POOL_EXHAUSTED = 83
    EXEC_CONCURRENT_WEIGHTS_MODIFICATION = 84
