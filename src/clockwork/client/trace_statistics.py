"""What a trace looks like: popularity, triggers, timers, shape over time.

The figures are those by which published work describes the Azure data, so that a synthetic trace
can be compared with a real one line by line.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

from msgspec import Struct

from clockwork.client.azure import Trace
from clockwork.client.workload import Recorded, TraceReplay
from clockwork.units import MINUTE, SECOND, format_duration


class TraceStatistics(Struct, frozen=True):
    """Figures of one trace. Shares are 0 to 1."""

    source: str
    functions: int
    calls: int
    period_ns: int
    # Shares of the calls that the busiest function, ten functions and 10 % of all have.
    top_share: float
    top_10_share: float
    top_decile_share: float
    median_calls: int
    # Shares of functions that are called at most once an hour, and once a minute.
    hourly_share: float
    minutely_share: float
    # By trigger: shares of functions and of calls.
    triggers: dict[str, tuple[float, float]]
    # Share of functions with one fixed gap and one fixed count.
    periodic_share: float
    # Of the functions: median share of minutes with calls, and median variance over mean.
    median_active_share: float
    median_dispersion: float
    # Of all calls per minute: coefficient of variation, least and most.
    total_variation: float
    total_least: int
    total_most: int


def describe(trace: Trace) -> TraceStatistics:
    """Return the figures of a trace that has at least one function."""
    totals = [function.total for function in trace.functions]
    calls, size = max(1, sum(totals)), len(totals)
    hours = trace.period_ns / (60 * MINUTE)
    counts = [_per_minute(function.arrivals, trace.period_ns) for function in trace.functions]
    minutes = [sum(column) for column in zip(*counts, strict=True)]
    mean = sum(minutes) / len(minutes)
    return TraceStatistics(
        source=trace.source,
        functions=size,
        calls=sum(totals),
        period_ns=trace.period_ns,
        top_share=totals[0] / calls,
        top_10_share=sum(totals[:10]) / calls,
        top_decile_share=sum(totals[: max(1, size // 10)]) / calls,
        median_calls=totals[size // 2],
        hourly_share=sum(total <= hours for total in totals) / size,
        minutely_share=sum(total <= hours * 60 for total in totals) / size,
        triggers=_triggers(trace, calls),
        periodic_share=sum(_is_periodic(each) for each in counts) / size,
        median_active_share=_median([sum(map(bool, each)) / len(each) for each in counts]),
        median_dispersion=_median([_dispersion(each) for each in counts]),
        total_variation=sqrt(_dispersion(minutes) / mean) if mean else 0.0,
        total_least=min(minutes),
        total_most=max(minutes),
    )


def lines_of(figures: TraceStatistics) -> list[str]:
    """Return the figures as a text for people."""
    rate = figures.calls / figures.period_ns * SECOND
    period = format_duration(figures.period_ns)
    least, most = figures.total_least, figures.total_most
    rows = {
        "functions": f"{figures.functions}",
        "calls": f"{figures.calls} in {period}, {rate:.1f} per second",
        "busiest function": f"{figures.top_share:.1%} of the calls",
        "busiest ten": f"{figures.top_10_share:.1%} of the calls",
        "busiest tenth": f"{figures.top_decile_share:.1%} of the calls",
        "median function": f"{figures.median_calls} calls",
        "at most hourly": f"{figures.hourly_share:.1%} of the functions",
        "at most each minute": f"{figures.minutely_share:.1%} of the functions",
        "periodic": f"{figures.periodic_share:.1%} of the functions",
        "minutes with calls": f"{figures.median_active_share:.1%} (median function)",
        "variance / mean": f"{figures.median_dispersion:.2f} (median function, calls per minute)",
        "all per minute": f"{least} to {most}, variation {figures.total_variation:.1%}",
    }
    for trigger, (functions, calls) in figures.triggers.items():
        rows[trigger or "unknown"] = f"{functions:.1%} of the functions, {calls:.1%} of the calls"
    return [figures.source, *(f"  {name:20} {text}" for name, text in rows.items())]


def _per_minute(arrivals: TraceReplay | Recorded, period_ns: int) -> Sequence[int]:
    if isinstance(arrivals, TraceReplay):
        return arrivals.counts
    counts = [0] * -(-period_ns // MINUTE)
    for offset_ns in arrivals.offsets_ns:
        counts[offset_ns // MINUTE] += 1
    return counts


def _triggers(trace: Trace, calls: int) -> dict[str, tuple[float, float]]:
    functions: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for function in trace.functions:
        functions[function.trigger] += 1
        totals[function.trigger] += function.total
    return {
        trigger: (count / len(trace.functions), totals[trigger] / calls)
        for trigger, count in functions.most_common()
    }


def _is_periodic(counts: Sequence[int]) -> bool:
    """True if calls come at least three times, always as many, always after the same gap."""
    minutes = [minute for minute, count in enumerate(counts) if count]
    gaps = {later - earlier for earlier, later in pairwise(minutes)}
    return len(minutes) >= 3 and len(gaps) == 1 and len({counts[at] for at in minutes}) == 1


def _dispersion(counts: Sequence[int]) -> float:
    """Return variance over mean; 1 for Poisson, 0 for constant counts."""
    mean = sum(counts) / len(counts)
    return sum((each - mean) ** 2 for each in counts) / len(counts) / mean if mean else 0.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
