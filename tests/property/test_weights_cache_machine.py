"""A GPU's weights cache against dicts: who holds pages, in which state, and who uses them."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from worker_stage import gpu_states, profile

from clockwork.messages.ids import CodeId, ModelId
from clockwork.worker.store import Instance, InstanceState, LoadedModel, WeightsCache

MODELS = 5

models = st.integers(0, MODELS - 1).map(ModelId)


class Held:
    """What the test remembers of one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.pages = instance.pages
        # True while its weights are being written.
        self.is_loading = True
        # Infers that read its weights.
        self.readers = 0

    @property
    def users(self) -> int:
        """Tasks that use the pages."""
        return self.is_loading + self.readers


class WeightsCacheMachine(RuleBasedStateMachine):
    """Loads, infers, evictions and unloads in any order that one GPU's executors allow."""

    @initialize(pages=st.integers(0, 12))
    def begin(self, pages: int) -> None:
        """Begin with an empty cache, and models of 0 to 4 pages."""
        self.total = pages
        self.cache = WeightsCache(gpu_states(1, pages)[0])
        self.models = [
            LoadedModel(
                model_id=ModelId(index), code_id=CodeId(index), source="m",
                profile=profile(pages=index),
            )
            for index in range(MODELS)
        ]  # fmt: skip
        # By model, in the order in which loads ended, those that never ended last.
        self.present: dict[ModelId, Held] = {}
        # Dropped ones that somebody still uses.
        self.lingering: list[Held] = []

    @rule(model_id=models)
    def begin_load(self, model_id: ModelId) -> None:
        """A load takes new pages for a cold model, the old ones for a warm one."""
        held = self.present.get(model_id)
        if held is not None:
            if not held.users:
                assert self.cache.begin_load(self.models[model_id]) is held.instance
                held.is_loading = True
            return
        instance = self.cache.begin_load(self.models[model_id])
        needed = self.models[model_id].profile.weights_pages
        if instance is None:
            assert needed > self.total - self._used()
            return
        assert len(instance.pages) == needed
        self.present[model_id] = Held(instance)

    @rule(data=st.data())
    def end_load(self, data: st.DataObject) -> None:
        """A load makes its model warm and the last loaded, unless it was dropped meanwhile."""
        loading = [held for held in self._all() if held.is_loading]
        if not loading:
            return
        held = data.draw(st.sampled_from(loading))
        held.is_loading = False
        is_current = held not in self.lingering
        assert self.cache.end_load(held.instance) is is_current
        if is_current:
            model_id = held.instance.model.model_id
            self.present[model_id] = self.present.pop(model_id)
        self._settle()

    @rule(model_id=models)
    def enter(self, model_id: ModelId) -> None:
        """An infer reads the weights of a warm model."""
        held = self.present.get(model_id)
        if held is not None and not held.is_loading:
            self.cache.enter(held.instance)
            held.readers += 1

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """An infer ends."""
        read = [held for held in self._all() if held.readers]
        if read:
            held = data.draw(st.sampled_from(read))
            self.cache.leave(held.instance)
            held.readers -= 1
            self._settle()

    @rule(model_id=models)
    def drop(self, model_id: ModelId) -> None:
        """A model is evicted, whoever uses it."""
        held = self.present.pop(model_id, None)
        if held is not None:
            self.cache.drop(held.instance)
            self.lingering.append(held)
            self._settle()

    @rule()
    def drop_all(self) -> None:
        """The cache is cleared."""
        self.cache.drop_all()
        self.lingering += self.present.values()
        self.present.clear()
        self._settle()

    @invariant()
    def agrees(self) -> None:
        """States, counts of pages and the report are those of the dicts."""
        if not hasattr(self, "cache"):
            return
        self.cache.check()
        assert self.cache.pool.used_count == self._used()
        assert self.cache.is_settled is not bool(self.lingering)
        for model_id in map(ModelId, range(MODELS)):
            held = self.present.get(model_id)
            assert self.cache.find(model_id) is (held.instance if held else None)
        for held in self.present.values():
            expected = InstanceState.LOADING if held.is_loading else InstanceState.WARM
            assert held.instance.state is expected
        assert all(held.instance.state is InstanceState.COLD for held in self.lingering)
        warm = [model_id for model_id, held in self.present.items() if not held.is_loading]
        assert list(self.cache.state().warm) == warm

    @invariant()
    def pages_have_one_holder(self) -> None:
        """No page changes hands while somebody uses it."""
        if hasattr(self, "cache"):
            pages = [page for held in self._all() for page in held.instance.pages]
            assert len(set(pages)) == len(pages)
            assert all(held.instance.pages == held.pages for held in self._all())

    def _all(self) -> list[Held]:
        return [*self.present.values(), *self.lingering]

    def _used(self) -> int:
        return sum(len(held.pages) for held in self._all())

    def _settle(self) -> None:
        """Forget dropped instances that nobody uses any more."""
        self.lingering = [held for held in self.lingering if held.users]


TestWeightsCache = WeightsCacheMachine.TestCase
