"""Events and effects of the controller role."""

from msgspec import Struct

from clockwork.messages.actions import Action, Result
from clockwork.messages.ids import ClientId, WorkerId
from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.messages.remembered import Remember
from clockwork.messages.requests import Request, Response
from clockwork.messages.role import Payload, Wakeup


class FromClient(Struct, frozen=True, gc=False):
    """A request arrived. `at_ns` is when its last byte was read."""

    client_id: ClientId
    message: Request
    payload: Payload
    at_ns: int


class ClientLost(Struct, frozen=True, gc=False):
    """A client's connection closed; nobody waits for its answers any more."""

    client_id: ClientId


class WorkerConnected(Struct, frozen=True, gc=False):
    """The connection to a worker stands (again)."""

    worker_id: WorkerId


class WorkerLost(Struct, frozen=True, gc=False):
    """The connection to a worker broke; the shell redials by itself."""

    worker_id: WorkerId
    reason: str


class WorkerLeaving(Struct, frozen=True, gc=False):
    """A worker is about to end: it finishes what it was given, and wants nothing new."""

    worker_id: WorkerId
    reason: str


class FromWorker(Struct, frozen=True, gc=False):
    """A result arrived. `at_ns` is when its last byte was read."""

    worker_id: WorkerId
    message: Result
    payload: Payload
    at_ns: int


class StopAsked(Struct, frozen=True, gc=False):
    """The process was asked to end: refuse what is new, answer what is under way."""


ControllerEvent = (
    FromClient
    | ClientLost
    | WorkerConnected
    | WorkerLeaving
    | WorkerLost
    | FromWorker
    | StopAsked
    | Wakeup
)


class ToClient(Struct, frozen=True, gc=False):
    """Send a response."""

    client_id: ClientId
    message: Response
    payload: Payload


class ToWorker(Struct, frozen=True, gc=False):
    """Send an action. The payload on the wire is `payloads` joined."""

    worker_id: WorkerId
    message: Action
    payloads: tuple[Payload, ...]


class Say(Struct, frozen=True, gc=False):
    """Print a line on the console; `end` replaces the line break."""

    text: str
    end: str = "\n"


class Dismiss(Struct, frozen=True, gc=False):
    """Close the connection to a worker that is leaving: it owes nothing any more."""

    worker_id: WorkerId


class Stopped(Struct, frozen=True, gc=False):
    """After `StopAsked`: nothing is under way any more, the process may end."""


ControllerEffect = (
    ToClient | ToWorker | Say | RequestRecord | ActionRecord | Remember | Dismiss | Stopped
)
