"""What a client asks of the controller about the models of its workload: load, list, unload.

All models are loaded at the start, one LoadModel per set. The list is asked for when they are, and
whenever there is another connection: a controller that was started anew may lack them. Unloading
gives back what the run loaded, models whose LoadModel is answered meanwhile included.

A controller that is initializing is asked again, but not to unload: then the models stay, and the
console says which.
"""

from collections.abc import Callable
from typing import Final

from clockwork.client.model_table import ModelTable
from clockwork.client.workload import Workload
from clockwork.messages.ids import ModelId
from clockwork.messages.requests import (
    DoneResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    UnloadModelRequest,
)
from clockwork.messages.status import Status
from clockwork.parts.timers import Timers
from clockwork.units import MS, SECOND

RETRY_NS: Final = 1 * SECOND
"""Between tries while the controller is initializing (the original's)."""
RESUME_RETRY_NS: Final = 100 * MS
"""The same after an outage (the library's)."""

ModelRequest = LoadModelRequest | LsRequest | UnloadModelRequest


class ModelCalls:
    """Requests about models, and what is done with their answers."""

    def __init__(
        self,
        workload: Workload,
        models: ModelTable,
        timers: Timers[Callable[[int], None]],
        *,
        next_id: Callable[[], int],
        ask: Callable[[ModelRequest], None],
        fail: Callable[[str, int], None],
        say: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            workload: what is to be loaded.
            models: takes in what was loaded.
            timers: call what is set there at its instant.
            next_id: gives numbers for requests.
            ask: sends a request, if there is a connection.
            fail: is told why and when the run fails.
            say: takes lines for the console.
        """
        self._workload = workload
        self._models = models
        self._timers = timers
        self._next_id = next_id
        self._ask = ask
        self._fail = fail
        self._say = say
        self._is_unloading = False
        # Models whose UnloadModel is on its way, by request, and how many are gone.
        self._leaving: dict[int, ModelId] = {}
        self._gone_count = 0

    @property
    def is_unloaded(self) -> bool:
        """True if unloading has nothing to wait for any more."""
        return not self._leaving and not self._models.is_loading

    def load_all(self) -> None:
        """Have all models loaded."""
        for index in range(len(self._workload.models)):
            self._load(index)

    def list(self, _: int = 0) -> None:
        """Ask for all models there are."""
        self._ask(LsRequest(user_request_id=self._next_id(), user_id=0))

    def unload(self) -> None:
        """Have all models unloaded that were loaded, now and from now on."""
        self._is_unloading = True
        for model_id in self._models.loaded_ids():
            self._unload(model_id)

    def on_load(self, message: LoadModelResponse, now_ns: int) -> None:
        """Take in loaded models, or try again, or fail."""
        index = self._models.take_set(message)
        if index is None:
            return
        if message.model is not None and message.status == Status.SUCCESS:
            ids = self._models.adopt(index, message.model)
            for model_id in ids if self._is_unloading else ():
                self._unload(model_id)
        elif message.status == Status.INITIALIZING:
            self._say(f"Clockwork initializing, retrying {message.message}")
            self._timers.set(now_ns + RETRY_NS, lambda _: self._load(index))
        elif not self._is_unloading:
            failed = self._workload.models[index]
            self._fail(f"cannot load {failed.name} from {failed.path}: {message.message}", now_ns)

    def on_list(self, message: LsResponse, now_ns: int, *, is_again: bool) -> bool:
        """Return whether all models are served; if not, try again or fail.

        Args:
            message: the answer.
            now_ns: the present instant.
            is_again: whether it comes from another connection than the models.
        """
        if message.status == Status.INITIALIZING:
            self._say(f"Clockwork initializing, retrying {message.message}")
            self._timers.set(now_ns + (RESUME_RETRY_NS if is_again else RETRY_NS), self.list)
            return False
        if message.status != Status.SUCCESS:
            self._fail(f"LS error: {message.message}", now_ns)
            return False
        missing = self._models.find_missing(message.models) if is_again else None
        if missing is not None:
            text = "which answers now: start it with --state, or this workload anew"
            self._fail(f"model {missing} is unknown to the controller {text}", now_ns)
        return missing is None

    def on_unloaded(self, message: DoneResponse) -> None:
        """Take in that a model is gone, or stays."""
        model_id = self._leaving.pop(message.user_request_id, None)
        if model_id is None:
            return
        if message.status == Status.SUCCESS:
            self._gone_count += 1
        else:
            self._say(f"Model {model_id} stays loaded: {message.message}")

    def sum_up(self) -> None:
        """Say what was unloaded."""
        self._say(f"Unloaded {self._gone_count} models")
        if self._leaving:
            left = ", ".join(map(str, self._leaving.values()))
            self._say(f"No answer came for these, which may still be loaded: {left}")

    def _load(self, set_index: int) -> None:
        if not self._is_unloading:
            self._ask(self._models.load(set_index, self._next_id()))

    def _unload(self, model_id: ModelId) -> None:
        request = UnloadModelRequest(self._next_id(), 0, model_id)
        self._leaving[request.user_request_id] = model_id
        self._ask(request)
