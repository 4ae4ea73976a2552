"""One GPU of a worker: what its two executors do with the actions whose turn has come.

The weights executor runs loads and evictions in their order; the other runs infers. `start_...`
is called with the task at the head of an idle executor, inside its window; it returns False if
the task must wait for what runs on the other executor, and otherwise the task has left the queue.
`end_...` is called when the shell has run the task; afterwards the executor is idle.

Whether an action can be done is judged when its turn comes: what came before it may have changed
the answer. Source: SPEC 5.2 and 5.9.
"""

from clockwork.messages.actions import (
    EvictWeights,
    EvictWeightsDone,
    Infer,
    InferDone,
    LoadWeights,
    LoadWeightsDone,
    Timing,
)
from clockwork.messages.models import GpuState
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    InferTask,
    InferTaskDone,
    LoadWeightsTask,
    LoadWeightsTaskDone,
    TaskFailed,
)
from clockwork.worker.checks import check_infer
from clockwork.worker.executor import Executor
from clockwork.worker.outbox import Outbox
from clockwork.worker.store import Instance, InstanceState, ModelStore, WeightsCache
from clockwork.worker.tasks import ActionTask


class Gpu:
    """A weights cache, an executor for weights and one for infers."""

    __slots__ = ("_may_lack_inputs", "_outbox", "_store", "cache", "infers", "weights")

    def __init__(
        self, gpu: GpuState, *, store: ModelStore, outbox: Outbox, may_lack_inputs: bool
    ) -> None:
        self.cache = WeightsCache(gpu)
        self.weights = Executor(f"GPU {gpu.gpu_id} weights")
        self.infers = Executor(f"GPU {gpu.gpu_id} infers")
        self._store = store
        self._outbox = outbox
        self._may_lack_inputs = may_lack_inputs

    def start_load_weights(self, task: ActionTask) -> bool:
        """Start a load; it waits while the same pages are read."""
        action = task.action
        assert isinstance(action, LoadWeights)
        model = self._store.models.get(action.model_id)
        if model is None:
            status = ActionStatus.LOAD_WEIGHTS_UNKNOWN_MODEL
            self._outbox.refuse(task, status, _no_model(action))
            return True
        if _is_in_use(self.cache.find(action.model_id)):
            return False
        instance = self.cache.begin_load(model)
        if instance is None:
            pool = self.cache.pool
            text = (
                f"model {action.model_id} needs {model.profile.weights_pages} pages, "
                f"{pool.free_count} free of {pool.total_count}"
            )
            self._outbox.refuse(task, ActionStatus.LOAD_WEIGHTS_INSUFFICIENT_CACHE, text)
            return True
        self.weights.begin(task)
        task.instance = instance
        self._outbox.start(
            task,
            LoadWeightsTask(
                task_id=task.task_id,
                gpu_id=action.gpu_id,
                code_id=model.code_id,
                pages=instance.pages,
            ),
        )
        return True

    def start_evict_weights(self, task: ActionTask) -> bool:
        """Evict in this instant; it waits while the pages are read."""
        action = task.action
        assert isinstance(action, EvictWeights)
        instance = self.cache.find(action.model_id)
        if instance is None:
            if action.model_id in self._store.models:
                text = f"model {action.model_id} has no weights on GPU {action.gpu_id}"
                self._outbox.refuse(task, ActionStatus.EVICT_WEIGHTS_NOT_IN_CACHE, text)
            else:
                status = ActionStatus.EVICT_WEIGHTS_UNKNOWN_MODEL
                self._outbox.refuse(task, status, _no_model(action))
            return True
        if _is_in_use(instance):
            return False
        self.cache.drop(instance)
        self.weights.begin(task)
        self.weights.end(task)
        now_ns = self._outbox.now_ns
        self._outbox.succeed(
            task,
            EvictWeightsDone(
                action_id=action.action_id,
                timing=Timing(begin_ns=now_ns, end_ns=now_ns, duration_ns=0),
                received_at_ns=task.received_at_ns,
                sent_at_ns=now_ns,
            ),
        )
        return True

    def start_infer(self, task: ActionTask) -> bool:
        """Start an infer, or refuse it; it never waits."""
        action = task.action
        assert isinstance(action, Infer)
        model = self._store.models.get(action.model_id)
        if model is None:
            self._outbox.refuse(task, ActionStatus.COPY_INPUT_UNKNOWN_MODEL, _no_model(action))
            return True
        refusal = check_infer(
            action, model, len(task.payload), may_lack_inputs=self._may_lack_inputs
        )
        if refusal is not None:
            self._outbox.refuse(task, *refusal)
            return True
        instance = self.cache.find(action.model_id)
        if instance is None or instance.state is not InstanceState.WARM:
            text = f"model {action.model_id} is not warm on GPU {action.gpu_id}"
            self._outbox.refuse(task, ActionStatus.EXEC_WEIGHTS_MISSING, text)
            return True
        self.infers.begin(task)
        self.cache.enter(instance)
        task.instance = instance
        self._outbox.start(
            task,
            InferTask(
                task_id=task.task_id,
                gpu_id=action.gpu_id,
                code_id=model.code_id,
                pages=instance.pages,
                batch_size=action.batch_size,
                padded_size=model.padded_size(action.batch_size),
                payload=task.payload,
                input_sizes=action.input_sizes,
            ),
        )
        task.payload = b""
        return True

    def end_load_weights(self, task: ActionTask, event: LoadWeightsTaskDone) -> None:
        """Make the model warm, unless it was unloaded or cleared meanwhile."""
        action, instance = task.action, task.instance
        assert instance is not None, f"{task!r} loaded nothing"
        self.weights.end(task)
        if not self.cache.end_load(instance):
            text = f"model {instance.model.model_id} was unloaded or cleared during its load"
            self._outbox.refuse(task, ActionStatus.LOAD_WEIGHTS_CONCURRENT_MODIFICATION, text)
            return
        self._outbox.succeed(
            task,
            LoadWeightsDone(
                action_id=action.action_id,
                timing=event.timing,
                received_at_ns=task.received_at_ns,
                sent_at_ns=self._outbox.now_ns,
            ),
        )

    def end_infer(self, task: ActionTask, event: InferTaskDone) -> None:
        """Hand out the outputs, unless the weights were dropped meanwhile."""
        action, instance = task.action, task.instance
        assert isinstance(action, Infer)
        assert instance is not None, f"{task!r} used no weights"
        self.infers.end(task)
        self.cache.leave(instance)
        if instance.state is not InstanceState.WARM:
            text = f"the weights of model {action.model_id} were dropped during its infer"
            self._outbox.refuse(task, ActionStatus.EXEC_CONCURRENT_WEIGHTS_MODIFICATION, text)
            return
        self._outbox.succeed(
            task,
            InferDone(
                action_id=action.action_id,
                copy_input=event.copy_input,
                exec=event.exec,
                copy_output=event.copy_output,
                gpu_id=action.gpu_id,
                clock_before_mhz=event.clock_before_mhz,
                clock_mhz=event.clock_mhz,
                received_at_ns=task.received_at_ns,
                sent_at_ns=self._outbox.now_ns,
            ),
            event.outputs,
        )

    def end_failed(self, task: ActionTask, event: TaskFailed) -> None:
        """Report a load or infer that the device could not do; a failed load leaves COLD."""
        instance = task.instance
        assert instance is not None, f"{task!r} used no weights"
        if isinstance(task.action, Infer):
            self.infers.end(task)
        else:
            self.weights.end(task)
            if instance.state is not InstanceState.COLD:
                self.cache.drop(instance)
        self.cache.leave(instance)
        self._outbox.refuse(task, event.status, event.message)

    def report(self) -> GpuState:
        """Return sizes and warm models; what is reported as absent stays absent.

        A load that a lost controller left running would make a model warm that the next controller,
        who is asking now, takes for cold: its pages would be missing for ever. So it is dropped.
        """
        task = self.weights.running
        left = task.instance if task is not None and task.is_orphan else None
        if left is not None and left.state is InstanceState.LOADING:
            self.cache.drop(left)
        return self.cache.state()

    def check(self) -> None:
        """Assert that running tasks and users of pages agree, and nothing idles that could run."""
        self.cache.check()
        self.weights.check()
        self.infers.check()
        running = [each.running for each in (self.weights, self.infers) if each.running is not None]
        used = {id(task.instance): task.instance for task in running}
        for instance in used.values():
            assert instance is not None, f"{running!r} without an instance"
            users = sum(task.instance is instance for task in running)
            assert users == instance.user_count, f"{users} users, counted {instance.user_count}"
        user_count = sum(instance.user_count for instance in self.cache.holders())
        assert user_count == len(running), f"{user_count} users of pages, {running!r} run"
        head = self.infers.head()
        is_due = head is not None and head.action.earliest_ns <= self._outbox.now_ns
        assert self.infers.running or not is_due, f"{self.infers.name} is idle before {head!r}"


def _is_in_use(instance: Instance | None) -> bool:
    return instance is not None and instance.user_count > 0


def _no_model(action: LoadWeights | EvictWeights | Infer) -> str:
    return f"this worker has no model {action.model_id}"
