"""The journal of a live controller is replayed with the same effects."""

import asyncio
import io
from pathlib import Path

from click.testing import CliRunner
from live.system import LOCALHOST, System

from clockwork.cli.replay import replay
from clockwork.client.workload import ModelSet, Poisson, Stream, Workload
from clockwork.live.addresses import Address
from clockwork.live.load_generator import RunOptions, play
from clockwork.models.zoo.emulated import write_emulated
from clockwork.units import SECOND


def test_a_live_run_is_replayed_effect_by_effect(tmp_path: Path) -> None:
    """What a controller decided under load, with inputs, is decided again from its journal."""
    write_emulated(tmp_path / "zoo")
    workload = Workload(
        "journal",
        (ModelSet("resnet18_v1", str(tmp_path / "zoo" / "resnet18_v1"), 4),),
        (Stream(models=(0, 1, 2, 3), arrivals=Poisson(150.0)),),
        duration_ns=SECOND,
    )
    journal = tmp_path / "journal"
    with System(tmp_path / "logs") as system:
        system.dummy("-n", "2")
        system.controller("--journal", str(journal), "--state", str(tmp_path / "state"))
        options = RunOptions(address=Address(LOCALHOST, system.controller_port))
        finished = asyncio.run(play(workload, options, out=io.StringIO(), stop=asyncio.Event()))
        assert finished.summary is not None
        assert finished.summary.succeeded > 50
    result = CliRunner().invoke(replay, [str(journal), "--check"], standalone_mode=False)
    assert result.return_value == 0, result.output
    assert "every effect is the same" in result.output
