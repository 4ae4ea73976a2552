"""What travels between simulated processes, and what it weighs.

Payloads are slices of one block of zeros: roles look at nothing but their size.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from clockwork.controller.cluster import Cluster
from clockwork.controller.ledger import Ledger
from clockwork.messages.client_io import ClientEffect, ClientEvent
from clockwork.messages.controller_io import ControllerEffect, ControllerEvent, ToClient, ToWorker
from clockwork.messages.requests import Request
from clockwork.messages.role import Payload, Role
from clockwork.messages.worker_io import SendResult, WorkerEffect, WorkerEvent
from clockwork.sim.host import Host
from clockwork.sim.network import Connection

FRAME_BYTES: Final = 100
"""What a frame adds to its payload: preamble and header (measured: 60 to 150)."""


class Leaving(Struct, frozen=True):
    """A worker's word that it is about to end (a message of the wire, not of the role)."""

    reason: str


Asked = tuple[Request, Payload]
"""What a client sends."""
WorkerLink = Connection[ToWorker, SendResult | Leaving]
ClientLink = Connection[ToClient, Asked]
ControllerHost = Host[ControllerEvent, ControllerEffect]
WorkerHost = Host[WorkerEvent, WorkerEffect]
ClientHost = Host[ClientEvent, ClientEffect]
ControllerLike = Role[ControllerEvent, ControllerEffect]
"""The controller role, or a deliberately broken one."""
WorkerLike = Role[WorkerEvent, WorkerEffect]
"""The worker role, or a deliberately broken one."""


@runtime_checkable
class HasBelief(Protocol):
    """What judges read of a controller role."""

    @property
    def cluster(self) -> Cluster:
        """What it believes about workers and models."""

    @property
    def ledger(self) -> Ledger:
        """What it owes and is owed."""


class Zeros:
    """Payloads of any size, all views of one block that grows."""

    def __init__(self) -> None:
        self._block = memoryview(b"")

    def of(self, size_bytes: int) -> Payload:
        """Return a payload of so many bytes."""
        if not size_bytes:
            return b""
        if size_bytes > len(self._block):
            self._block = memoryview(bytes(2 * size_bytes))
        return self._block[:size_bytes]

    def joined(self, payloads: Sequence[Payload]) -> Payload:
        """Return what arrives when `payloads` are sent one after the other."""
        return self.of(sum(map(len, payloads))) if payloads else b""


def frames_bytes(items: Iterable[ToWorker | SendResult | Leaving]) -> int:
    """Return the size of actions or results as frames."""
    return sum(
        FRAME_BYTES + (0 if isinstance(item, Leaving) else sum(map(len, item.payloads)))
        for item in items
    )


def responses_bytes(items: Iterable[ToClient]) -> int:
    """Return the size of responses as frames."""
    return sum(FRAME_BYTES + len(item.payload) for item in items)
