"""The devices that a worker's settings ask for."""

from collections.abc import Sequence
from pathlib import Path

from clockwork.engines.emulated import DirectoryProfiles, EmulatedEngine
from clockwork.engines.engine import Engine
from clockwork.errors import ConfigurationError
from clockwork.live.clock import now_ns
from clockwork.live.devices import Devices, Emit, EmulatedDevices, OnFailure
from clockwork.live.options import WorkerSettings
from clockwork.live.real_devices import RealDevices
from clockwork.live.scheduling import allowed_cores
from clockwork.messages.ids import GpuId
from clockwork.messages.models import GpuState
from clockwork.models.folders import ModelFolders
from clockwork.models.original import read_emulated_model
from clockwork.models.uploads import UploadStore, find_upload_folder
from clockwork.units import format_bytes
from clockwork.worker.core import WorkerRole


def make_devices(
    settings: WorkerSettings, *, is_emulated: bool, emit: Emit, on_failure: OnFailure
) -> Devices:
    """Return devices with a fresh role, on the running loop.

    Raises:
        ConfigurationError: a setting makes no sense, or does not suit this machine.
    """
    uploads = find_upload_folder(settings.upload_dir, settings.model_dirs)
    store = UploadStore(uploads, size_max=settings.upload_max_bytes, model_dirs=settings.model_dirs)
    engine = _emulated_engine(settings, uploads) if is_emulated else _onnx_engine(settings, uploads)
    role = WorkerRole(
        page_bytes=engine.page_bytes,
        gpus=engine.gpus(),
        may_lack_inputs=settings.allow_zero_size_inputs,
    )
    if isinstance(engine, EmulatedEngine):
        return EmulatedDevices(role, engine, emit, on_failure, store=store)
    cores = own_cores(
        gpus=settings.gpus, cores_per_gpu=settings.cores_per_gpu, allowed=allowed_cores()
    )
    return RealDevices(role, engine, emit, on_failure, store=store, cores=cores)


def own_cores(*, gpus: int, cores_per_gpu: int, allowed: Sequence[int]) -> tuple[int, ...]:
    """Return a core for each device that it should keep to; empty if the system should choose.

    If devices need all cores, a system that moves threads now and then runs two of them on one
    core while the other idles, and an inference takes twice as long: measured with two devices on
    two cores at two thirds of their load, one of ten. With cores to spare there is always one for
    whoever wakes up. Devices of several cores compute with threads that they share, which cannot be
    kept apart.
    """
    if cores_per_gpu != 1 or not allowed or gpus < len(allowed):
        return ()
    return tuple(allowed[gpu % len(allowed)] for gpu in range(gpus))


def _gpu_states(settings: WorkerSettings) -> list[GpuState]:
    """Return the GPUs of an emulated worker; caches are whole numbers of pages."""
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


def _emulated_engine(settings: WorkerSettings, uploads: Path | None) -> EmulatedEngine:
    page_bytes = settings.weights_cache_page_size_bytes
    profiles = DirectoryProfiles(
        page_bytes=page_bytes,
        read=read_emulated_model,
        check_path=ModelFolders(settings.model_dirs, uploads=uploads),
    )
    return EmulatedEngine(gpus=_gpu_states(settings), page_bytes=page_bytes, profiles=profiles)


def _onnx_engine(settings: WorkerSettings, uploads: Path | None) -> Engine:
    # Imported here: an emulated worker needs no ONNX Runtime, and starts ten times faster.
    from clockwork.engines.onnx import OnnxConfig, OnnxEngine

    config = OnnxConfig(
        gpu_count=settings.gpus,
        cores=settings.cores_per_gpu,
        cache_bytes=settings.weights_cache_size_bytes,
        page_bytes=settings.weights_cache_page_size_bytes,
        io_pool_bytes=settings.io_pool_size_bytes,
        workspace_bytes=settings.workspace_pool_size_bytes,
        model_folders=settings.model_dirs,
        upload_folder=uploads,
    )
    return OnnxEngine(config, now_ns=now_ns)
