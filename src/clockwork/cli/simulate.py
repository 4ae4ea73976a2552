"""``clockwork simulate``: a whole cluster in virtual time, for a run or for a swarm of them."""

import gc
import signal
import sys
from pathlib import Path
from threading import Event
from time import perf_counter_ns
from typing import Any, Final

import click
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from clockwork.cli.duration import DURATION
from clockwork.cli.simulated import Options, scenario_of
from clockwork.cli.swarm import run_swarm
from clockwork.client.summary import summary_lines
from clockwork.controller.core import ControllerRole
from clockwork.controller.policies.registry import POLICIES
from clockwork.messages.controller_io import Say
from clockwork.messages.records import Record
from clockwork.sim.digest import Digest
from clockwork.sim.logs import Logs
from clockwork.sim.loop import START_NS
from clockwork.sim.run import Run
from clockwork.sim.scenario import Network, Noise, Scenario
from clockwork.telemetry.console import ControllerConsole
from clockwork.units import SECOND, format_duration

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
GC_THRESHOLD: Final = 100_000
"""Allocations between collections: records make no cycles, and the default costs a fifth."""


@click.command()
@click.argument("scenario", default="steady", metavar="[SCENARIO]")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option(
    "--workload",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A workload in TOML, instead of a named scenario.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of everything random.")
@click.option("--duration", type=DURATION, default="20s", show_default=True, help="Virtual time.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--gpus", type=click.IntRange(1), default=1, show_default=True, help="GPUs per worker."
)
@click.option("--models", default=10, show_default=True, type=click.IntRange(1), help="In all.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=200.0,
    show_default=True,
    help="Requests per second in all.",
)
@click.option("--slo", type=DURATION, default="100ms", show_default=True, help="The default SLO.")
@click.option("--policy", type=click.Choice(list(POLICIES)), default="INFER4", show_default=True)
@click.option(
    "--noise",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Spread of durations beyond the predicted ones: 0.1 for some 10 % more.",
)
@click.option("--delay", type=DURATION, default="50us", show_default=True, help="Of messages.")
@click.option(
    "--jitter", type=DURATION, default="0ms", show_default=True, help="Up to so much more."
)
@click.option("--inputs/--no-inputs", default=False, help="Whether requests carry inputs.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write telemetry.")
@click.option("--interval", type=DURATION, default="10s", show_default=True, help="Of the lines.")
@click.option("--swarm", type=click.IntRange(1), help="Try so many random scenarios instead.")
@click.option("--from", "first", type=click.IntRange(0), default=0, help="The swarm's first seed.")
@click.option("--jobs", type=click.IntRange(1), default=1, help="Processes that a swarm uses.")
def simulate(scenario: str, parameters: tuple[str, ...], **given: Any) -> int:
    """Run the real controller, workers and clients in virtual time.

    SCENARIO is steady, azure-like or faults, or one of the workloads of `clockwork client`, whose
    parameters follow as NAME=VALUE; models then come from CLOCKWORK_MODEL_DIR, or else from the
    published table. The same arguments give the same run; the last line is a digest over every
    event and effect of it.

    `--swarm N` draws N scenarios full of faults from seeds and stops at the first that breaks a
    rule (docs/fault-model.md): it prints the seed and its options, then the story.
    """
    if given["swarm"] is not None:
        return run_swarm(first=given["first"], count=given["swarm"], jobs=given["jobs"])
    options = Options(
        scenario=scenario,
        parameters=parameters,
        workload=given["workload"],
        seed=given["seed"],
        duration_ns=given["duration"],
        workers=given["workers"],
        gpus=given["gpus"],
        models=given["models"],
        rate_per_s=given["rate"],
        slo_ns=given["slo"],
    )
    made = replace(
        scenario_of(options),
        sends_inputs=given["inputs"],
        noise=Noise(spread=given["noise"]),
        network=Network(delay_ns=given["delay"], jitter_ns=given["jitter"]),
    )
    gc.set_threshold(GC_THRESHOLD)
    return _run(made, policy=given["policy"], out=given["out"], interval_ns=given["interval"])


def _run(scenario: Scenario, *, policy: str, out: Path | None, interval_ns: int) -> int:
    digest = Digest(has_payloads=scenario.sends_inputs)
    console = ControllerConsole(now_ns=START_NS, interval_ns=interval_ns)
    logs = None if out is None else Logs(out)

    def take(records: list[Record]) -> None:
        for record in records:
            console.add(record)

    run = Run(
        scenario,
        taps=[digest],
        take_records=[take] if logs is None else [take, logs.add],
        take_line=_say,
        make_controller=lambda each, remembered: ControllerRole(
            each.controller,
            each.hardware.workers,
            make_policy=POLICIES[policy],
            remembered=remembered,
        ),
    )
    begin_ns = perf_counter_ns()
    exit_code = 0
    interrupt = Event()
    before = signal.signal(signal.SIGINT, lambda number, frame: interrupt.set())
    try:
        _advance(run, console, interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
        if logs is not None:
            logs.close()
    if interrupt.is_set():
        click.echo("interrupted: what follows is about the time until now", err=True)
        exit_code = EXIT_INTERRUPTED
    return _report(run, digest, wall_ns=perf_counter_ns() - begin_ns, out=out) or exit_code


def _advance(run: Run, console: ControllerConsole, interrupt: Event) -> None:
    """Run to the end with a bar, or until the user interrupts.

    An exception instead would come anywhere, even while a lock of the logs is taken: one of many
    interrupted runs never ended.
    """
    bar = Progress(
        TextColumn("simulating"),
        BarColumn(),
        TextColumn("{task.fields[shown]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    begin_ns = perf_counter_ns()
    total_ns = min(each.duration_ns or 0 for each in run.world.scenario.workloads) or None
    with bar:
        task = bar.add_task("run", total=total_ns, shown="")
        while not interrupt.is_set() and run.advance():
            for line in console.lines(run.world.loop.now_ns):
                click.echo(line)
            _show(bar, task, run, perf_counter_ns() - begin_ns)


def _show(bar: Progress, task: TaskID, run: Run, wall_ns: int) -> None:
    elapsed_ns = run.world.elapsed_ns
    speed = run.totals.requests * SECOND / max(wall_ns, 1)
    shown = (
        f"{elapsed_ns / SECOND:.1f} s simulated, {elapsed_ns / max(wall_ns, 1):.1f} x real time, "
        f"{speed:,.0f} requests/s"
    )
    bar.update(task, completed=elapsed_ns, shown=shown)


def _report(run: Run, digest: Digest, *, wall_ns: int, out: Path | None) -> int:
    """Print how the run went; return the exit code."""
    has_failed = False
    for finished in run.outcomes():
        if finished.summary is not None:
            for line in summary_lines(finished.summary):
                click.echo(line)
        if finished.error is not None:
            has_failed = not run.world.scenario.faults
            click.echo(f"error: {finished.error}", err=True)
    totals = run.totals
    mean_batch = totals.succeeded / totals.batches if totals.batches else 0.0
    click.echo(
        f"Simulated {format_duration(run.world.elapsed_ns)} in {format_duration(wall_ns)}: "
        f"{totals.requests} requests, {totals.requests * SECOND // max(wall_ns, 1)} per second of "
        f"wall time; {totals.late} accepted ones were late; mean batch {mean_batch:.2f}"
    )
    if out is not None:
        click.echo(f"Telemetry is in {out}; see: clockwork report {out}")
    click.echo(f"digest {digest.hex}")
    return EXIT_FAILED if has_failed else 0


def _say(effect: Say) -> None:
    if effect.end == "\n":  # the countdown overwrites itself, which virtual time makes pointless
        click.echo(effect.text)
