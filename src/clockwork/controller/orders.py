"""What clients want besides inferences: each kind of request goes to the part that answers it.

Before the startup phases are over, requests that cannot be served yet are kept by `Startup`, and
the console shows each one.
"""

from collections.abc import Callable
from typing import Final

from clockwork.controller.catalogue import Catalogue
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ledger import Ledger
from clockwork.controller.printing import request_line
from clockwork.controller.startup import INITIALIZING, Phase, Startup
from clockwork.controller.upkeep import Upkeep
from clockwork.controller.uploads import Uploads
from clockwork.messages.controller_io import FromClient, Say, ToClient
from clockwork.messages.ids import ClientId
from clockwork.messages.requests import (
    ClearCacheRequest,
    EvictRequest,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    Request,
    UnloadModelRequest,
    WorkersRequest,
)
from clockwork.messages.status import Status
from clockwork.messages.uploads import (
    BeginUploadRequest,
    BeginUploadResponse,
    EndUploadRequest,
    UploadChunkRequest,
)

FIXED: Final = "Controller startup phase has completed"
"""The message of a LoadModel that comes too late for a fixed set of models (original)."""


class Orders:
    """Hands requests that are no inferences to the parts of the controller."""

    def __init__(
        self,
        *,
        config: ControllerConfig,
        ledger: Ledger,
        startup: Startup,
        catalogue: Catalogue,
        uploads: Uploads,
        upkeep: Upkeep,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._startup = startup
        self._catalogue = catalogue
        self._uploads = uploads
        self._methods: dict[type[Request], Callable[..., None]] = {
            LoadModelRequest: self._load,
            LsRequest: self._ls,
            UnloadModelRequest: lambda client_id, message, _: catalogue.unload(client_id, message),
            EvictRequest: catalogue.evict,
            ClearCacheRequest: upkeep.clear_cache,
            WorkersRequest: lambda client_id, message, _: upkeep.workers(client_id, message),
            BeginUploadRequest: self._begin_upload,
            EndUploadRequest: lambda client_id, message, _: uploads.end(client_id, message),
        }

    def on_from_client(self, event: FromClient, now_ns: int) -> None:
        """Take in a request that is not an inference."""
        client_id, message = event.client_id, event.message
        if isinstance(message, UploadChunkRequest):
            # Not told on the console: there may be thousands.
            self._uploads.chunk(client_id, message, event.payload)
            return
        if self._startup.phase is not Phase.SERVING:
            self._ledger.effects.append(Say(f"Client  --> {request_line(message)}"))
        self._methods[type(message)](client_id, message, now_ns)

    def _load(self, client_id: ClientId, message: LoadModelRequest, now_ns: int) -> None:
        if self._startup.phase is not Phase.SERVING:
            self._startup.load(client_id, message, now_ns)
        elif self._config.is_model_set_fixed:
            response = LoadModelResponse(
                message.user_request_id, Status.INVALID_REQUEST, FIXED, 0, None
            )
            self._ledger.effects.append(ToClient(client_id, response, b""))
        else:
            self._catalogue.load(client_id, message)

    def _begin_upload(self, client_id: ClientId, message: BeginUploadRequest, now_ns: int) -> None:
        if self._startup.phase is Phase.QUERYING:
            # It is not known yet which workers there are.
            response = BeginUploadResponse(
                message.user_request_id, Status.INITIALIZING, INITIALIZING, 0, 0, 0
            )
            self._ledger.effects.append(ToClient(client_id, response, b""))
        else:
            self._uploads.begin(client_id, message)

    def _ls(self, client_id: ClientId, message: LsRequest, now_ns: int) -> None:
        if self._startup.phase is Phase.SERVING:
            self._catalogue.ls(client_id, message)
        else:
            self._startup.hold(client_id, message, now_ns)
