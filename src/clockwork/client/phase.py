"""What a client's run goes through.

::

    CONNECTING --> LOADING --> LISTING --> RUNNING --> DRAINING --> ENDED
         \\____________\\___________\\___________\\___________________/

LOADING sends one LoadModel per model set and waits for all of them; LISTING asks for the list of
models until the controller has left its startup phases (both try again each second while it
answers "initializing"); RUNNING sends; DRAINING only waits for what is in flight, up to a limit.
"""

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """Where a run is."""

    CONNECTING = auto()
    LOADING = auto()
    LISTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    ENDED = auto()


MOVES: Final = {
    Phase.CONNECTING: {Phase.LOADING, Phase.ENDED},
    Phase.LOADING: {Phase.LISTING, Phase.ENDED},
    Phase.LISTING: {Phase.RUNNING, Phase.ENDED},
    Phase.RUNNING: {Phase.DRAINING, Phase.ENDED},
    Phase.DRAINING: {Phase.ENDED},
    Phase.ENDED: set[Phase](),
}
"""Which phase may follow which."""
