"""Which messages may travel on which connection, and their type numbers on the wire.

The original numbers client requests and worker actions independently (SPEC 2.6), so a number
means something only together with the kind of connection: `AT_CLIENT` and so on name one side of
one kind. Numbers of our own: from 6/106 (clients) and 7/107 (workers) on, and those from 240 on,
which every connection knows.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Struct

from clockwork.messages import actions, requests, uploads

Decode = Callable[[memoryview], Any]
Message = Any
"""An instance of one of the Struct classes of the connection's vocabulary."""


class Hello(Struct, frozen=True, array_like=True):
    """The first frame in both directions: who is there."""

    protocol_version: int
    # "client", "controller" or "worker".
    role: str
    # The version of the package, for the log.
    software: str = ""
    # Reserved: what proves that the sender may be here.
    credentials: bytes = b""
    # Of a worker: what it is called, the same whenever it is started; and which start this is.
    name: str = ""
    process: str = ""


class Refusal(Struct, frozen=True, array_like=True):
    """The last frame of a side that closes the connection on purpose: why."""

    reason: str


class Leaving(Struct, frozen=True, array_like=True):
    """A worker is about to end: it finishes what it has, and wants nothing new."""

    reason: str


class PeerRefusedError(Exception):
    """The peer sent a Refusal; raised instead of delivering it, so that nobody has to look."""


HELLO_NUMBER: Final = 240
REFUSAL_NUMBER: Final = 241
LEAVING_NUMBER: Final = 242

_SHARED: Final[Mapping[int, type[Struct]]] = {HELLO_NUMBER: Hello, REFUSAL_NUMBER: Refusal}
_REQUESTS: Final[Mapping[int, type[Struct]]] = {
    1: uploads.BeginUploadRequest,
    2: requests.InferRequest,
    3: requests.LoadModelRequest,
    4: requests.EvictRequest,
    5: requests.LsRequest,
    6: requests.UnloadModelRequest,
    7: uploads.UploadChunkRequest,
    8: uploads.EndUploadRequest,
    9: requests.ClearCacheRequest,
    10: requests.WorkersRequest,
}
_RESPONSES: Final[Mapping[int, type[Struct]]] = {
    101: uploads.BeginUploadResponse,
    102: requests.InferResponse,
    103: requests.LoadModelResponse,
    # Answers other requests without news as well: the same record needs no second number.
    104: requests.DoneResponse,
    105: requests.LsResponse,
    107: uploads.UploadChunkResponse,
    110: requests.WorkersResponse,
}
_ACTIONS: Final[Mapping[int, type[Struct]]] = {
    1: actions.LoadModel,
    2: actions.LoadWeights,
    3: actions.Infer,
    4: actions.EvictWeights,
    5: actions.ClearCache,
    6: actions.GetWorkerState,
    7: actions.UnloadModel,
    8: uploads.BeginUpload,
    9: uploads.StoreChunk,
    10: uploads.EndUpload,
}
_RESULTS: Final[Mapping[int, type[Struct]]] = {
    100: actions.ActionFailed,
    101: actions.LoadModelDone,
    102: actions.LoadWeightsDone,
    103: actions.InferDone,
    104: actions.EvictWeightsDone,
    105: actions.ClearCacheDone,
    106: actions.WorkerStateDone,
    107: actions.UnloadModelDone,
    108: uploads.UploadDone,
}
_FROM_WORKERS: Final[Mapping[int, type[Struct]]] = {**_RESULTS, LEAVING_NUMBER: Leaving}


class Vocabulary:
    """What one side of one kind of connection is, may say, and may hear.

    Attributes:
        role: what this side calls itself in its Hello.
        peer_role: what the other side must call itself.
        numbers: type number by class, for messages that this side sends.
        classes: class by type number, for messages that are delivered to this side.
        decoders: decoder by type number, for messages after the Hello.
    """

    def __init__(
        self,
        *,
        role: str,
        peer_role: str,
        sends: Mapping[int, type[Struct]],
        hears: Mapping[int, type[Struct]],
    ) -> None:
        self.role = role
        self.peer_role = peer_role
        self.numbers = {kind: number for number, kind in (*sends.items(), *_SHARED.items())}
        self.classes = dict(hears)
        self.decoders = _decoders(hears)


def _decoders(classes: Mapping[int, type[Struct]]) -> dict[int, Decode]:
    decoders: dict[int, Decode] = {
        number: msgspec.msgpack.Decoder(kind).decode for number, kind in classes.items()
    }
    return {**decoders, REFUSAL_NUMBER: _hear_refusal}


def _hear_refusal(header: memoryview) -> NoReturn:
    raise PeerRefusedError(msgspec.msgpack.decode(header, type=Refusal).reason)


GREETING: Final = _decoders(_SHARED)
"""All that a connection accepts before the peer's Hello."""

AT_CLIENT: Final = Vocabulary(
    role="client", peer_role="controller", sends=_REQUESTS, hears=_RESPONSES
)
CONTROLLER_TO_CLIENT: Final = Vocabulary(
    role="controller", peer_role="client", sends=_RESPONSES, hears=_REQUESTS
)
CONTROLLER_TO_WORKER: Final = Vocabulary(
    role="controller", peer_role="worker", sends=_ACTIONS, hears=_FROM_WORKERS
)
AT_WORKER: Final = Vocabulary(
    role="worker", peer_role="controller", sends=_FROM_WORKERS, hears=_ACTIONS
)
