"""Makes controller roles, as the controller runs them and a replay runs them again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clockwork.controller.core import ControllerRole
from clockwork.controller.policies.registry import POLICIES
from clockwork.controller.reception import MakeInput
from clockwork.errors import ConfigurationError
from clockwork.messages.controller_io import ControllerEffect, ControllerEvent
from clockwork.messages.role import Role
from clockwork.telemetry.journal import Header, JournaledRole


def make_role(header: Header) -> ControllerRole:
    """Return a fresh role.

    Raises:
        ConfigurationError: there is no such policy.
    """
    if header.policy not in POLICIES:
        known = ", ".join(POLICIES)
        raise ConfigurationError(f"there is no policy {header.policy}; known are: {known}")
    return ControllerRole(
        header.config,
        header.worker_count,
        make_policy=POLICIES[header.policy],
        make_input=_make_input(header),
        remembered=header.remembered,
        worker_addresses=header.worker_addresses,
    )


@contextmanager
def journaled(header: Header, journal: str) -> Iterator[Role[ControllerEvent, ControllerEffect]]:
    """Yield a fresh role that writes a journal while it is used; `journal` empty: that writes none.

    Raises:
        OSError: the journal cannot be written.
    """
    role = make_role(header)
    if not journal:
        yield role
        return
    with Path(journal).open("wb") as file:
        yield JournaledRole(role, file, header)


def _make_input(header: Header) -> MakeInput | None:
    """Return what makes inputs for requests that have none; None leaves that to the workers."""
    if not header.makes_inputs:
        return None
    from clockwork.live.sample_inputs import SampleInputs

    return SampleInputs(0, compresses=header.compresses_inputs).one_for
