"""The phases from the first worker to the first inference (SPEC 3).

::

    QUERYING  --all workers reported (or `WORKERS_WAIT_NS` passed)--> WAITING
    WAITING   --first LoadModel, or workers hold models already-->    LOADING
    LOADING   --no load under way and no activity for the timeout-->  PROFILING, or else SERVING
    PROFILING --all models measured, or known not to be-->            SERVING

Infer and LS that arrive before SERVING are held and answered with status 5, at the latest after
`bounce_after_ns`: this keeps impatient clients from spinning; the client library asks again.
LoadModel requests that arrive while workers are being queried wait until they have reported.

A controller that remembers models (`Catalogue.restore`) serves as soon as all of them are on
workers: it waits for no LoadModel, and after `REMEMBERED_WAIT_NS` for no further worker and no
further model. A fixed set of models is loaded in a load phase all the same.

There is a PROFILING phase only if models without measurements were loaded.

Not here: how models are loaded (``catalogue.py``) and workers read (``fleet.py``).
"""

from collections import deque
from enum import Enum
from typing import Final

from clockwork.controller.catalogue import Catalogue
from clockwork.controller.cluster import Cluster, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.fleet import Fleet
from clockwork.controller.ledger import Ledger
from clockwork.controller.printing import cluster_lines
from clockwork.controller.profiler import Profiler
from clockwork.messages.controller_io import Say, ToClient
from clockwork.messages.ids import ClientId, ModelId
from clockwork.messages.requests import (
    InferRequest,
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    Request,
)
from clockwork.messages.status import Status
from clockwork.units import SECOND

WORKERS_WAIT_NS: Final = 10 * SECOND
"""How long to wait for workers before starting with those that are there (chosen)."""
REMEMBERED_WAIT_NS: Final = 1 * SECOND
"""The same if models are remembered (chosen: half of the time after which users want answers)."""
HELD_MAX: Final = 10_000
"""Infer and LS requests held at once; more are answered at once (chosen)."""
INITIALIZING: Final = "Controller initializing"
"""The message of status 5 (original)."""
NO_WORKER: Final = (
    f"{INITIALIZING}: no worker has reported; start one, or check the controller's worker list"
)
"""The message of status 5 for LoadModel."""


class Phase(Enum):
    """Where the startup is."""

    QUERYING = "querying"
    WAITING = "waiting"
    LOADING = "loading"
    PROFILING = "profiling"
    SERVING = "serving"


