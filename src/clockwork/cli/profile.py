"""``clockwork profile``: is this machine fit for predictable times?"""

import os

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def profile() -> None:
    """Report on this machine: what it has, and what makes its times unpredictable."""


@profile.command()
def check() -> int:
    """Check limits and settings; exit code 1 if one that is required is wrong.

    A line begins with a tick, a cross (required), or an exclamation mark (advice). The line below
    says how to mend it.
    """
    from clockwork.live.host import look_at_host
    from clockwork.live.host_check import check_host, is_ready, report_lines

    host = look_at_host(os.environ)
    click.echo("\n".join(report_lines(host)))
    return 0 if is_ready(check_host(host)) else 1


@profile.command()
def status() -> None:
    """Show cores, memory and GPUs."""
    from clockwork.live.host import look_at_host
    from clockwork.live.host_check import status_lines

    click.echo("\n".join(status_lines(look_at_host(os.environ))))
