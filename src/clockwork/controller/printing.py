"""Printed forms of messages and state on the controller's console (SPEC 2.9, 3.1)."""

from collections.abc import Iterable

from clockwork.controller.cluster import Cluster, Model
from clockwork.messages.actions import (
    Action,
    ActionFailed,
    EvictWeights,
    EvictWeightsDone,
    Infer,
    InferDone,
    LoadModel,
    LoadModelDone,
    LoadWeights,
    LoadWeightsDone,
    Result,
    UnloadModel,
    UnloadModelDone,
    WorkerStateDone,
)
from clockwork.messages.models import ModelInfo, ModelProfile, WorkerState
from clockwork.messages.requests import (
    EvictRequest,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    Request,
    Response,
    UnloadModelRequest,
)
from clockwork.messages.uploads import (
    BeginUploadRequest,
    BeginUploadResponse,
    StoreChunk,
    UploadChunkRequest,
    UploadChunkResponse,
    UploadDone,
)
from clockwork.units import GIB, MIB, MS

# Parts of uploads, and what measures models.
_UNTOLD = (
    UploadChunkRequest,
    UploadChunkResponse,
    StoreChunk,
    UploadDone,
    LoadWeights,
    LoadWeightsDone,
    Infer,
    InferDone,
    EvictWeights,
    EvictWeightsDone,
)


def request_line(request: Request) -> str:
    """Return a client's request as one line."""
    head = f"Req{request.user_request_id}:"
    if isinstance(request, InferRequest):
        return f"{head}Infer model={request.model_id} b=1"
    if isinstance(request, LoadModelRequest):
        copies = f" copies={request.copies}" if request.copies != 1 else ""
        return f"{head}LoadModel path={request.path}{copies}"
    if isinstance(request, LsRequest):
        return f"{head}LS"
    if isinstance(request, EvictRequest):
        return f"{head}Evict model={request.model_id}"
    if isinstance(request, UnloadModelRequest):
        return f"{head}UnloadModel model={request.model_id}"
    if isinstance(request, BeginUploadRequest):
        size_mb = sum(file.size_bytes for file in request.files) / MIB
        return f"{head}UploadModel name={request.name} files={len(request.files)} {size_mb:.1f} MB"
    return f"{head}{type(request).__name__.removesuffix('Request')}"


def response_line(response: Response) -> str:
    """Return a response as one line; LS adds a line per model."""
    head = f"Rsp{response.user_request_id}:"
    if response.status:
        kind = type(response).__name__.removesuffix("Response").replace("Ls", "LS")
        return f"{head}{kind} error {int(response.status)}: {response.message}"
    if isinstance(response, InferResponse):
        return f"{head}Infer model_id={response.model_id} b={response.batch_size}"
    if isinstance(response, LoadModelResponse):
        assert response.model is not None
        first, profile = response.model.model_id, response.model.profile
        ids = f"[{first}->{first + response.copies - 1}]"
        return (
            f"{head}LoadModel model_id={ids} input={profile.input_bytes} "
            f"output={profile.output_bytes}"
        )
    if isinstance(response, LsResponse):
        lines = [f"{head}LS {len(response.models)} models:"]
        return "\n ".join(lines + [f"M-{item.model_id} {item.source}" for item in response.models])
    if isinstance(response, BeginUploadResponse):
        return f"{head}UploadModel to {response.lacking_count} workers"
    return f"{head}success"


def is_told(message: Request | Response | Action | Result) -> bool:
    """Return whether the startup tells a message; of some there may be thousands."""
    return not isinstance(message, _UNTOLD)


def action_line(action: Action, now_ns: int) -> str:
    """Return an action of the startup as one line; only LoadModel tells its details."""
    head = f"A{action.action_id}:"
    if isinstance(action, LoadModel):
        window = f"[{_from_now(action.earliest_ns, now_ns)}, {_from_now(action.latest_ns, now_ns)}]"
        return f"{head}LoadModelFromDisk model={action.model_id} {window} {action.path}"
    if isinstance(action, (UnloadModel, EvictWeights)):
        return f"{head}{type(action).__name__} model={action.model_id}"
    return f"{head}{type(action).__name__}"


