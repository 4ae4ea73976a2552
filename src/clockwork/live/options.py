"""Which settings the worker and the controller have, and the records that they become.

Why a table: the same rows give command line flags, environment variables, keys of configuration
files, their checks and ``--print-config``. This is also the one place where the documented
environment variables are named (SPEC 1.11).

Source: SPEC 1.3, 1.11, 1.12 (names and defaults of the original). Sections and keys of the
original's worker file are kept; `worker` and `controller` are sections of ours.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from clockwork.live.configfile import read_config_file
from clockwork.live.settings import (
    ConfigFile,
    Kind,
    Origin,
    Setting,
    check_keys,
    fields,
    resolve,
)
from clockwork.telemetry.log_files import LOG_DIR_VARIABLE, log_directory

CONFIG_FILE_ENV: Final = "CLOCKWORK_CONFIG_FILE"
EMULATED_CACHE_SIZE: Final = "23085449216"
"""The original's default: 1376 pages, for a V100 with 32 GB. Emulated pages cost nothing."""


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """What a worker process is told; fields are the rows of `WORKER`."""

    host: str
    port: int
    join: str
    name: str
    gpus: int
    cores_per_gpu: int
    model_dirs: tuple[str, ...]
    upload_dir: str
    upload_max_bytes: int
    interval_ns: int
    log_level: str
    weights_cache_size_bytes: int
    weights_cache_page_size_bytes: int
    io_pool_size_bytes: int
    workspace_pool_size_bytes: int
    host_io_pool_size_bytes: int
    enable_task_telemetry: bool
    enable_action_telemetry: bool
    telemetry_log_dir: str
    allow_zero_size_inputs: bool


class ControllerSettings(Struct, frozen=True, kw_only=True):
    """What a controller process is told; fields are the rows of `CONTROLLER`."""

    host: str
    port: int
    log_dir: str
    interval_ns: int
    log_level: str
    generate_inputs: bool
    max_gpus: int
    schedule_ahead_ns: int
    default_slo_ns: int
    max_exec_ns: int
    max_batch: int
    load_stage_timeout_ns: int
    state: str
    journal: str
    buffer_ns: int
    fixed_models: bool
    compress_inputs: bool
    profile_models: bool
    live: bool


class ClientEnvironment(Struct, frozen=True):
    """What a client reads from its environment (SPEC 1.11)."""

    # Directory of model directories; absent when unset or empty.
    model_dir: str | None
    are_inputs_disabled: bool
    # Directory of Azure trace files; absent when unset or empty.
    azure_trace_dir: str | None


def _worker(
    name: str, kind: Kind, default: str, help: str, section: str = "worker", minimum: int = 0
) -> Setting:
    return Setting(
        name=name, kind=kind, default=default, help=help, section=section, minimum=minimum
    )


_MEMORY: Final = "memory_settings"
_TELEMETRY: Final = "telemetry_settings"
# The controller's logs tell of every action; nothing of ours is kept in a pool of host memory.
_NO_EFFECT: Final = "Accepted for files of the original; has no effect."

WORKER: Final = (
    _worker("host", Kind.TEXT, "0.0.0.0", "Address to listen on."),
    _worker("port", Kind.COUNT, "12345", "Port to listen on; 0 takes a free one."),
    _worker("join", Kind.TEXT, "", "HOST:PORT of a controller to join, instead of listening."),
    _worker("name", Kind.TEXT, "", "What it is called when it joins; empty: the machine's name."),
    _worker("gpus", Kind.COUNT, "1", "Number of devices.", minimum=1),
    _worker("cores_per_gpu", Kind.COUNT, "1", "CPU cores that one device computes with.",
            minimum=1),
    _worker("model_dirs", Kind.PATHS, "", "Folders that models may be loaded from; empty: any."),
    _worker("upload_dir", Kind.PATH, "",
            "Where uploaded models go; empty: the first of --model-dirs that can be written."),
    _worker("upload_max", Kind.BYTES, "16GiB", "Largest model that may be uploaded."),
    _worker("interval", Kind.DURATION, "10s", "Time between two status lines.", minimum=1),
    _worker("log_level", Kind.TEXT, "info", "Least level that is logged: debug, info, warning."),
    _worker("weights_cache_size", Kind.BYTES, "2GiB", "Memory per device that holds weights.",
            _MEMORY, minimum=1),
    _worker("weights_cache_page_size", Kind.BYTES, "16MiB", "Unit in which weights are placed.",
            _MEMORY, minimum=4096),
    _worker("io_pool_size", Kind.BYTES, "512MiB", "Limit for inputs and outputs of one batch.",
            _MEMORY, minimum=1),
    _worker("workspace_pool_size", Kind.BYTES, "512MiB", "Limit for intermediate values.",
            _MEMORY, minimum=1),
    _worker("host_io_pool_size", Kind.BYTES, "512MiB", _NO_EFFECT,
            _MEMORY),
    _worker("enable_task_telemetry", Kind.SWITCH, "0", _NO_EFFECT,
            _TELEMETRY),
    _worker("enable_action_telemetry", Kind.SWITCH, "0", _NO_EFFECT, _TELEMETRY),
    _worker("telemetry_log_dir", Kind.PATH, "./", _NO_EFFECT,
            "log_dir"),
    _worker("allow_zero_size_inputs", Kind.SWITCH, "1", "Run requests without an input.", ""),
)  # fmt: skip
"""Settings of `clockwork worker`."""

