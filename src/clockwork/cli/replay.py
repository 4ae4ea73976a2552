"""``clockwork replay``: does again what a controller did, from its journal."""

import itertools
from pathlib import Path
from time import perf_counter
from typing import Final

import click

from clockwork.cli.roles import make_role
from clockwork.messages.controller_io import Say
from clockwork.telemetry.fingerprint import Fingerprint
from clockwork.telemetry.journal import Journal
from clockwork.units import SECOND, format_duration

EXIT_DIFFERS: Final = 1


@click.command()
@click.argument("journal", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--lines", is_flag=True, help="Print the console lines of the controller, too.")
@click.option("--check", is_flag=True, help="Check all invariants after every batch (slow).")
def replay(journal: Path, lines: bool, check: bool) -> int:
    """Do again what a controller did, by its journal.

    The journal is written by `clockwork controller --journal FILE`. A fresh controller role gets
    the same events at the same instants; its effects are compared with what was written, batch by
    batch. The last line is a digest over all effects.
    """
    book = Journal(journal)
    role = make_role(book.header)
    fingerprint = Fingerprint()
    batches = events = 0
    first_ns = last_ns = None
    begin = perf_counter()
    for now_ns, batch, recorded in book.batches():
        batches += 1
        events += len(batch)
        first_ns, last_ns = first_ns or now_ns, now_ns
        effects = role.handle(batch, now_ns)
        fingerprint.add((now_ns,), effects)
        if check:
            role.check()
        for effect in effects if lines else ():
            if isinstance(effect, Say):
                click.echo(effect.text, nl=effect.end == "\n")
        if recorded != fingerprint.digest:
            click.echo(
                f"differs at batch {batches} of {journal}, at {now_ns}: this version does not do "
                "what the one did that wrote it. The events of that batch:",
                err=True,
            )
            for event in itertools.islice(batch, 20):
                click.echo(f"  {event}", err=True)
            return EXIT_DIFFERS
    took_ns = round((perf_counter() - begin) * SECOND)
    span = format_duration(last_ns - first_ns) if first_ns and last_ns else "nothing"
    click.echo(
        f"{batches} batches, {events} events over {span}, replayed in {format_duration(took_ns)}: "
        f"every effect is the same"
    )
    click.echo(f"digest {fingerprint.hex}")
    return 0
