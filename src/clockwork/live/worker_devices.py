"""The devices that a worker's settings ask for."""

from clockwork.engines.emulated import DirectoryProfiles, EmulatedEngine
from clockwork.engines.engine import Engine
from clockwork.errors import ConfigurationError
from clockwork.live.devices import Devices, Emit, EmulatedDevices, OnFailure
from clockwork.live.options import WorkerSettings
from clockwork.live.real_devices import RealDevices
from clockwork.messages.ids import GpuId
from clockwork.messages.models import GpuState
from clockwork.models.folders import ModelFolders
from clockwork.units import format_bytes
from clockwork.worker.core import WorkerRole


def make_devices(
    settings: WorkerSettings, *, is_emulated: bool, emit: Emit, on_failure: OnFailure
) -> Devices:
    """Return devices with a fresh role, on the running loop.

    Raises:
        ConfigurationError: a setting makes no sense.
    """
    gpus = gpu_states(settings)
    page_bytes = settings.weights_cache_page_size_bytes
    role = WorkerRole(
        page_bytes=page_bytes, gpus=gpus, may_lack_inputs=settings.allow_zero_size_inputs
    )
    if not is_emulated:
        return RealDevices(role, make_engine(settings), emit, on_failure)
    profiles = DirectoryProfiles(
        page_bytes=page_bytes, check_path=ModelFolders(settings.model_dirs)
    )
    engine = EmulatedEngine(gpus=gpus, page_bytes=page_bytes, profiles=profiles)
    return EmulatedDevices(role, engine, emit, on_failure)


def gpu_states(settings: WorkerSettings) -> list[GpuState]:
    """Return the GPUs of a worker; caches are whole numbers of pages.

    Raises:
        ConfigurationError: a cache holds no page.
    """
    cache_bytes = settings.weights_cache_size_bytes
    page_bytes = settings.weights_cache_page_size_bytes
    pages = cache_bytes // page_bytes
    if not pages:
        raise ConfigurationError(
            f"memory_settings.weights_cache_size is {format_bytes(cache_bytes)}, less than one "
            f"page of {format_bytes(page_bytes)} (weights_cache_page_size)"
        )
    return [
        GpuState(
            gpu_id=gpu_id,
            cache_bytes=pages * page_bytes,
            cache_pages=pages,
            io_pool_bytes=settings.io_pool_size_bytes,
            workspace_bytes=settings.workspace_pool_size_bytes,
            warm=(),
        )
        for gpu_id in map(GpuId, range(settings.gpus))
    ]


def make_engine(settings: WorkerSettings) -> Engine:
    """Return the engine that really computes.

    Raises:
        ConfigurationError: it cannot run here.
    """
    raise ConfigurationError(f"no engine for {settings.gpus} devices")
