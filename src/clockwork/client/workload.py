"""What one client does: models to load, streams of requests for them, and ladders that turn knobs.

These are plain records: the catalogue, a workload file or a simulator's scenario makes them, the
client role plays them. Everything random in a run follows from `Workload.seed`.

Source: clockwork SPEC 7.2 for the building blocks. Two of them are new: `Gamma` (arrivals of a
chosen burstiness) and `OnOff` (an adversary against batching).

Units: rates are requests per second, except that the counts of a `TraceReplay` are requests per
minute, as in the original.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from msgspec import Struct

from clockwork.units import MINUTE

COUNT_MAX: Final = 100_000
"""Most models of a workload, functions of a trace, and requests that a stream sends at one instant.

Chosen: 24 times the models of the paper's largest experiment; a mistyped number must not fill the
memory of the machine.
"""


class ModelSet(Struct, frozen=True):
    """One LoadModel: a model directory, offered as so many models."""

    # What people call it: its name in the zoo.
    name: str
    # What workers open.
    path: str
    copies: int = 1


class ClosedLoop(Struct, frozen=True, tag="closed-loop"):
    """So many requests in flight; each answer brings the next request."""

    concurrency: int
    # How many in all; None: no end.
    requests: int | None = None


class BurstyClosed(Struct, frozen=True, tag="bursty-closed"):
    """A closed loop that falls silent between bursts of exponential length."""

    concurrency: int
    # Means of the two exponential distributions.
    burst_ns: int
    idle_ns: int


class Poisson(Struct, frozen=True, tag="poisson"):
    """Independent arrivals: exponential gaps."""

    rate_per_s: float


class FixedRate(Struct, frozen=True, tag="fixed-rate"):
    """Arrivals with a constant gap."""

    rate_per_s: float


class BurstyOpen(Struct, frozen=True, tag="bursty-open"):
    """Poisson arrivals in bursts of exponential length, and nothing in between."""

    # Within a burst.
    rate_per_s: float
    burst_ns: int
    idle_ns: int


class Gamma(Struct, frozen=True, tag="gamma"):
    """Gamma-distributed gaps: 1 is Poisson, 8 comes in clusters with long silences."""

    rate_per_s: float
    # Coefficient of variation of the gap.
    variation: float


class OnOff(Struct, frozen=True, tag="on-off"):
    """An adversary: a large batch just after a small one has started, once per period."""

    small: int
    large: int
    # From the small batch to the large one.
    delay_ns: int
    period_ns: int


class TraceReplay(Struct, frozen=True, tag="trace"):
    """Poisson arrivals within the counts of a trace, interval by interval, over and over."""

    # Requests per minute in each interval; arrays of small integers keep large traces small.
    counts: Sequence[int]
    # Length of an interval as it is played.
    interval_ns: int = MINUTE
    # Multiplies all counts.
    scale: float = 1.0
    # Interval to begin with; None: anywhere, drawn uniformly.
    start: int | None = 0
    # Ends after one pass instead of wrapping.
    once: bool = False
    # Each interval has exactly its (scaled) count of arrivals, at uniformly random instants,
    # instead of a Poisson number of them. Totals then equal the trace's.
    exact: bool = False


class Recorded(Struct, frozen=True, tag="recorded"):
    """Arrivals at recorded instants."""

    # Offsets from the start of the trace, ascending.
    offsets_ns: Sequence[int]
    # Length of one pass.
    period_ns: int
    # Copies of each arrival on average: 0.5 drops every other one at random.
    scale: float = 1.0
    once: bool = False


Arrivals = (
    ClosedLoop
    | BurstyClosed
    | Poisson
    | FixedRate
    | BurstyOpen
    | Gamma
    | OnOff
    | TraceReplay
    | Recorded
)


class Stream(Struct, frozen=True):
    """One arrival process and the models that its requests are for."""

    # Indices into the workload's models: copies of its first set come first.
    models: tuple[int, ...]
    arrivals: Arrivals
    # The tenant.
    user_id: int = 0
    # Popularity of the models, any positive scale; None: round robin.
    weights: tuple[float, ...] | None = None
    # As in InferRequest; both 0: the controller's default SLO.
    slo_ns: int = 0
    slo_factor: float = 0.0
    start_after_ns: int = 0


class Knob(Enum):
    """What a ladder turns, and how it says so."""

    SLO_FACTOR = "Updating slo_factor to"
    RATE = "Updating rate to"
    SCALE = ">>>> Updating scale_factor to"


class Step(Enum):
    """How a ladder gets from one value to the next."""

    ADD = "add"
    MULTIPLY = "mul"
    # Between the start and the step's own value.
    TOGGLE = "toggle"


class Ladder(Struct, frozen=True):
    """A knob of some streams that changes every period, and may end the run."""

    knob: Knob
    # Indices into the workload's streams.
    streams: tuple[int, ...]
    period_ns: int
    start: float
    step: Step
    by: float
    # The run ends when the value exceeds this; None: it never does.
    end: float | None = None


class Workload(Struct, frozen=True):
    """All that one client does."""

    name: str
    models: tuple[ModelSet, ...]
    streams: tuple[Stream, ...]
    ladders: tuple[Ladder, ...] = ()
    # Lines to print before the models are loaded.
    notes: tuple[str, ...] = ()
    # How long it sends and counts; None: until its streams end, if they do.
    duration_ns: int | None = None
    seed: int = 0
    # How long it sends before that, without counting.
    warm_up_ns: int = 0

    @property
    def model_count(self) -> int:
        """How many models the requests are for, copies included."""
        return sum(model_set.copies for model_set in self.models)

    @property
    def is_replay(self) -> bool:
        """True if it sends what was recorded or counted somewhere: nothing may be left out."""
        kinds = TraceReplay | Recorded
        return any(isinstance(stream.arrivals, kinds) for stream in self.streams)
