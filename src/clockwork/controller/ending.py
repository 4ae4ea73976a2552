"""The end of a controller in order: nothing new, answers to all that is under way.

Requests that come after `StopAsked` are answered with status 5: they were not looked at, and the
next controller will serve them; the client library asks it by itself. `Stopped` is told once, when
every request has its answer. How long that may take is the shell's to say.
"""

from clockwork.controller.catalogue import Catalogue
from clockwork.controller.ledger import Ledger
from clockwork.controller.notebook import Notebook
from clockwork.controller.startup import Startup
from clockwork.messages.controller_io import FromClient, Stopped, ToClient
from clockwork.messages.ids import ClientId
from clockwork.messages.requests import (
    DoneResponse,
    InferRequest,
    InferResponse,
    LoadModelRequest,
    LoadModelResponse,
    LsRequest,
    LsResponse,
    Request,
    Response,
    WorkersRequest,
    WorkersResponse,
)
from clockwork.messages.status import Status
from clockwork.messages.uploads import (
    BeginUploadRequest,
    BeginUploadResponse,
    UploadChunkRequest,
    UploadChunkResponse,
)

STOPPING = "the controller is shutting down: ask again when it is back"
"""The message of status 5 at the end."""


class Ending:
    """Refuses requests, and finds out when all is answered."""

    def __init__(
        self, *, ledger: Ledger, catalogue: Catalogue, startup: Startup, notebook: Notebook
    ) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._startup = startup
        self._notebook = notebook
        # True from the first `StopAsked` until `Stopped` was told.
        self.is_awaited = False

    def begin(self) -> None:
        """Answer what waits to be looked at, and have all that was learned remembered."""
        self.is_awaited = True
        for client_id, request in self._startup.take_held():
            self._refuse(client_id, request)
        remember = self._notebook.take_all()
        if remember is not None:
            self._ledger.effects.append(remember)

    def on_from_client(self, event: FromClient, now_ns: int) -> None:
        """Refuse a request."""
        self._refuse(event.client_id, event.message)

    def plan(self) -> None:
        """Say that the process may end if all is answered."""
        if not self._ledger.open_count and self._catalogue.is_settled:
            self.is_awaited = False
            self._ledger.effects.append(Stopped())

    def _refuse(self, client_id: ClientId, request: Request) -> None:
        self._ledger.effects.append(ToClient(client_id, _refusal(request), b""))


def _refusal(request: Request) -> Response:
    """Return the response of status 5 to a request of any kind."""
    number, status = request.user_request_id, Status.INITIALIZING
    if isinstance(request, InferRequest):
        return InferResponse(number, status, STOPPING, request.model_id, 0, 0, False)
    if isinstance(request, LsRequest):
        return LsResponse(number, status, STOPPING, ())
    if isinstance(request, LoadModelRequest):
        return LoadModelResponse(number, status, STOPPING, 0, None)
    if isinstance(request, WorkersRequest):
        return WorkersResponse(number, status, STOPPING, ())
    if isinstance(request, BeginUploadRequest):
        return BeginUploadResponse(number, status, STOPPING, 0, 0, 0)
    if isinstance(request, UploadChunkRequest):
        return UploadChunkResponse(number, Status.ERROR, STOPPING)
    return DoneResponse(number, status, STOPPING)
