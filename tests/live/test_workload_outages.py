"""`clockwork client` while its controller is killed, its connection cut, or nobody comes back."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from live.proxy import Proxy
from live.system import LOCALHOST, Program, System

from clockwork.live.load_generator import EXIT_FAILED
from clockwork.messages.client_io import ClientSummary
from clockwork.models.zoo.emulated import write_emulated

MODEL = "resnet50_v2"


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Emulated models."""
    write_emulated(tmp_path / "zoo")
    return tmp_path / "zoo"


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system that is not started."""
    with System(tmp_path / "logs") as system:
        yield system


@pytest.fixture
def clients() -> Iterator[list[Program]]:
    """Clients that were started; whatever happens, they end."""
    started: list[Program] = []
    yield started
    for program in started:
        program.kill()


def begin(clients: list[Program], address: str, zoo: Path, *flags: str) -> Program:
    """Start two open loops together at 200 requests/s; return the client once it sends."""
    program = Program(
        "client", address, "poisson-open-loop", "2", "200", "--slo=100ms", "--interval=100ms",
        *flags,
        environ={"CLOCKWORK_MODEL_DIR": str(zoo), "CLOCKWORK_DISABLE_INPUTS": "1"},
    )  # fmt: skip
    clients.append(program)
    program.wait_for(r"throughput=\d+\.\d\d")
    return program


def finish(program: Program, summary: Path) -> ClientSummary:
    """Stop a client after some more requests; return its summary, which adds up."""
    count = sum("throughput=" in line for line in program.lines)
    program.wait_for(r"throughput=\d+\.\d\d", count=count // 2 + 5)
    program.stop()
    found = msgspec.json.decode(summary.read_bytes(), type=ClientSummary)
    assert found.sent == sum(found.statuses.values()) + found.unanswered
    return found


def test_a_run_goes_on_when_its_controller_is_restarted(
    system: System, zoo: Path, clients: list[Program], tmp_path: Path
) -> None:
    """It dials again, its models are there, only the requests of the gap are lost."""
    system.dummy()
    state = f"--state={tmp_path / 'state.db'}"
    controller = system.controller(state)
    summary = tmp_path / "summary.json"
    client = begin(clients, system.address, zoo, f"--json={summary}", "--unload")
    system.forget(controller)
    controller.kill()
    client.wait_for("connection to the controller lost: .*; dialling again")
    system.controller(state, f"--port={system.controller_port}")
    told = client.wait_for(r"Connected again after (\S+): (\d+) requests .*, (\d+) were lost")
    print(f"\nThe runner was without a controller for {told[1]}; {told[3]} requests were lost")
    found = finish(client, summary)
    assert found.unanswered >= int(told[3])
    assert "Unloaded 2 models" in client.lines
    assert system.connect().models() == []


def test_a_cut_connection_costs_a_run_nothing(
    system: System, zoo: Path, clients: list[Program], tmp_path: Path
) -> None:
    """Requests under way are sent again within their SLO; models stay unless asked otherwise."""
    system.dummy()
    system.controller()
    summary = tmp_path / "summary.json"
    with Proxy(system.controller_port) as proxy:
        client = begin(clients, f"{LOCALHOST}:{proxy.port}", zoo, f"--json={summary}")
        proxy.cut()
        client.wait_for("Connected again after")
        assert finish(client, summary).good
    assert len(system.connect().models()) == 2


@pytest.mark.parametrize(
    ("patience", "error"), [("0s", "lost: .*"), ("300ms", r"lost: .* \(dialled again for 300ms\)")]
)
def test_patience_ends(
    system: System, zoo: Path, clients: list[Program], tmp_path: Path, patience: str, error: str
) -> None:
    """Nobody comes back: the run fails, with what was counted."""
    system.dummy()
    controller = system.controller()
    client = begin(clients, system.address, zoo, f"--reconnect={patience}")
    system.forget(controller)
    controller.kill()
    assert client.wait() == EXIT_FAILED
    client.wait_for("Summary of `poisson-open-loop`")
    client.wait_for(f"error: connection to the controller {error}$")
