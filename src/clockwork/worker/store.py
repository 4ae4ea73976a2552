"""What a worker holds: models in host memory, and their weights in the caches of its GPUs.

A model instance is a model on one GPU::

    COLD --> LOADING <--> WARM
      ^---------+----------+       dropped: evicted, cleared, unloaded, or its load failed

There is an `Instance` only while it is not COLD, and a new one for each load: the object itself is
the *version* of SPEC 5.2. A task that finds at its end that its instance was dropped knows that
the version has changed (statuses 54 and 84).

A dropped instance that a task still uses *lingers*: it is gone for everybody else, but its pages
are given back only when that task ends. So no page that is read or written ever changes hands.
(The original gives pages back at once, or never.)

A load of a warm model writes the same pages again; the instance is LOADING meanwhile, since devices
may move pages on the way. (The original's real worker drops them first, its dummy keeps them.)

Invariant: taken pages = pages of instances + pages of lingering ones.
"""

from bisect import bisect_left
from collections.abc import Iterator
from enum import IntEnum
from itertools import chain
from typing import Final

from clockwork.messages.ids import CodeId, ModelId
from clockwork.messages.models import GpuState, ModelInfo, ModelProfile
from clockwork.parts.memory import PagePool

COPIES_MAX: Final = 100_000
"""Copies that one LoadModel may ask for; the published experiments have 4,026 models."""


class LoadedModel:
    """A model in host memory, under one of the ids of its copies."""

    __slots__ = ("code_id", "input_bytes", "model_id", "profile", "source")

    def __init__(
        self, *, model_id: ModelId, code_id: CodeId, source: str, profile: ModelProfile
    ) -> None:
        self.model_id = model_id
        self.code_id = code_id
        # The path that it was loaded from.
        self.source = source
        self.profile = profile
        # Kept here because the profile adds them up at every call.
        self.input_bytes = profile.input_bytes

    def padded_size(self, batch_size: int) -> int:
        """Return the smallest supported batch size that holds `batch_size` requests."""
        sizes = self.profile.batch_sizes
        return sizes[bisect_left(sizes, batch_size)]


class InstanceState(IntEnum):
    """Where the weights of a model are, as one GPU sees it."""

    COLD = 0
    LOADING = 1
    WARM = 2


class Instance:
    """A model's weights in the cache of one GPU, from the start of a load until dropped."""

    __slots__ = ("model", "pages", "state", "user_count")

    def __init__(self, model: LoadedModel, pages: tuple[int, ...]) -> None:
        self.model = model
        self.pages = pages
        self.state = InstanceState.LOADING
        # Running tasks that read or write the pages.
        self.user_count = 0


