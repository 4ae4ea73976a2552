"""A look at the workers of a running controller, and empty caches, by command and from Python."""

import json

import numpy as np
from live.system import Program, System
from live.zoo import Zoo

SLO_MS = 30_000
IMAGE = np.zeros((1, 8, 8), np.float32)


def test_workers_tell_of_their_caches_which_can_be_cleared(system: System, zoo: Zoo) -> None:
    """What is warm is told; afterwards nothing is, and the next request is a cold start."""
    system.worker("--weights-cache-size=64MiB")
    system.controller()
    client = system.connect()
    digits = client.load_model(str(zoo.directory("digits")))
    digits.infer(IMAGE, slo_ms=SLO_MS)
    (report,) = client.workers()
    (gpu,) = report.gpus
    assert (report.is_connected, report.model_count) == (True, 1)
    assert report.address == f"127.0.0.1:{system.worker_ports[0]}"
    assert gpu.warm == (digits.model_id,)
    assert gpu.pages - gpu.free_pages == digits.profile.weights_pages
    assert not digits.infer(IMAGE, slo_ms=SLO_MS).is_cold_start
    client.clear_cache()
    (report,) = client.workers()
    assert report.gpus[0].warm == ()
    assert report.gpus[0].free_pages == report.gpus[0].pages
    assert digits.infer(IMAGE, slo_ms=SLO_MS).is_cold_start


def test_the_commands_show_all_workers(system: System) -> None:
    """One that is not there is shown as well; a program can read the same as JSON."""
    system.dummy("--gpus=2", "--weights-cache-size=1GiB")
    missing = 1
    controller = system.controller(workers=[*system.worker_ports, missing])
    controller.wait_for(r"Worker 0 --> R\d+:GetWorkerState")
    shown = Program("workers", system.address)
    assert shown.wait() == 0
    rows = [line.split() for line in shown.lines]
    assert rows[0][:4] == ["worker", "address", "state", "models"]
    ports = [f"127.0.0.1:{port}" for port in (*system.worker_ports, missing)]
    assert rows[1] == ["0", ports[0], "connected", "0", "0", "0/64", "1GiB", "0", "0", "0"]
    assert rows[2] == ["1", "0/64", "1GiB", "0", "0", "0"]
    assert rows[3] == ["1", ports[1], "missing", "0", *["-"] * 6]
    machine = Program("workers", system.address, "--json")
    assert machine.wait() == 0
    reports = json.loads("\n".join(machine.lines))
    assert [report["is_connected"] for report in reports] == [True, False]
    assert len(reports[0]["gpus"]) == 2
    cleared = Program("clear-cache", system.address)
    assert cleared.wait() == 0
    assert cleared.lines == ["all caches are empty"]
