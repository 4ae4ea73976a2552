"""The text at the end of a run."""

from typing import Final

from clockwork.messages.client_io import ClientSummary
from clockwork.messages.status import Status
from clockwork.units import MS, format_duration

SETS_MAX: Final = 20
"""Model sets that get a line; a trace has more than anybody reads."""


def summary_lines(summary: ClientSummary) -> list[str]:
    """Return what a person wants to know about a run."""
    duration = format_duration(round(summary.duration_ns, -6))
    attainment = summary.good / summary.sent if summary.sent else 0.0
    lines = [
        f"Summary of `{summary.workload}` after {duration} (seed {summary.seed})",
        f"  requests    {summary.sent} sent, {_outcomes(summary)}",
        (
            f"  rates       offered={summary.offered_per_s:.2f}/s "
            f"throughput={summary.throughput_per_s:.2f}/s goodput={summary.goodput_per_s:.2f}/s"
        ),
        *_throttled(summary),
        f"  SLO         {summary.good} within it ({attainment:.4%} of those sent)",
        f"  cold starts {summary.cold_starts}",
    ]
    if summary.latency is not None:
        lines.append(_latency(summary))
    for row in summary.model_sets[:SETS_MAX]:
        lines.append(
            f"  model {row.model_id:<5} {row.name}: {row.sent} sent, {row.succeeded} succeeded, "
            f"{row.good} within SLO"
        )
    if len(summary.model_sets) > SETS_MAX:
        lines.append(f"  and {len(summary.model_sets) - SETS_MAX} more")
    return lines


def _outcomes(summary: ClientSummary) -> str:
    parts = [f"{summary.succeeded} succeeded"]
    for code, count in summary.statuses.items():
        if code != Status.SUCCESS:
            parts.append(f"{count} {Status(code).name.lower().replace('_', ' ')}")
    if summary.unanswered:
        parts.append(f"{summary.unanswered} unanswered")
    return ", ".join(parts)


def _throttled(summary: ClientSummary) -> list[str]:
    if not summary.throttled:
        return []
    return [f"  throttled   {summary.throttled} refused here: the controller was overloaded"]


def _latency(summary: ClientSummary) -> str:
    latency = summary.latency
    assert latency is not None, "called for runs with latencies"
    figures = {
        "min": latency.min_ns,
        "mean": latency.mean_ns,
        "p50": latency.p50_ns,
        "p90": latency.p90_ns,
        "p99": latency.p99_ns,
        "p99.9": latency.p999_ns,
        "p99.99": latency.p9999_ns,
        "max": latency.max_ns,
    }
    return (
        "  latency     " + " ".join(f"{name}={ns / MS:.2f}" for name, ns in figures.items()) + " ms"
    )
