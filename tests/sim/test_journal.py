"""Journals of controllers, written in simulation and replayed."""

from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner, Result

from clockwork.cli.replay import replay
from clockwork.controller.core import ControllerRole
from clockwork.errors import ConfigurationError
from clockwork.messages.controller_io import ControllerEvent, WorkerLost
from clockwork.messages.ids import WorkerId
from clockwork.messages.remembered import Remembered
from clockwork.sim.links import ControllerLike
from clockwork.sim.run import Run
from clockwork.sim.scenario import Scenario
from clockwork.sim.swarm import draw
from clockwork.telemetry.journal import _PACK, _UNPACK, Header, Journal, JournaledRole

SEED = 10
"""Of a scenario with broken connections and loads that fail."""


def write(path: Path, seed: int = SEED) -> int:
    """Write the journal of a simulated controller; return how many requests it answered."""

    def make(scenario: Scenario, remembered: Remembered | None) -> ControllerLike:
        count = scenario.hardware.workers
        role = ControllerRole(scenario.controller, count, remembered=remembered)
        header = Header(
            policy="INFER4",
            worker_count=count,
            config=scenario.controller,
            remembered=remembered,
        )
        made.append(JournaledRole(role, path.open("wb"), header))
        return made[-1]

    made: list[JournaledRole] = []
    run = Run(draw(seed), make_controller=make)
    while run.advance():
        pass
    (role,) = made
    role.close()
    return run.totals.requests


def replayed(path: Path, *options: str) -> Result:
    """Return what ``clockwork replay`` says about a journal."""
    return CliRunner().invoke(replay, [str(path), *options], standalone_mode=False)


def test_a_journal_is_replayed_with_the_same_effects(tmp_path: Path) -> None:
    """A fresh role that gets the same events does the same, batch by batch."""
    path = tmp_path / "journal"
    assert write(path) > 100
    result = replayed(path)
    assert result.return_value == 0, result.output
    assert "every effect is the same" in result.output
    assert result.output.splitlines()[-1].startswith("digest ")


def test_a_replay_can_show_the_console_and_check_invariants(tmp_path: Path) -> None:
    """The lines that the controller printed come again."""
    path = tmp_path / "journal"
    write(path, seed=9)
    result = replayed(path, "--lines", "--check")
    assert result.return_value == 0, result.output
    assert " * Admitting inference requests" in result.output


def test_a_replay_finds_the_first_batch_that_differs(tmp_path: Path) -> None:
    """A role that decides differently is found out, with the events that it did so about."""
    path = tmp_path / "journal"
    write(path, seed=9)
    data = path.read_bytes()
    assert b"INFER4" in data
    path.write_bytes(data.replace(b"INFER4", b"DIRECT", 1))
    result = replayed(path)
    assert result.return_value == 1
    assert "differs at batch" in result.stderr


def test_a_journal_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    """The last frame of a killed process may be incomplete."""
    path = tmp_path / "journal"
    write(path, seed=9)
    whole = len(list(Journal(path).batches()))
    path.write_bytes(path.read_bytes()[:-3])
    assert len(list(Journal(path).batches())) == whole - 1


@pytest.mark.parametrize("data", [b"", b"nothing of ours", b"\x01\x00\x00\x00\x05"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """The message names the file."""
    path = tmp_path / "other"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="is no journal"):
        Journal(path)


def test_a_batch_at_which_the_role_raises_is_in_the_journal(tmp_path: Path) -> None:
    """What broke the role is what one wants to replay."""
    path = tmp_path / "journal"
    scenario = draw(SEED)
    role = ControllerRole(scenario.controller, scenario.hardware.workers)
    header = Header(policy="INFER4", worker_count=1, config=scenario.controller)
    journaled = JournaledRole(role, path.open("wb"), header)
    impossible = WorkerLost(WorkerId(99), "there are not that many")
    with pytest.raises(IndexError):
        journaled.handle([impossible], 1)
    journaled.close()
    ((now_ns, events, fingerprint),) = Journal(path).batches()
    assert (now_ns, events, fingerprint) == (1, [impossible], b"")


def test_every_kind_of_event_can_be_written_and_read() -> None:
    """The tables cover the union of events."""
    assert set(_PACK) == set(get_args(ControllerEvent))
    assert len(_UNPACK) == len(_PACK)
