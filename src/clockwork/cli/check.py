"""``clockwork check``: does this installation work?"""

import asyncio

import click


@click.command()
def check() -> None:
    """Start everything on this machine, send requests through every stage, and stop."""
    from clockwork.live.self_check import check_installation

    asyncio.run(check_installation(click.echo))
    click.echo("Everything works.")