WORKER_DUMMY: Final = tuple(
    msgspec.structs.replace(each, default=EMULATED_CACHE_SIZE)
    if each.name == "weights_cache_size"
    else each
    for each in WORKER
)
"""Settings of `clockwork worker_dummy`: the same, with the original's size of cache."""


def _controller(
    name: str, kind: Kind, default: str, help: str, minimum: int = 0, env: str | None = None
) -> Setting:
    return Setting(
        name=name,
        kind=kind,
        default=default,
        help=help,
        section="controller",
        minimum=minimum,
        env=env,
    )


POSITIONAL: Final = (
    _controller("generate_inputs", Kind.SWITCH, "0", "Replace empty inputs by a real image."),
    _controller("max_gpus", Kind.COUNT, "100", "Most GPUs used over all workers.", minimum=1),
    _controller("schedule_ahead", Kind.DURATION, "10ms", "How far ahead GPUs are filled."),
    _controller("default_slo", Kind.DURATION, "100ms", "SLO of requests that name none.",
                minimum=1),
    _controller("max_exec", Kind.DURATION, "250ms", "Batches that run longer are not used."),
    _controller("max_batch", Kind.COUNT, "16", "Larger batches are not used.", minimum=1),
)  # fmt: skip
"""The options that the original took by position, in its order (SPEC 1.3)."""

CONTROLLER: Final = (
    _controller("host", Kind.TEXT, "0.0.0.0", "Address to listen on for clients."),
    _controller("port", Kind.COUNT, "12346", "Port for clients; 0 takes a free one."),
    _controller("log_dir", Kind.PATH, str(log_directory({})), "Existing folder for the two logs.",
                env=LOG_DIR_VARIABLE),
    _controller("interval", Kind.DURATION, "10s", "Time between two status lines.", minimum=1),
    _controller("log_level", Kind.TEXT, "info", "Least level that is logged."),
    _controller("load_stage_timeout", Kind.DURATION, "1s",
                "The load phase ends after this long without activity."),
    _controller("state", Kind.PATH, "",
                "File that models, ids and measurements are kept in; empty: nowhere."),
    _controller("journal", Kind.PATH, "", "Write down all events here, for clockwork replay."),
    _controller("buffer", Kind.DURATION, "5ms", "Plan to finish this much before the deadline."),
    _controller("fixed_models", Kind.SWITCH, "0", "Refuse to load models after the load phase."),
    _controller("live", Kind.SWITCH, "0", "Show a refreshing table instead of lines."),
    _controller("compress_inputs", Kind.SWITCH, "0",
                "Send the inputs of --generate-inputs as LZ4 blocks."),
    _controller("profile_models", Kind.SWITCH, "1",
                "Measure models that were loaded without measurements."),
    *POSITIONAL,
)  # fmt: skip
"""Settings of `clockwork controller`."""

_ALL_KEYS: Final = frozenset(each.key for each in (*WORKER, *CONTROLLER))


def resolve_settings(
    settings: tuple[Setting, ...],
    *,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    config: str | None,
) -> list[Origin]:
    """Return every setting with its source, reading the configuration file if there is one.

    One file may serve all programs: sections of the others are checked for known keys and left.

    Args:
        config: path given with ``--config``; without it CLOCKWORK_CONFIG_FILE counts.

    Raises:
        ConfigurationError: the file or a value in any place is wrong.
    """
    path = config or environ.get(CONFIG_FILE_ENV)
    file: ConfigFile | None = None
    if path:
        file = read_config_file(path)
        check_keys(file, _ALL_KEYS)
    return resolve(settings, flags=flags, environ=environ, file=file)


def worker_settings(origins: list[Origin]) -> WorkerSettings:
    """Return the record of `WORKER` settings."""
    return msgspec.convert(fields(origins), WorkerSettings)


def controller_settings(origins: list[Origin]) -> ControllerSettings:
    """Return the record of `CONTROLLER` settings."""
    return msgspec.convert(fields(origins), ControllerSettings)


def client_environment(environ: Mapping[str, str]) -> ClientEnvironment:
    """Return what the documented variables say to a client."""
    return ClientEnvironment(
        model_dir=environ.get("CLOCKWORK_MODEL_DIR") or None,
        are_inputs_disabled=environ.get("CLOCKWORK_DISABLE_INPUTS") == "1",
        azure_trace_dir=environ.get("AZURE_TRACE_DIR") or None,
    )