class Startup:
    """Runs the phases; `plan` moves them on."""

    def __init__(
        self,
        *,
        config: ControllerConfig,
        cluster: Cluster,
        ledger: Ledger,
        fleet: Fleet,
        catalogue: Catalogue,
        profiler: Profiler,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._ledger = ledger
        self._fleet = fleet
        self._catalogue = catalogue
        self._profiler = profiler
        # Models that had their turn of being measured.
        self._had_turn: set[ModelId] = set()
        self.phase = Phase.QUERYING
        self._is_restart = bool(cluster.models) and not config.is_model_set_fixed
        # True when a restarted controller serves what it has, even if it is not all.
        self._is_overdue = False
        # None before the first step.
        self._began_at_ns: int | None = None
        self._last_activity_ns = 0
        # When the next countdown line is due.
        self._countdown_ns = 0
        # Requests to be bounced: (when, client, request), oldest first.
        self._held: deque[tuple[int, ClientId, InferRequest | LsRequest]] = deque()
        # LoadModel requests that came while workers were queried; answered when that takes long.
        self._early: list[tuple[ClientId, LoadModelRequest]] = []

    @property
    def wakeup_ns(self) -> int | None:
        """When a phase, a countdown line or a bounce is due."""
        if self.phase is Phase.SERVING and not self._held:
            return None
        times = [self._held[0][0]] if self._held else []
        if self.phase is Phase.QUERYING and self._began_at_ns is not None:
            times.append(self._began_at_ns + self._wait_ns)
        if self.phase is Phase.LOADING and self._is_restart and not self._is_overdue:
            assert self._began_at_ns is not None
            times.append(self._began_at_ns + self._wait_ns)
        if self.phase is Phase.LOADING:
            end_ns = self._last_activity_ns + self._config.load_stage_timeout_ns
            times.append(min(self._countdown_ns, end_ns + 1))
        return min(times, default=None)

    @property
    def _wait_ns(self) -> int:
        """How long to wait for all workers."""
        return REMEMBERED_WAIT_NS if self._is_restart else WORKERS_WAIT_NS

    def begin(self, now_ns: int) -> None:
        """Announce the startup, the first time that it is called."""
        if self._began_at_ns is not None:
            return
        self._began_at_ns = now_ns
        self._say("(Startup) Running ControllerStartup")
        self._say("(Startup-1) Bouncing LS and Infer requests until startup is complete")
        self._say("(Startup-2) Querying current worker state")

    def hold(self, client_id: ClientId, request: InferRequest | LsRequest, now_ns: int) -> None:
        """Keep a request that cannot be served yet."""
        if len(self._held) >= HELD_MAX:
            self._bounce(client_id, request)
        else:
            self._held.append((now_ns + self._config.bounce_after_ns, client_id, request))

    def load(self, client_id: ClientId, request: LoadModelRequest, now_ns: int) -> None:
        """Take in a LoadModel: the first one begins the load phase."""
        if self.phase is Phase.QUERYING:
            self._early.append((client_id, request))
            return
        self._begin_loading(now_ns)
        self._note_activity(now_ns)
        self._catalogue.load(client_id, request)

    def take_held(self) -> list[tuple[ClientId, Request]]:
        """Remove and return all requests that wait: the controller is about to end."""
        held: list[tuple[ClientId, Request]] = [item[1:] for item in self._held]
        held += self._early
        self._held.clear()
        self._early.clear()
        return held

    def on_result(self, now_ns: int) -> None:
        """Count a worker's result as activity."""
        if self.phase is Phase.LOADING:
            self._note_activity(now_ns)

    def plan(self, now_ns: int) -> None:
        """Move on as far as time and events allow."""
        while self._held and self._held[0][0] <= now_ns:
            _, client_id, request = self._held.popleft()
            self._bounce(client_id, request)
        if self.phase is Phase.QUERYING:
            self._end_querying(now_ns)
        if self.phase is Phase.LOADING:
            self._count_down(now_ns)
        if self.phase is Phase.PROFILING:
            self._go_on_profiling(now_ns)

    def _end_querying(self, now_ns: int) -> None:
        """Go on when all workers have reported, or some and the rest took too long."""
        assert self._began_at_ns is not None
        is_late = now_ns >= self._began_at_ns + self._wait_ns
        ready = [worker.worker_id for worker in self._cluster.workers if worker.is_ready]
        if not self._fleet.is_complete and not (is_late and ready):
            if is_late:
                self._began_at_ns = now_ns
                self._bounce_early()
            return
        for worker in self._cluster.workers:
            if not worker.is_ready:
                self._say(f"Worker {worker.worker_id} has not reported; starting without it")
        if not self._is_restart:
            # Thousands of models take a while to list, and will be listed in a moment.
            self._say_state()
        self.phase = Phase.WAITING
        self._say("(Startup-3) Awaiting LoadModel requests from clients")
        if self._cluster.models:
            self._begin_loading(now_ns)
        early, self._early = self._early, []
        for client_id, request in early:
            self.load(client_id, request, now_ns)

    def _bounce_early(self) -> None:
        """Answer the LoadModel requests that nobody is there to carry out."""
        for client_id, request in self._early:
            response = LoadModelResponse(
                request.user_request_id, Status.INITIALIZING, NO_WORKER, 0, None
            )
            self._ledger.effects.append(ToClient(client_id, response, b""))
        self._early.clear()

    def _begin_loading(self, now_ns: int) -> None:
        if self.phase is Phase.WAITING:
            self.phase = Phase.LOADING
            self._say("(Startup-4) LoadModelStage has begun")
            self._note_activity(now_ns)

    def _note_activity(self, now_ns: int) -> None:
        self._last_activity_ns = now_ns
        self._countdown_ns = now_ns + self._config.load_stage_timeout_ns // 2

    def _count_down(self, now_ns: int) -> None:
        """End the load phase after its timeout, saying so in advance."""
        if self._is_restart and self._can_serve(now_ns):
            self._end_loading()
            return
        left_ns = self._last_activity_ns + self._config.load_stage_timeout_ns - now_ns
        if not self._catalogue.is_idle:
            self._note_activity(now_ns)
        elif left_ns < 0:
            self._end_loading()
        elif now_ns >= self._countdown_ns:
            self._countdown_ns = now_ns + SECOND
            seconds = -(-left_ns // SECOND)  # rounded up: it has not ended yet
            self._say(f"(Startup-5) LoadModelStage ending in {seconds} seconds...", end="\r")

    def _can_serve(self, now_ns: int) -> bool:
        """Return whether a restarted controller has all its models, or some and no more time."""
        assert self._began_at_ns is not None
        self._is_overdue = now_ns >= self._began_at_ns + self._wait_ns
        there = [bool(model.on_workers_mask) for model in self._cluster.models.values()]
        return all(there) or (self._is_overdue and any(there))

    def _end_loading(self) -> None:
        """Measure what has to be measured, else serve."""
        count = len(self._unmeasured())
        if not count:
            self._serve()
            return
        self.phase = Phase.PROFILING
        self._say(f"(Startup-6) ProfilingStage has begun: {count} models have no measurements")

    def _go_on_profiling(self, now_ns: int) -> None:
        """Measure until nothing is left, models that are loaded meanwhile included."""
        while True:
            for model in self._unmeasured():
                self._had_turn.add(model.model_id)
                workers = [
                    worker.worker_id
                    for worker in self._cluster.workers
                    if model.model_id in worker.models
                ]
                self._profiler.add(model, workers, self._catalogue.note_measured)
            self._profiler.plan(now_ns)
            if not self._profiler.is_idle:
                return
            if not self._unmeasured():
                break
        if self._catalogue.is_idle:
            self._say("(Startup-6) ProfilingStage complete")
            self._serve()

    def _unmeasured(self) -> list[Model]:
        """Return the models that lack measurements and had no turn yet."""
        return [
            model
            for model_id, model in sorted(self._cluster.models.items())
            if model_id not in self._had_turn and self._profiler.wants(model)
        ]

    def _serve(self) -> None:
        self._profiler.has_traffic = True
        self._say("(Startup-6) LoadModelStage complete.  Printing loaded models: ")
        self._say_state()
        self._say("(Startup-end) Transitioning to scheduler")
        self._say_scheduler()
        self.phase = Phase.SERVING
        while self._held:
            _, client_id, request = self._held.popleft()
            self._bounce(client_id, request)
        self._say(" * Admitting inference requests")

    def _say_state(self) -> None:
        for line in cluster_lines(self._cluster):
            self._say(line)
        self._say("")

    def _say_scheduler(self) -> None:
        """Print what the scheduler starts with (SPEC 4.3)."""
        cluster, config = self._cluster, self._config
        for model in cluster.models.values():
            for size, exec_ns in zip(model.profile.batch_sizes, model.profile.exec_ns, strict=True):
                if size not in model.sizes and size <= config.max_batch:
                    source = model.info.source
                    self._say(f"Excluding b{size} with estimate {exec_ns}model={source}")
        workers = sum(worker.is_ready for worker in cluster.workers)
        pages = sum(gpu.pages for gpu in cluster.gpus)
        per_gpu = pages // max(len(cluster.gpus), 1)
        model_pages = sum(model.pages for model in cluster.models.values())
        self._say(f"Created {len(cluster.models)} models")
        self._say(f"Created {len(cluster.gpus)} GPUs on {workers} Workers")
        self._say(f"Total GPU capacity {pages} pages ({per_gpu} per GPU).")
        share = 100 * model_pages // max(pages, 1)
        self._say(f"Total model pages {model_pages} ({share}% oversubscription).")

    def _bounce(self, client_id: ClientId, request: InferRequest | LsRequest) -> None:
        response: InferResponse | LsResponse
        if isinstance(request, InferRequest):
            response = InferResponse(
                request.user_request_id,
                Status.INITIALIZING,
                INITIALIZING,
                request.model_id,
                0,
                0,
                False,
            )
        else:
            response = LsResponse(request.user_request_id, Status.INITIALIZING, INITIALIZING, ())
        self._ledger.effects.append(ToClient(client_id, response, b""))

    def _say(self, text: str, end: str = "\n") -> None:
        self._ledger.effects.append(Say(text, end))
