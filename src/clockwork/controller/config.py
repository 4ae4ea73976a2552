"""The options of the controller role (SPEC 1.3, 4.2)."""

from msgspec import Struct

from clockwork.units import FOREVER_NS, MS, SECOND


class ControllerConfig(Struct, frozen=True):
    """Everything that changes what the controller decides. Defaults are the original's."""

    # SLO of requests that name none; also the capacity unit of the demand tracker.
    default_slo_ns: int = 100 * MS
    # How far beyond now a GPU is filled; also how late after its planned start work may begin.
    schedule_ahead_ns: int = 10 * MS
    # Finish this much before the deadline.
    buffer_ns: int = 5 * MS
    # Upper limit on GPUs used over all workers.
    max_gpus: int = 100
    # Batch sizes above 1 that run longer than this, and those above `max_batch`, are not used.
    max_exec_ns: int = 250 * MS
    max_batch: int = 16
    # An overdue action is taken to have ended at most this long ago.
    lag_ns: int = 10 * MS
    # Load demand of a request expires after at most this.
    load_slo_max_ns: int = 25 * MS
    # LoadWeights actions outstanding per GPU.
    loads_max: int = 2
    # LoadModel actions outstanding per worker.
    load_models_max: int = 4
    # The load phase ends after this long without activity.
    load_stage_timeout_ns: int = 1 * SECOND
    # Requests that arrive in startup are held at most this long before they get status 5.
    bounce_after_ns: int = 12 * SECOND
    # After the load phase LoadModel and UnloadModel are refused (the original's behaviour).
    is_model_set_fixed: bool = False
    # Models that were loaded without measurements are measured before they are served.
    profile_models: bool = True
    # An action without a result this long after its latest expected end is given up.
    overdue_after_ns: int = 2 * SECOND
    # An Infer that fails for reasons of its worker is tried this often in all.
    attempts_max: int = 3
    # Requests alive at once; more are refused, which bounds memory.
    requests_max: int = 200_000

    @property
    def slo_max_ns(self) -> int:
        """The longest SLO that is accepted: sums with instants must stay below `FOREVER_NS`."""
        return FOREVER_NS // 4
