"""The whole system under load while parts of it are killed, cut off, restarted, or asked to leave.

No request may be left without an outcome. How long goodput was away is printed (`pytest -s`), not
judged: machines differ.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.proxy import Proxy
from live.system import LOCALHOST, Program, System
from live.traffic import Traffic

from clockwork.live.clock import now_ns
from clockwork.models.zoo.emulated import write_emulated
from clockwork.units import SECOND

MODELS = ("resnet18_v1", "resnet34_v1", "googlenet", "resnet50_v1")
RATE = 200
SLO_MS = 100


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emulated models."""
    folder = tmp_path_factory.mktemp("zoo")
    write_emulated(folder)
    return folder


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system that is not started."""
    with System(tmp_path / "logs") as system:
        yield system


def load(system: System, zoo: Path) -> list[int]:
    """Load two copies of each model; return their ids."""
    client = system.connect()
    models = [copy for name in MODELS for copy in client.load_model(str(zoo / name), 2).copies]
    return [model.model_id for model in models]


def traffic(address: str, models: list[int]) -> Traffic:
    """Return the usual load."""
    return Traffic(address, models, rate=RATE, slo_ms=SLO_MS)


def tell(what: str, seconds: float, flow: Traffic) -> None:
    """Print how long goodput was away, and what became of all requests."""
    print(f"\n{what}: goodput is back after {seconds:.2f} s; {dict(flow.outcomes())}")


def check_all_answered(flow: Traffic) -> None:
    """Check that every request has its outcome."""
    assert flow.asked
    assert all(each.done_ns for each in flow.asked), flow.outcomes()


def check_nothing_failed(flow: Traffic) -> None:
    """Check that parts which left in order cost no request more than its deadline."""
    check_all_answered(flow)
    failures = [each.error for each in flow.asked if each.outcome == "FailedError"]
    assert failures == []


def kill(system: System, program: Program) -> None:
    """End a program with SIGKILL."""
    system.forget(program)
    program.kill()


def test_a_worker_is_killed_and_restarted(system: System, zoo: Path) -> None:
    """The other worker takes over; the restarted one loads what it lacks and serves alone."""
    first, second = system.dummy(), system.dummy()
    controller = system.controller()
    models = load(system, zoo)
    with traffic(system.address, models) as flow:
        killed_ns = now_ns()
        kill(system, first)
        tell("A worker was killed", flow.wait_until_steady(killed_ns), flow)
        controller.wait_for("Closing connection")
        system.worker("-n1", command="worker_dummy", port=system.worker_ports[0])
        controller.wait_for("Connection established", count=3)
        flow.wait_until_steady(now_ns())
        alone_ns = now_ns()
        kill(system, second)
        tell("The other was killed", flow.wait_until_steady(alone_ns), flow)
    check_all_answered(flow)


def test_the_controller_is_killed_and_restarted(system: System, zoo: Path, tmp_path: Path) -> None:
    """With its state file it knows models, ids and measurements, and loads nothing anew."""
    system.dummy()
    system.dummy()
    state = f"--state={tmp_path / 'state.db'}"
    controller = system.controller(state)
    port = f"--port={system.controller_port}"
    models = load(system, zoo)
    with traffic(system.address, models) as flow:
        killed_ns = now_ns()
        kill(system, controller)
        started_ns = now_ns()
        controller = system.controller(state, port)
        controller.wait_for("Admitting inference requests")
        serves_s = (now_ns() - started_ns) / SECOND
        tell("The controller was killed", flow.wait_until_steady(killed_ns), flow)
        print(f"It served {serves_s:.2f} s after its start")
    check_all_answered(flow)
    assert ":LoadModel" not in controller.output
    assert "LoadWeights" not in controller.output
    client = system.connect()
    assert [model.model_id for model in client.models()] == models
    again = client.load_model(str(zoo / MODELS[0]))
    assert again.model_id == max(models) + 1


@pytest.mark.parametrize("where", ["worker", "client"])
def test_a_connection_is_cut(system: System, zoo: Path, where: str) -> None:
    """Both ends notice, dial again and go on."""
    worker = system.dummy()
    assert worker.process.poll() is None
    with Proxy(system.worker_ports[0]) as to_worker:
        controller = system.controller(workers=[to_worker.port])
        models = load(system, zoo)
        with (
            Proxy(system.controller_port) as to_controller,
            traffic(f"{LOCALHOST}:{to_controller.port}", models) as flow,
        ):
            cut_ns = now_ns()
            assert (to_worker if where == "worker" else to_controller).cut() == 1
            tell(f"The {where}'s connection was cut", flow.wait_until_steady(cut_ns), flow)
        if where == "worker":
            controller.wait_for("Connection established", count=2)
        check_all_answered(flow)


def test_workers_join_and_leave_in_order(system: System, zoo: Path) -> None:
    """A worker that joins takes over from one that drains; no request fails."""
    controller = system.controller(workers=[])
    first = system.joiner("--name=first")
    models = load(system, zoo)
    with traffic(system.address, models) as flow:
        system.joiner("--name=second")
        controller.wait_for("Worker 1 joins: second at")
        flow.wait_until_steady(now_ns())
        left_ns = now_ns()
        first.stop(signal.SIGTERM)
        system.forget(first)
        tell("A worker left", flow.wait_until_steady(left_ns), flow)
        system.joiner("--name=first")
        assert controller.wait_for(r"Worker 0 joins: first at", count=2)
    check_nothing_failed(flow)
    assert "it was asked to end" in controller.output


def test_a_joined_worker_that_was_killed_gets_its_old_id(system: System, zoo: Path) -> None:
    """Its GPUs keep their indexes, and it serves again."""
    controller = system.controller(workers=[])
    first = system.joiner()
    models = load(system, zoo)
    with traffic(system.address, models) as flow:
        killed_ns = now_ns()
        kill(system, first)
        system.joiner()
        tell("The only worker was killed", flow.wait_until_steady(killed_ns), flow)
    controller.wait_for("Worker 0 joins", count=2)
    check_all_answered(flow)


def test_the_controller_is_asked_to_end_and_started_again(
    system: System, zoo: Path, tmp_path: Path
) -> None:
    """It answers what is under way; joined workers find the next one by themselves."""
    state = f"--state={tmp_path / 'state.db'}"
    controller = system.controller(state, workers=[])
    port = f"--port={system.controller_port}"
    worker = system.joiner()
    models = load(system, zoo)
    with traffic(system.address, models) as flow:
        stopped_ns = now_ns()
        controller.stop(signal.SIGTERM)
        system.forget(controller)
        controller = system.controller(state, port, workers=[])
        tell("The controller was restarted", flow.wait_until_steady(stopped_ns), flow)
        worker.wait_for("Connection established with", count=2)
    check_nothing_failed(flow)
    assert ":LoadModel" not in controller.output
