"""Ports that are taken, workers that are not there, do not answer, or go away."""

import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from live.system import LOCALHOST, Program, System
from live.zoo import Zoo

import clockwork

SLO_MS = 30_000
IMAGE = np.zeros((1, 8, 8), np.float32)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("command", ["worker", "worker_dummy", "controller"])
def test_a_port_in_use_ends_the_program_with_what_to_do(command: str, tmp_path: Path) -> None:
    """The exit code is 1, and one line names the port and two ways out."""
    with socket.create_server((LOCALHOST, 0)) as other:
        port = other.getsockname()[1]
        arguments = ["INFER4", "localhost:1", f"--log-dir={tmp_path}"]
        program = Program(
            command,
            *(arguments if command == "controller" else []),
            f"--host={LOCALHOST}",
            f"--port={port}",
        )
        assert program.wait() == 1
    (line,) = [line for line in program.lines if line.startswith("error: ")]
    assert f"port {port} on {LOCALHOST} is in use" in line
    assert "stop the process that listens there" in line
    assert "choose another port with --port" in line
    assert "Traceback" not in program.output


def test_a_controller_starts_without_a_worker_that_is_not_there(system: System, zoo: Zoo) -> None:
    """It says so once, serves with the other one, and takes the missing one in when it comes."""
    port = free_port()
    first = system.worker()
    controller = system.controller(workers=[*system.worker_ports, port])
    controller.wait_for(
        rf"Worker 1: cannot reach {LOCALHOST}:{port}: nobody listens there; .*trying until it"
    )
    client = system.connect()
    model = client.load_model(str(zoo.directory("digits")))
    controller.wait_for("Worker 1 has not reported; starting without it")
    assert model.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1
    second = system.worker(port=port)
    second.wait_for("Sending R.*LoadModelFromDisk")
    first.stop()
    system.forget(first)
    assert model.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1
    assert controller.output.count("Worker 1: cannot reach") == 1


def test_without_any_worker_a_client_learns_why_nothing_happens(system: System, zoo: Zoo) -> None:
    """LoadModel is not held for ever, and works as soon as a worker is there."""
    port = free_port()
    system.controller(workers=[port])
    impatient = clockwork.connect(system.address, timeout_s=5)
    with impatient, pytest.raises(clockwork.InitializingError, match="no worker has reported"):
        impatient.load_model(str(zoo.directory("digits")))
    patient = system.connect()
    system.worker(port=port)
    model = patient.load_model(str(zoo.directory("digits")))
    assert model.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1


def test_a_worker_that_dies_and_comes_back_is_used_again(system: System, zoo: Zoo) -> None:
    """While it is away requests are refused with a reason; afterwards nobody has to do anything."""
    worker = system.worker()
    controller = system.controller()
    client = system.connect()
    model = client.load_model(str(zoo.directory("digits")))
    model.infer(IMAGE, slo_ms=SLO_MS)
    worker.kill()
    system.forget(worker)
    controller.wait_for(f"Closing connection {LOCALHOST}:{system.worker_ports[0]}, reason: ")
    with pytest.raises(clockwork.DeadlineError, match=r"SLO 200\.0 ms"):
        model.infer(IMAGE, slo_ms=200)
    system.worker(port=system.worker_ports[0])
    assert model.infer(IMAGE, slo_ms=SLO_MS).is_cold_start


def test_requests_in_a_worker_that_dies_run_on_the_other_one(system: System, zoo: Zoo) -> None:
    """Nothing that was in flight is lost, and each request has one answer."""
    first = system.worker()
    system.worker()
    system.controller()
    client = system.connect()
    model = client.load_model(str(zoo.directory("resnet18_v1")))
    image = np.zeros(model.inputs[0].shape, np.float32)
    model.infer(image, slo_ms=SLO_MS)
    futures = [model.infer_async(image, slo_ms=SLO_MS) for _ in range(100)]
    futures[0].result()
    first.kill()
    system.forget(first)
    answers = [future.result() for future in futures]
    assert len(answers) == 100


def test_two_controllers_cannot_share_a_worker(system: System, tmp_path: Path, zoo: Zoo) -> None:
    """The second one is told who has it, and gets it when the first one has gone."""
    worker = system.worker()
    first = system.controller()
    system.connect().load_model(str(zoo.directory("digits")))
    second = system.controller(f"--log-dir={tmp_path}")
    second.wait_for("this worker serves the controller at 127.0.0.1:")
    worker.wait_for("Refusing 127.0.0.1:")
    first.stop(signal.SIGTERM)
    system.forget(first)
    model = system.connect().model("digits")
    assert model.infer(IMAGE, slo_ms=SLO_MS).batch_size == 1
