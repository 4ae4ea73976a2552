"""What may stand in a workload file: one record per kind of table (docs/workloads.md).

Durations are texts with a unit ("100ms"), rates are requests per second.
"""

from typing import Annotated, Any, Final, Literal, get_args

from msgspec import Meta, Struct

from clockwork.client.workload import COUNT_MAX
from clockwork.units import parse_duration_ns

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Limited = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Natural = Annotated[int, Meta(ge=0)]
Knob = Literal["slo_factor", "rate", "scale"]
Step = Literal["add", "mul", "toggle"]
Mapping = Literal["blocks", "turn"]


class Duration:
    """A duration in a file: text with a unit, more than nothing."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns


def read_custom(kind: type, raw: object) -> object:
    """Return `raw` as one of the types of this module that TOML does not have.

    Raises:
        ValueError: it cannot be read as that.
    """
    assert kind is Duration, f"no way to read {kind}"
    if not isinstance(raw, str):
        raise ValueError(f'cannot read {raw!r}: write a text with a unit, such as "100ms"')
    ns = parse_duration_ns(raw)
    if ns <= 0:
        raise ValueError(f"{raw!r} must be more than 0")
    return Duration(ns)


class ClosedLoopTable(Struct, tag_field="kind", tag="closed-loop", forbid_unknown_fields=True):
    """``kind = "closed-loop"``."""

    concurrency: Limited
    requests: Count | None = None


class BurstyClosedTable(Struct, tag_field="kind", tag="bursty-closed", forbid_unknown_fields=True):
    """``kind = "bursty-closed"``."""

    concurrency: Limited
    burst: Duration
    idle: Duration


class PoissonTable(Struct, tag_field="kind", tag="poisson", forbid_unknown_fields=True):
    """``kind = "poisson"``."""

    rate: Positive


class FixedRateTable(Struct, tag_field="kind", tag="fixed-rate", forbid_unknown_fields=True):
    """``kind = "fixed-rate"``."""

    rate: Positive


class BurstyOpenTable(Struct, tag_field="kind", tag="bursty-open", forbid_unknown_fields=True):
    """``kind = "bursty-open"``."""

    rate: Positive
    burst: Duration
    idle: Duration


class GammaTable(Struct, tag_field="kind", tag="gamma", forbid_unknown_fields=True):
    """``kind = "gamma"``."""

    rate: Positive
    cv: Positive


class OnOffTable(Struct, tag_field="kind", tag="on-off", forbid_unknown_fields=True):
    """``kind = "on-off"``."""

    small: Limited
    large: Limited
    delay: Duration
    period: Duration


class TraceTable(Struct, tag_field="kind", tag="trace", forbid_unknown_fields=True):
    """``kind = "trace"``: a stream, and a tenant, per function of the trace."""

    # Relative to the workload file.
    file: str
    scale: Positive = 1.0
    stretch: Positive = 1.0
    interval: Duration | None = None
    resample: Limited | None = None
    random_start: bool = False
    once: bool = False
    exact: bool = False
    # Blocks of functions share a model, or function i asks for model i modulo their number.
    mapping: Mapping = "blocks"


ArrivalsTable = (
    ClosedLoopTable
    | BurstyClosedTable
    | PoissonTable
    | FixedRateTable
    | BurstyOpenTable
    | GammaTable
    | OnOffTable
    | TraceTable
)


class ZipfTable(Struct, forbid_unknown_fields=True):
    """``zipf = { exponent = 1.0 }``: popularity of a stream's models."""

    exponent: Annotated[float, Meta(ge=0)] = 1.0
    cold: Natural = 0
    cold_share: Annotated[float, Meta(ge=0, le=1)] = 0.01


class ModelTable(Struct, forbid_unknown_fields=True):
    """``[[models]]``."""

    name: str
    # Taken as it is; without it, the zoo's model of the name.
    path: str | None = None
    copies: Limited = 1
    # How streams call it; its name if absent.
    label: str | None = None


class StreamTable(Struct, forbid_unknown_fields=True):
    """``[[streams]]``."""

    arrivals: ArrivalsTable
    # Labels of [[models]]; all models if empty.
    models: tuple[str, ...] = ()
    # How ladders call it.
    label: str | None = None
    tenant: Natural = 0
    slo: Duration | None = None
    slo_factor: Positive | None = None
    start_after: Duration | None = None
    # An arrival process, and a tenant, per model instead of one for all.
    each: bool = False
    # Round robin if absent.
    zipf: ZipfTable | None = None


class LadderTable(Struct, forbid_unknown_fields=True):
    """``[[ladders]]``."""

    knob: Knob
    # Labels of [[streams]].
    streams: tuple[str, ...]
    period: Duration
    start: Positive
    step: Step
    by: float
    end: float | None = None


class TopTable(Struct, forbid_unknown_fields=True):
    """Keys before the first table; the tables themselves are looked at one by one."""

    name: str = "workload file"
    duration: Duration | None = None
    seed: Natural = 0
    slo: Duration | None = None
    models: Any = None
    streams: Any = None
    ladders: Any = None


CHOICES: Final = {
    "arrivals.kind": [each.__struct_config__.tag for each in get_args(ArrivalsTable)],
    "arrivals.mapping": get_args(Mapping),
    "knob": get_args(Knob),
    "step": get_args(Step),
}
"""All values of the keys that allow a few words."""