class WeightsCache:
    """The pages of one GPU and the instances that hold them."""

    __slots__ = ("_instances", "_lingering", "gpu", "pool")

    def __init__(self, gpu: GpuState) -> None:
        self.gpu = gpu
        self.pool = PagePool(gpu.cache_pages)
        # By model: LOADING or WARM; WARM ones in the order in which their loads ended.
        self._instances: dict[ModelId, Instance] = {}
        # Dropped ones with users; at most one load and one infer run, so at most two.
        self._lingering: list[Instance] = []

    @property
    def is_settled(self) -> bool:
        """True if no dropped instance is in use any more."""
        return not self._lingering

    def find(self, model_id: ModelId) -> Instance | None:
        """Return the model's instance, LOADING or WARM, or None if the model is cold."""
        return self._instances.get(model_id)

    def state(self) -> GpuState:
        """Return sizes and warm models as GetWorkerState reports them."""
        gpu = self.gpu
        return GpuState(
            gpu_id=gpu.gpu_id,
            cache_bytes=gpu.cache_bytes,
            cache_pages=gpu.cache_pages,
            io_pool_bytes=gpu.io_pool_bytes,
            workspace_bytes=gpu.workspace_bytes,
            warm=tuple(
                model_id
                for model_id, instance in self._instances.items()
                if instance.state is InstanceState.WARM
            ),
        )

    def begin_load(self, model: LoadedModel) -> Instance | None:
        """Return the instance to load into, now LOADING, or None if too few pages are free.

        A cold model's instance is new and takes its pages here; a warm one must not be in use.
        """
        instance = self._instances.get(model.model_id)
        if instance is None:
            pages = self.pool.take(model.profile.weights_pages)
            if pages is None:
                return None
            instance = self._instances[model.model_id] = Instance(model, pages)
        assert not instance.user_count, f"model {model.model_id} is loaded into while in use"
        instance.state = InstanceState.LOADING
        instance.user_count = 1
        return instance

    def end_load(self, instance: Instance) -> bool:
        """Make the instance WARM and the last loaded; False if it was dropped meanwhile."""
        is_current = instance.state is not InstanceState.COLD
        if is_current:
            model_id = instance.model.model_id
            del self._instances[model_id]
            self._instances[model_id] = instance
            instance.state = InstanceState.WARM
        self.leave(instance)
        return is_current

    def enter(self, instance: Instance) -> None:
        """Use the pages of a WARM instance until `leave`."""
        assert instance.state is InstanceState.WARM, f"{instance.model.model_id} is not warm"
        instance.user_count += 1

    def leave(self, instance: Instance) -> None:
        """Use the pages no longer; the last user of a dropped instance gives them back."""
        assert instance.user_count > 0, f"nobody uses {instance.model.model_id}"
        instance.user_count -= 1
        if instance.state is InstanceState.COLD and not instance.user_count:
            self._lingering.remove(instance)
            self.pool.give_back(instance.pages)

    def drop(self, instance: Instance) -> None:
        """Make the instance COLD; give its pages back now, or when its last user leaves."""
        assert instance.state is not InstanceState.COLD, f"{instance.model.model_id} dropped twice"
        del self._instances[instance.model.model_id]
        instance.state = InstanceState.COLD
        if instance.user_count:
            self._lingering.append(instance)
        else:
            self.pool.give_back(instance.pages)

    def drop_all(self) -> None:
        """Make every instance COLD."""
        for instance in list(self._instances.values()):
            self.drop(instance)

    def holders(self) -> Iterator[Instance]:
        """Yield all instances that hold pages, lingering ones too."""
        return chain(self._instances.values(), self._lingering)

    def check(self) -> None:
        """Assert that every taken page has exactly one holder, and states agree with places."""
        self.pool.check()
        pages = [page for instance in self.holders() for page in instance.pages]
        assert len(set(pages)) == len(pages), f"GPU {self.gpu.gpu_id}: pages with two holders"
        assert len(pages) == self.pool.used_count, (
            f"GPU {self.gpu.gpu_id}: {len(pages)} pages held, {self.pool.used_count} taken"
        )
        for model_id, instance in self._instances.items():
            assert instance.model.model_id == model_id, f"{model_id} is filed wrongly"
            assert instance.state is not InstanceState.COLD, f"{model_id} is cold but present"
            is_loading = instance.state is InstanceState.LOADING
            assert instance.user_count or not is_loading, f"nobody loads {model_id}"
        for instance in self._lingering:
            assert instance.state is InstanceState.COLD, f"{instance.model.model_id} lingers"
            assert instance.user_count, f"{instance.model.model_id} lingers without users"


class ModelStore:
    """Models in host memory by id, and how many of them share each code."""

    __slots__ = ("_model_count_by_code", "models")

    def __init__(self) -> None:
        self.models: dict[ModelId, LoadedModel] = {}
        # 0 while a code has no model but waits to be released.
        self._model_count_by_code: dict[CodeId, int] = {}

    def find_taken(self, model_id: ModelId, copies: int) -> int | None:
        """Return the first of these ids that is in use, as a model or as a code, or None."""
        if CodeId(model_id) in self._model_count_by_code:
            return model_id
        ids = range(model_id, model_id + copies)
        return next((taken for taken in ids if ModelId(taken) in self.models), None)

    def add(self, model_id: ModelId, *, copies: int, source: str, profile: ModelProfile) -> None:
        """Enter `copies` models with consecutive ids that share one code and profile."""
        code_id = CodeId(model_id)
        self._model_count_by_code[code_id] = copies
        for copy_id in map(ModelId, range(model_id, model_id + copies)):
            self.models[copy_id] = LoadedModel(
                model_id=copy_id, code_id=code_id, source=source, profile=profile
            )

    def remove(self, model_id: ModelId) -> CodeId | None:
        """Forget a model; return its code if that is to be released now, else None."""
        code_id = self.models.pop(model_id).code_id
        self._model_count_by_code[code_id] -= 1
        return None if self._model_count_by_code[code_id] else code_id

    def release(self, code_id: CodeId) -> None:
        """Forget a code without models; its id may be used again."""
        assert not self._model_count_by_code[code_id], f"code {code_id} has models"
        del self._model_count_by_code[code_id]

    def infos(self) -> tuple[ModelInfo, ...]:
        """Return all models, ordered by id."""
        return tuple(
            ModelInfo(model_id=model_id, source=model.source, profile=model.profile)
            for model_id, model in sorted(self.models.items())
        )

    def check(self) -> None:
        """Assert that the count of each code's models is right."""
        counts = dict.fromkeys(self._model_count_by_code, 0)
        for model_id, model in self.models.items():
            assert model.model_id == model_id, f"{model_id} is filed wrongly"
            counts[model.code_id] += 1
        assert counts == self._model_count_by_code, f"{counts} != {self._model_count_by_code}"
