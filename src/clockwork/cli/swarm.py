"""Runs a swarm of seeds, in one process or several, and tells about the first that fails."""

import gc
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Final

import click
import msgspec

from clockwork.sim.checkers import Violation
from clockwork.sim.swarm import Outcome, hold_seed

REPORT_EVERY: Final = 10
"""Seeds between two lines about progress."""
EXIT_FAILED: Final = 1


class Failure(msgspec.Struct, frozen=True):
    """What is told about a seed that broke a rule; passes between processes."""

    seed: int
    # The scenario as JSON.
    options: str
    error: str
    story: list[str]


def run_swarm(*, first: int, count: int, jobs: int) -> int:
    """Run the seeds and print what happens; return the exit code of the process."""
    begin = perf_counter()
    for done, failure in enumerate(_results(range(first, first + count), jobs), 1):
        if failure is not None:
            _tell(failure)
            return EXIT_FAILED
        if done % REPORT_EVERY == 0 or done == count:
            took = perf_counter() - begin
            click.echo(f"{done} of {count} seeds pass ({took / done:.1f} s each)")
    return 0


def hold(seed: int) -> Failure | None:
    """Run one seed; return what is to be told if it breaks a rule."""
    gc.disable()  # worlds are full of cycles, and gone all at once
    try:
        outcome = hold_seed(seed)
    finally:
        gc.enable()
    failure = None if outcome.verdict.error is None else _failure(outcome, outcome.verdict.error)
    del outcome
    gc.collect()
    return failure


def _failure(outcome: Outcome, error: AssertionError) -> Failure:
    text = str(error)
    if not isinstance(error, Violation):
        text = "".join(traceback.format_exception(error))
    return Failure(
        seed=outcome.seed,
        options=msgspec.json.format(msgspec.json.encode(outcome.scenario), indent=1).decode(),
        error=text,
        story=outcome.verdict.story,
    )


def _results(seeds: Iterable[int], jobs: int) -> Iterator[Failure | None]:
    if jobs == 1:
        yield from map(hold, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(hold, seeds)
        finally:
            pool.shutdown(cancel_futures=True)


def _tell(failure: Failure) -> None:
    click.echo(f"seed {failure.seed} fails with these options:")
    click.echo(failure.options)
    click.echo(f"seed {failure.seed}: {failure.error}")
    click.echo("The story of what it is about, the last records:")
    for line in failure.story:
        click.echo(line)
    click.echo(f"Again: clockwork simulate --swarm 1 --from {failure.seed}")
