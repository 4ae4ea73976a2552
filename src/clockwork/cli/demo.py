"""``clockwork demo``: everything at work, on this machine, in under three minutes."""

import asyncio
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from clockwork.live.demo import DemoConfig, run_demo
from clockwork.live.demo_figures import Summary


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True,
              help="Folder for summary.json and the logs.")  # fmt: skip
@click.option("--models", type=click.Path(path_type=Path), default=Path(".cache/demo-models"),
              show_default=True, help="Folder that keeps the models.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True,
              help="How long requests are sent.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True,
              help="Of the arrival times.")  # fmt: skip
def demo(out: Path, models: Path, seconds: float, seed: int) -> int:
    """Serve real models end to end, from a weights cache too small for all of them."""
    begin = time.monotonic()
    config = DemoConfig(out=out, models=models, duration_s=seconds, seed=seed)
    summary = asyncio.run(run_demo(config, click.echo))
    click.echo()
    # Where there is no terminal rich would take 80 columns and cut the titles.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(model_table(summary))
    click.echo("\n".join(closing_lines(summary, out, time.monotonic() - begin)))
    return 0 if summary.answered == summary.requests else 1


def model_table(summary: Summary) -> Table:
    """Return the figures of each model, and of all."""
    table = Table(show_footer=True, box=None, pad_edge=False, header_style="bold")
    latency = (summary.p50_ms, summary.p99_ms, summary.max_ms)
    columns = (
        ("model", "all"),
        ("copies", str(sum(model.copies for model in summary.models))),
        ("promise ms", ""),
        ("requests", str(summary.requests)),
        ("in time", f"{summary.goodput_share:.2%}"),
        ("cold", str(summary.cold_starts)),
        ("batch", ""),
        *zip(("p50 ms", "p99 ms", "max ms"), (f"{value:.1f}" for value in latency), strict=True),
    )
    for title, footer in columns:
        table.add_column(
            title, footer, justify="left" if title == "model" else "right", no_wrap=True
        )
    for model in summary.models:
        table.add_row(
            model.name,
            str(model.copies),
            str(model.slo_ms),
            str(model.requests),
            f"{model.goodput_share:.2%}",
            str(model.cold_starts),
            f"{model.mean_batch:.2f}",
            f"{model.latency.p50_ms:.1f}",
            f"{model.latency.p99_ms:.1f}",
            f"{model.latency.max_ms:.1f}",
        )
    return table


def closing_lines(summary: Summary, out: Path, took_s: float) -> list[str]:
    """Return what else there is to say."""
    told = (
        f"{summary.answered} of {summary.requests} requests answered, "
        f"{summary.goodput_share:.2%} within their promise, {summary.evictions} evictions from a "
        f"cache for {summary.cache_share:.0%} of the weights"
    )
    lines = ["", told, f"digits read correctly: {summary.accuracy:.1%}"]
    if summary.problems:
        reasons = ", ".join(f"{count} x {name}" for name, count in summary.problems.items())
        lines.append(f"without success: {reasons}")
    lines += [
        f"logs: {out}/logs   figures: {out}/summary.json   more: clockwork report {out}/logs",
        f"took {took_s:.0f} s",
    ]
    return lines
