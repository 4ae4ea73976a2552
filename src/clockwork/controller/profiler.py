"""Models without measurements are measured on one of their workers before they are served.

Real LoadWeights and Infer actions, smallest batch first, and only while the GPU has nothing else
to do: one action at a time, after which others get as long a turn as it took (`SLACK_MIN_NS` at
least). Of the runs of a batch size the first is left out, and of the others the second longest
counts: an estimate that is too low costs promises, one hiccup should not count. A batch size that
runs longer than `max_exec`, or not at all, ends the row: larger ones are not used.

On the only GPU a long run would make others late, so a batch size that may take long waits for a
quiet moment there, and is done without if none comes.

A model that cannot be measured (its worker left, no GPU was idle for `PATIENCE_NS`, it fails) is
served with guesses, as it would be without all this.

Invariants: at most one action of it is under way; its instance counts as used, so that nobody
evicts it, and is gone when the model has its turn.

Source: SPEC 3.1; the original has planned this and not built it.

Not here: what is known of a model meanwhile (``profile_job.py``), when and with which models it is
done (``startup.py``, ``catalogue.py``).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from clockwork.controller.cluster import Cluster, Gpu, Instance, InstanceState, Model
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.policy import Policy
from clockwork.controller.printing import model_line
from clockwork.controller.profile_job import GUESS_NS, LOADS, ProfileJob
from clockwork.controller.underway import PendingOrder
from clockwork.messages.actions import (
    ActionFailed,
    EvictWeights,
    Infer,
    InferDone,
    LoadWeights,
    LoadWeightsDone,
    Result,
)
from clockwork.messages.controller_io import Say
from clockwork.messages.ids import ActionId, WorkerId
from clockwork.messages.models import ModelProfile
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.units import FOREVER_NS, MS, SECOND

SLACK_MIN_NS: Final = 2 * MS
"""Pause between two actions while others are served (chosen: a turn for a small model)."""
RETRY_NS: Final = 2 * MS
"""Pause before GPUs are looked at again when none is idle (chosen)."""
PATIENCE_NS: Final = 10 * SECOND
"""How long to wait for an idle GPU (chosen: people wait for the answer to LoadModel)."""
LONG_SHARE: Final = 4
"""A run is long from one part in so many of the default SLO on (chosen)."""
QUIET_NS: Final = 500 * MS
"""It is quiet when nobody has asked for so long (chosen)."""
QUIET_PATIENCE_NS: Final = 2 * SECOND
"""How long to wait for a quiet moment (chosen: people wait for the answer to LoadModel)."""
WINDOW_NS: Final = 20 * MS
"""How late an action may start: later, its GPU is not idle any more (chosen)."""
ATTEMPTS_MAX: Final = 3
"""How often a model gets a place (chosen: a failure that repeats is no accident)."""
KNOWN_MAX: Final = 10_000
"""Paths whose measurements are kept for further models (chosen)."""
GONE: Final = "its worker left, or its weights were evicted"
"""Why a model lost its place."""
MISSED_MAX: Final = 100
"""Windows that may be missed per model (chosen: at a busy GPU most are)."""
WEIGHTS_ARE_NOT_THERE: Final = frozenset(
    {ActionStatus.EXEC_WEIGHTS_MISSING, ActionStatus.EXEC_CONCURRENT_WEIGHTS_MODIFICATION}
)
"""Failures of an Infer that say nothing about its batch size."""

_TOO_LATE: Final = frozenset({ActionStatus.EXEC_TOO_LATE, ActionStatus.LOAD_WEIGHTS_TOO_LATE})


class Profiler:
    """Measures models one after the other."""

    def __init__(
        self, *, config: ControllerConfig, cluster: Cluster, ledger: Ledger, policy: Policy
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._ledger = ledger
        self._policy = policy
        # Set when inferences are served: measuring must leave room for them.
        self.has_traffic = False
        self._jobs: deque[ProfileJob] = deque()
        self._window: _Window | None = None
        # Nothing is sent before.
        self._ready_at_ns = 0
        # How many requests there had been, and when the last one was noticed.
        self._request_count = 0
        self._asked_at_ns = 0
        # By path: what workers report of a model, and the same with measurements.
        self._known: dict[str, tuple[ModelProfile, ModelProfile]] = {}

    @property
    def is_idle(self) -> bool:
        """True if no model waits to be measured."""
        return not self._jobs

    @property
    def wakeup_ns(self) -> int | None:
        """When the next action may be sent."""
        return self._ready_at_ns if self._jobs and self._window is None else None

    def wants(self, model: Model) -> bool:
        """Return whether a model lacks measurements that it should get."""
        return self._config.profile_models and 0 in model.profile.exec_ns

    def add(
        self,
        model: Model,
        workers: Iterable[WorkerId],
        done: Callable[[Model], None],
    ) -> None:
        """Have a model measured when its turn comes; nobody asks for it before `done`."""
        self._jobs.append(ProfileJob(model, set(workers), done))

    def plan(self, now_ns: int) -> None:
        """Send the next action, if there is a window for it."""
        if self._ledger.request_count != self._request_count:
            self._request_count = self._ledger.request_count
            self._asked_at_ns = now_ns
        while self._jobs and self._window is None and now_ns >= self._ready_at_ns:
            job = self._jobs[0]
            known = self._known.get(job.model.info.source)
            if known is not None and known[0] == job.model.profile:
                self._finish(known[1], now_ns)
            elif job.instance is None and not self._find_place(job, now_ns):
                return
            elif job.instance is not None:
                if job.instance.state is InstanceState.COLD:
                    job.failure = GONE
                    self._leave_place(job)
                    continue
                if not _is_idle(job.instance.gpu):
                    self._wait(job, now_ns)
                    return
                if self._would_disturb(job, job.instance.gpu, now_ns):
                    self._wait_for_quiet(job, now_ns)
                    return
                job.waiting_since_ns = None
                self._send_next(job, job.instance, now_ns)

    def on_result(self, pending: PendingOrder, result: Result, now_ns: int) -> None:
        """Take in what an action measured."""
        job, window = pending.owner, self._window
        assert isinstance(job, ProfileJob), f"{job!r} is no profiling"
        if window is None or pending.action_id != window.action_id:
            return  # the result of an eviction
        self._window = None
        taken_ns = _taken_ns(result)
        self._end_window(window, taken_ns, now_ns)
        instance = job.instance
        assert instance is not None, f"{window!r} without a place"
        is_there = self._cluster.workers[pending.worker_id].is_ready
        if not is_there or instance.state is InstanceState.COLD:
            job.failure = GONE
            self._leave_place(job)
        elif isinstance(result, LoadWeightsDone):
            if instance.state is InstanceState.LOADING:
                instance.advance(InstanceState.WARM)
            job.loads.append(taken_ns)
        elif isinstance(result, InferDone):
            job.take_run(taken_ns, self._config.max_exec_ns)
        else:
            assert isinstance(result, ActionFailed), f"{result!r} answers an order"
            self._take_failure(job, result, is_load=window.is_load)

    # Places.

    def _find_place(self, job: ProfileJob, now_ns: int) -> bool:
        """Take pages of an idle GPU; return False if there is none now."""
        model = job.model
        for gpu in list(self._cluster.gpus_in(model.warm_mask)):
            self._policy.evict(model.on(gpu), now_ns)
        if job.attempts >= ATTEMPTS_MAX:
            self._give_up(job.failure, now_ns)
            return False
        places = self._places(job)
        if not places:
            self._give_up("no worker that is connected can hold it", now_ns)
            return False
        for gpu in places:
            if _is_idle(gpu) and self._make_room(gpu, model, now_ns):
                job.attempts += 1
                job.waiting_since_ns = None
                job.instance = model.on(gpu)
                job.instance.advance(InstanceState.LOADING)
                # Nobody evicts an instance that is in use.
                job.instance.inflight += 1
                self._policy.on_pages_freed(gpu)
                job.begin()
                return True
        self._wait(job, now_ns)
        return False

    def _places(self, job: ProfileJob) -> list[Gpu]:
        """Return the GPUs that could hold the model, those with free pages first."""
        gpus = [
            gpu
            for worker_id in sorted(job.workers)
            for gpu in self._cluster.workers[worker_id].gpus
            if self._cluster.up_mask & gpu.bit
            and gpu.pages >= job.model.pages
            and job.model.on(gpu).state is InstanceState.COLD
        ]
        return sorted(gpus, key=lambda gpu: gpu.free_pages < job.model.pages)

    def _make_room(self, gpu: Gpu, model: Model, now_ns: int) -> bool:
        """Evict what nobody needs until a model fits; evict nothing if it cannot."""
        missing = model.pages - gpu.free_pages
        victims = []
        for instance in gpu.lru.values():
            if missing <= 0:
                break
            demand = instance.model.demand
            demand.forget_expired(now_ns)
            if instance.state is InstanceState.WARM and not instance.inflight and demand.is_empty:
                victims.append(instance)
                missing -= instance.model.pages
        if missing > 0:
            return False
        for instance in victims:
            self._policy.evict(instance, now_ns)
        return True

    def _leave_place(self, job: ProfileJob) -> None:
        """Give up the instance: evicted if the weights are there, or gone already."""
        instance, job.instance = job.instance, None
        if instance is None:
            return
        instance.inflight -= 1
        state, gpu = instance.state, instance.gpu
        if state is InstanceState.COLD:
            return
        instance.advance(InstanceState.COLD)
        self._policy.on_pages_freed(gpu)
        if state is InstanceState.WARM:
            action_id = self._ledger.next_action_id()
            self._ledger.send(
                PendingOrder(action_id, gpu.worker.worker_id, job),
                EvictWeights(action_id, job.model.model_id, gpu.gpu_id, 0, FOREVER_NS),
            )

    def _wait(self, job: ProfileJob, now_ns: int) -> None:
        """Look at the GPUs again soon, but not for ever."""
        if job.waiting_since_ns is None:
            job.waiting_since_ns = now_ns
        if now_ns - job.waiting_since_ns > PATIENCE_NS:
            self._give_up(f"no GPU was idle for {PATIENCE_NS // SECOND} s", now_ns)
        else:
            self._ready_at_ns = now_ns + RETRY_NS

    def _would_disturb(self, job: ProfileJob, gpu: Gpu, now_ns: int) -> bool:
        """Return whether the next run could make requests late for which there is no other GPU."""
        is_asked = now_ns - self._asked_at_ns < QUIET_NS
        if not is_asked or not job.sizes or not job.exec_ns or len(job.loads) < LOADS:
            return False
        is_long = job.expected_ns() > self._config.default_slo_ns // LONG_SHARE
        return is_long and self._cluster.up_mask == gpu.bit

    def _wait_for_quiet(self, job: ProfileJob, now_ns: int) -> None:
        """Look again soon; after a while do without the batch sizes that are left."""
        if job.waiting_since_ns is None:
            job.waiting_since_ns = now_ns
        self._ready_at_ns = now_ns + RETRY_NS
        if now_ns - job.waiting_since_ns > QUIET_PATIENCE_NS:
            self._say(
                f"M-{job.model.model_id} is not used at batch size {job.sizes[0]}: measuring it "
                f"would make others late on the only GPU"
            )
            job.skip_rest()

    # Actions.

    def _send_next(self, job: ProfileJob, instance: Instance, now_ns: int) -> None:
        """Send the next LoadWeights or Infer; finish if there is none."""
        if len(job.loads) < LOADS:
            self._send_load(job, instance, now_ns)
        elif job.sizes:
            self._send_infer(job, instance, job.sizes[0], now_ns)
        else:
            self._finish(job.measured(), now_ns)

    def _send_load(self, job: ProfileJob, instance: Instance, now_ns: int) -> None:
        gpu, action_id = instance.gpu, self._ledger.next_action_id()
        expected_ns = job.loads[-1] if job.loads else GUESS_NS
        gpu.loads.add(action_id, duration_ns=expected_ns, now_ns=now_ns)
        action = LoadWeights(
            action_id, job.model.model_id, gpu.gpu_id, now_ns, now_ns + WINDOW_NS, expected_ns
        )
        self._window = _Window(action_id, gpu, is_load=True)
        self._ledger.send(PendingOrder(action_id, gpu.worker.worker_id, job), action)

    def _send_infer(self, job: ProfileJob, instance: Instance, size: int, now_ns: int) -> None:
        gpu, action_id = instance.gpu, self._ledger.next_action_id()
        expected_ns = job.expected_ns()
        self._policy.reserve(gpu, action_id, expected_ns, now_ns)
        input_bytes = job.model.input_bytes if job.needs_inputs else 0
        action = Infer(
            action_id,
            job.model.model_id,
            gpu.gpu_id,
            now_ns,
            now_ns + WINDOW_NS,
            expected_ns,
            size,
            (input_bytes,) * size,
        )
        payloads: tuple[Payload, ...] = (bytes(input_bytes * size),) if input_bytes else ()
        self._window = _Window(action_id, gpu, is_load=False)
        self._ledger.send(PendingOrder(action_id, gpu.worker.worker_id, job), action, payloads)

    def _end_window(self, window: "_Window", taken_ns: int, now_ns: int) -> None:
        """Free the GPU, and leave it to others for a while."""
        gpu = window.gpu
        if window.is_load:
            gpu.loads.end(window.action_id, at_ns=now_ns)
        else:
            self._policy.release(gpu, window.action_id, now_ns)
        if self.has_traffic:
            self._ready_at_ns = now_ns + max(SLACK_MIN_NS, taken_ns)

    # Outcomes.

    def _take_failure(self, job: ProfileJob, failed: ActionFailed, *, is_load: bool) -> None:
        """Try again, differently or elsewhere, or do without a batch size."""
        if failed.status in _TOO_LATE and job.missed < MISSED_MAX:
            job.missed += 1
        elif failed.status is ActionStatus.COPY_INPUT_INVALID_INPUT and not job.needs_inputs:
            job.needs_inputs = True
        elif job.exec_ns and not is_load and failed.status not in WEIGHTS_ARE_NOT_THERE:
            size = job.sizes[0]
            self._say(f"M-{job.model.model_id} is not used at batch size {size}: {failed.message}")
            job.skip_rest()
        else:
            job.failure = failed.message
            self._leave_place(job)

    def _finish(self, profile: ModelProfile, now_ns: int) -> None:
        """Give a model its measurements, and end its turn."""
        job = self._jobs.popleft()
        self._leave_place(job)
        model, unmeasured = job.model, job.model.profile
        model.learn(profile, batch_max=self._config.max_batch, exec_max_ns=self._config.max_exec_ns)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[model.info.source] = (unmeasured, profile)
        self._say(f"Profiled {model_line(model.info)}")
        job.done(model)

    def _give_up(self, why: str, now_ns: int) -> None:
        """End a model's turn without measurements."""
        job = self._jobs.popleft()
        self._leave_place(job)
        model = job.model
        self._say(
            f"M-{model.model_id} {model.info.source} could not be measured and is served with "
            f"guesses: {why}"
        )
        job.done(model)

    def _say(self, text: str) -> None:
        self._ledger.effects.append(Say(text))


class _Window(Struct, eq=False):
    """The action under way."""

    action_id: ActionId
    gpu: Gpu
    is_load: bool


def _taken_ns(result: Result) -> int:
    """Return how long an action occupied its GPU; 0 if it failed."""
    if isinstance(result, InferDone):
        return result.copy_output.end_ns - result.copy_input.begin_ns
    if isinstance(result, LoadWeightsDone):
        return result.timing.end_ns - result.timing.begin_ns
    return 0


def _is_idle(gpu: Gpu) -> bool:
    return not len(gpu.exec) and not len(gpu.loads)
