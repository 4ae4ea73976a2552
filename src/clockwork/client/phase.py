"""What a client's run goes through.

::

    CONNECTING --> LOADING --> LISTING --> RUNNING --> DRAINING --> UNLOADING --> ENDED
         |            |           |           |            |                        ^
         +------------+-----------+-----------+------------+------------------------+

LOADING sends one LoadModel per model set and waits for all of them; LISTING asks for the list of
models until the controller has left its startup phases (both try again each second while it
answers "initializing"); RUNNING sends; DRAINING only waits for what is in flight, up to a limit.
UNLOADING, if it is wanted, comes before the end of any run that has loaded models.
"""

from enum import Enum, auto
from typing import Final

from clockwork.units import SECOND

DRAIN_NS: Final = 30 * SECOND
"""How long to wait for answers after the last request (chosen: well above any usual SLO)."""
DRAIN_STOPPED_NS: Final = 1 * SECOND
"""The same when a user is waiting for the end."""
UNLOAD_NS: Final = 10 * SECOND
"""How long to wait until models are unloaded (chosen: actions under way end long before)."""


class Phase(Enum):
    """Where a run is."""

    CONNECTING = auto()
    LOADING = auto()
    LISTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    UNLOADING = auto()
    ENDED = auto()


MOVES: Final = {
    Phase.CONNECTING: {Phase.LOADING, Phase.ENDED},
    Phase.LOADING: {Phase.LISTING, Phase.UNLOADING, Phase.ENDED},
    Phase.LISTING: {Phase.RUNNING, Phase.UNLOADING, Phase.ENDED},
    Phase.RUNNING: {Phase.DRAINING, Phase.UNLOADING, Phase.ENDED},
    Phase.DRAINING: {Phase.UNLOADING, Phase.ENDED},
    Phase.UNLOADING: {Phase.ENDED},
    Phase.ENDED: set[Phase](),
}
"""Which phase may follow which."""
