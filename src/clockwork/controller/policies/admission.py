"""What a request's SLO means for planning: its deadlines, and its demands.

Source: clockwork 4.4. Ours differs as decided: the internal deadline is never later than the
promise, and what cannot be met is refused at once; a request counts for loading as long as a load
can still help it (the original forgets it after 25 ms, which starves long SLOs of cold models).
"""

from clockwork.controller.cluster import Model
from clockwork.controller.config import ControllerConfig
from clockwork.messages.requests import InferRequest


class Terms:
    """Derived from an SLO, a model's estimates and the options; the same for many requests."""

    __slots__ = (
        "exec_demand",
        "internal_slo_ns",
        "load_demand",
        "load_expiry_ns",
        "load_ns",
        "slo_ns",
    )

    def __init__(
        self,
        *,
        slo_ns: int,
        load_ns: int,
        internal_slo_ns: int,
        exec_demand: int,
        load_demand: int,
        load_expiry_ns: int,
    ) -> None:
        self.slo_ns = slo_ns
        # The load estimate that they were made with.
        self.load_ns = load_ns
        # SLO minus the buffer: what is planned for. Not positive if the SLO is below the buffer.
        self.internal_slo_ns = internal_slo_ns
        self.exec_demand = exec_demand
        self.load_demand = load_demand
        # How long after arrival a load of its weights can still help.
        self.load_expiry_ns = load_expiry_ns


def slo_of(message: InferRequest, model: Model, config: ControllerConfig) -> int:
    """Return the SLO that a request asks for, as a duration."""
    if message.slo_ns > 0:
        return min(message.slo_ns, config.slo_max_ns)
    if message.slo_factor > 0:
        return int(min(model.first_exec_ns * message.slo_factor, config.slo_max_ns))
    return config.default_slo_ns


def terms_for(model: Model, slo_ns: int, config: ControllerConfig) -> Terms:
    """Return what an SLO means for a model now."""
    capacity, exec_ns = config.default_slo_ns, model.exec_ns[0]
    load_ns = model.load.estimate_ns
    margin_ns = config.buffer_ns + config.schedule_ahead_ns
    internal_slo_ns = slo_ns - config.buffer_ns
    spare_ns = slo_ns - (load_ns + exec_ns + margin_ns)
    load_slo_ns = min(config.load_slo_max_ns, spare_ns if spare_ns >= 0 else slo_ns)
    load_slo_ns = max(load_slo_ns, margin_ns, 1)
    return Terms(
        slo_ns=slo_ns,
        load_ns=load_ns,
        internal_slo_ns=internal_slo_ns,
        exec_demand=exec_ns * capacity // max(internal_slo_ns, margin_ns, 1),
        load_demand=exec_ns * capacity // load_slo_ns,
        load_expiry_ns=max(load_slo_ns, spare_ns),
    )


def earliest_finish_ns(model: Model, now_ns: int, up_mask: int) -> int:
    """Return a lower bound on when a request that is looked at now can be done.

    Warm: at once; loading: when the first load is done; cold: after a load that starts now.
    """
    exec_ns = model.exec_ns[0]
    if model.warm_mask & up_mask:
        return now_ns + exec_ns
    if model.resident_mask & up_mask:
        ready_ns = min(
            (item.ready_at_ns for item in model.instances.values() if item.ready_at_ns),
            default=now_ns,
        )
        return max(ready_ns, now_ns) + exec_ns
    return now_ns + model.load.estimate_ns + exec_ns