def result_line(result: Result) -> str:
    """Return a result of the startup as one line."""
    head = f"R{result.action_id}:"
    if isinstance(result, ActionFailed):
        return f"{head}Error {int(result.status)}: {result.message}"
    if isinstance(result, LoadModelDone):
        took_ms = result.timing.duration_ns / MS
        return f"{head}LoadModelFromDisk {profile_text(result.profile)} duration={took_ms:.1f}"
    if isinstance(result, UnloadModelDone):
        return f"{head}UnloadModel"
    if isinstance(result, WorkerStateDone):
        return f"{head}GetWorkerState:\n" + "\n".join(worker_state_lines(result.state))
    return f"{head}{type(result).__name__.removesuffix('Done')}"


def profile_text(profile: ModelProfile) -> str:
    """Return sizes and times of a model, as they stand in several lines."""
    times = " ".join(
        f"b{size}={exec_ns / MS:.1f}"
        for size, exec_ns in zip(profile.batch_sizes, profile.exec_ns, strict=True)
    )
    return (
        f"input={profile.input_bytes} output={profile.output_bytes} "
        f"weights={profile.weights_bytes / MIB:.1f} MB ({profile.weights_pages} pages) "
        f"xfer={profile.load_ns / MS:.1f} {times}"
    )


def worker_state_lines(state: WorkerState) -> list[str]:
    """Return what a worker holds, as the worker's own report shows it."""
    lines = [f" page_size={state.page_bytes}", "gpus="]
    lines += [
        f" GPU-{gpu.gpu_id} weights_cache={gpu.cache_bytes / GIB:.1f}GB ({gpu.cache_pages} pages) "
        f"io_pool={gpu.io_pool_bytes / MIB:.1f}MB "
        f"workspace_pool={gpu.workspace_bytes / MIB:.1f}MB "
        f"{len(gpu.warm)} models currently on GPU"
        for gpu in state.gpus
    ]
    return [*lines, "models=", *[f" {model_line(model)}" for model in state.models]]


def model_line(info: ModelInfo) -> str:
    """Return one model as one line."""
    return f"M-{info.model_id} src={info.source} {profile_text(info.profile)}"


def cluster_lines(cluster: Cluster) -> Iterable[str]:
    """Yield the state of all workers as the startup prints it."""
    workers = [worker for worker in cluster.workers if worker.is_ready]
    yield f"Clockwork page_size={workers[0].page_bytes if workers else 0}"
    for worker in workers:
        yield f"Worker {worker.worker_id} {len(worker.gpus)} GPUs {len(worker.models)} models"
        for gpu in worker.gpus:
            size_gb = gpu.pages * worker.page_bytes / GIB
            yield (
                f" GPU {gpu.gpu_id} {size_gb:.1f} GB ({gpu.pages} pages) "
                f"{len(gpu.lru)} loaded models"
            )
        for model_id in sorted(worker.models):
            model: Model | None = cluster.models.get(model_id)
            if model is not None:
                yield f" {model_line(model.info)}"


def network_line(*, by_client: bool, by_controller: bool) -> str:
    """Return the line about where the input of the first inference comes from (SPEC 4.7)."""
    client, controller = ("✔" if is_there else "✘" for is_there in (by_client, by_controller))
    if by_client:
        controller, maker = "✔", "client"
    else:
        maker = "controller" if by_controller else "worker"
    return (
        f"Network Status: Client {client * 5} Controller {controller * 5} Workers "
        f"(inputs generated by {maker})"
    )


def _from_now(when_ns: int, now_ns: int) -> str:
    """Return milliseconds from now, cut to one decimal; 0.0 for the past."""
    return f"{max(when_ns - now_ns, 0) // (MS // 10) / 10:.1f}"
