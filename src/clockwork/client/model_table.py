"""What a client knows about the models of its workload once they are loaded.

A workload counts its models from 0: copies of its first set first. Here is what lies behind these
indices: ids, sizes of inputs, and execution times, in which SLO factors count.
"""

from collections.abc import Iterable

from clockwork.client.workload import Workload
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo
from clockwork.messages.requests import LoadModelRequest, LoadModelResponse


class ModelTable:
    """Models by index within the workload."""

    __slots__ = (
        "_exec_ns",
        "_firsts",
        "_ids_by_set",
        "_sends_inputs",
        "_sets_by_request",
        "_unloaded",
        "_workload",
        "ids",
        "input_bytes",
    )

    def __init__(self, workload: Workload, *, sends_inputs: bool) -> None:
        self._workload = workload
        self._sends_inputs = sends_inputs
        # Index of the model set whose LoadModel is on its way, by request id.
        self._sets_by_request: dict[int, int] = {}
        self._unloaded = len(workload.models)
        # Ids of the copies of each set that is loaded, by its index.
        self._ids_by_set: dict[int, range] = {}
        # Index of each set's first copy.
        self._firsts: list[int] = []
        first = 0
        for model_set in workload.models:
            self._firsts.append(first)
            first += model_set.copies
        # 0 until the model is loaded.
        self.ids = [ModelId(0)] * first
        # Bytes of input to send with each request.
        self.input_bytes = [0] * first
        # At batch size 1; 0: never measured.
        self._exec_ns = [0] * first

    @property
    def are_loaded(self) -> bool:
        """True if all model sets are loaded."""
        return self._unloaded == 0

    def load(self, set_index: int, request_id: int) -> LoadModelRequest:
        """Return the request that loads a model set."""
        self._sets_by_request[request_id] = set_index
        model_set = self._workload.models[set_index]
        return LoadModelRequest(
            user_request_id=request_id, user_id=0, path=model_set.path, copies=model_set.copies
        )

    def take_set(self, response: LoadModelResponse) -> int | None:
        """Return the index of the model set that is answered; None if none was asked for."""
        return self._sets_by_request.pop(response.user_request_id, None)

    @property
    def is_loading(self) -> bool:
        """True if a LoadModel is on its way."""
        return bool(self._sets_by_request)

    def loaded_ids(self) -> list[ModelId]:
        """Return the ids of all models that are loaded."""
        return [ModelId(id_) for ids in self._ids_by_set.values() for id_ in ids]

    def find_missing(self, there: Iterable[ModelInfo]) -> str | None:
        """Return the id and name of the first model that is not among those `there`, or None."""
        known = {info.model_id for info in there}
        for set_index, ids in self._ids_by_set.items():
            for model_id in ids:
                if ModelId(model_id) not in known:
                    return f"{model_id} ({self._workload.models[set_index].name})"
        return None

    def adopt(self, set_index: int, info: ModelInfo) -> list[ModelId]:
        """Take in a loaded model set; its copies have consecutive ids, which are returned."""
        self._unloaded -= 1
        copies = self._workload.models[set_index].copies
        self._ids_by_set[set_index] = range(info.model_id, info.model_id + copies)
        profile = info.profile
        first = self._firsts[set_index]
        for copy in range(copies):
            self.ids[first + copy] = ModelId(info.model_id + copy)
            self.input_bytes[first + copy] = profile.input_bytes if self._sends_inputs else 0
            self._exec_ns[first + copy] = profile.exec_ns[0] if profile.exec_ns else 0
        return self.ids[first : first + copies]

    def slo_of(self, model: int, slo_ns: int, slo_factor: float) -> int | None:
        """Return the SLO of a request as a duration; None: only the controller knows it."""
        if slo_ns:
            return slo_ns
        return round(slo_factor * self._exec_ns[model]) or None
