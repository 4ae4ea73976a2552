"""Every status that a client can see, end to end, with an exception that says what happened.

At the roles all statuses, also those of actions, are provoked in tests/unit/test_status_codes.py.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import uvloop
from live.system import System
from live.zoo import Zoo
from wire_stage import dial

import clockwork
from clockwork.messages.models import TensorSpec
from clockwork.messages.requests import LsRequest, LsResponse
from clockwork.messages.status import Status
from clockwork.models.format import (
    EMULATED,
    FORMAT_VERSION,
    Measurement,
    ModelFile,
    write_model_file,
)
from clockwork.units import MIB, MS

PATIENT_MS = 60_000


def emulated_model(folder: Path, *, load_ms: int, exec_ms: dict[int, int]) -> Path:
    """Write an emulated model with these durations."""
    folder.mkdir()
    measured = Measurement(
        exec_ns={size: value * MS for size, value in exec_ms.items()}, load_ns=load_ms * MS
    )
    file = ModelFile(
        format=FORMAT_VERSION,
        name=folder.name,
        inputs=(TensorSpec("x", "float32", (4,), 4),),
        outputs=(TensorSpec("y", "float32", (2,), 4),),
        batch_sizes=tuple(exec_ms),
        weights_bytes=16 * MIB,
        measurements={EMULATED: measured},
    )
    write_model_file(folder, file)
    return folder


def served(
    system: System, tmp_path: Path, *, load_ms: int = 1, exec_ms: dict[int, int] | None = None
) -> clockwork.Model:
    """Return an emulated model that is served."""
    system.dummy()
    system.controller("--max-exec=60s")
    path = emulated_model(tmp_path / "model", load_ms=load_ms, exec_ms=exec_ms or {1: 1})
    return system.connect().load_model(str(path))


def success(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """A request runs."""
    served(system, tmp_path).infer(None, slo_ms=PATIENT_MS)
    return 0


def error(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """Inputs and outputs of a single request do not fit the io pool: no attempt can succeed."""
    system.worker("--io-pool-size=100")
    system.controller()
    model = system.connect().load_model(str(zoo.directory("digits")))
    image = np.zeros((1, 8, 8), np.float32)
    text = r"io_pool_size is 100 \(worker status 76\)"
    with pytest.raises(clockwork.FailedError, match=text) as caught:
        model.infer(image, slo_ms=PATIENT_MS)
    return caught.value.status


def timeout(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """A worker hangs with the request in it; when it is given up the deadline has passed."""
    worker = system.dummy()
    system.controller()
    path = emulated_model(tmp_path / "model", load_ms=1, exec_ms={1: 1})
    model = system.connect().load_model(str(path))
    model.infer(None, slo_ms=PATIENT_MS)
    worker.process.send_signal(signal.SIGSTOP)
    with pytest.raises(clockwork.TimedOutError, match="no GPU was free by its deadline") as caught:
        model.infer(None, slo_ms=300)
    worker.process.send_signal(signal.SIGCONT)
    model.infer(None, slo_ms=PATIENT_MS)
    return caught.value.status


def initializing(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """LS before the end of the load phase; our own client library would ask again."""
    system.dummy()
    system.controller()
    path = emulated_model(tmp_path / "model", load_ms=1, exec_ms={1: 1})

    async def ask() -> LsResponse:
        connection, recorder = await dial(system.controller_port)
        await recorder.ready.wait()
        connection.send(LsRequest(1, 0))
        connection.flush()
        client = await clockwork.AsyncClient.connect(system.address)
        await client.load_model(str(path))
        response = (await recorder.wait_for(1))[0][0]
        assert isinstance(response, LsResponse)
        await client.close()
        connection.close("the test is over")
        await connection.wait_closed()
        return response

    response = uvloop.run(ask())
    assert response.message == "Controller initializing"
    return response.status


def invalid_request(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """The load phase is over, and the option says that it stays so."""
    system.dummy()
    system.controller("--fixed-models=1")
    client = system.connect()
    client.load_model(str(emulated_model(tmp_path / "first", load_ms=1, exec_ms={1: 1})))
    client.models()
    late = emulated_model(tmp_path / "late", load_ms=1, exec_ms={1: 1})
    text = "Controller startup phase has completed"
    with pytest.raises(clockwork.InvalidRequestError, match=text) as caught:
        client.load_model(str(late))
    return caught.value.status


def skipped(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """While weights are loaded a request in a hurry and sixteen others come; the others go first.

    The full batch takes 3 s, longer than the one in a hurry may wait.
    """
    model = served(system, tmp_path, load_ms=300, exec_ms={1: 20, 16: 3_000})
    hurried = model.infer_async(None, slo_ms=2_000)
    others = [model.infer_async(None, slo_ms=PATIENT_MS) for _ in range(16)]
    with pytest.raises(clockwork.RejectedError, match="given up for a larger batch") as caught:
        hurried.result()
    assert [other.result().batch_size for other in others] == [16] * 16
    return caught.value.status


def could_not_start_in_time(system: System, tmp_path: Path, zoo: Zoo) -> int:
    """Execution alone takes longer than the SLO."""
    model = served(system, tmp_path, exec_ms={1: 500})
    with pytest.raises(
        clockwork.RejectedError, match=r"needs 50\d\.\d ms .*SLO 100\.0 ms"
    ) as caught:
        model.infer(None, slo_ms=100)
    return caught.value.status


SCENARIOS: Final[dict[Status, Callable[[System, Path, Zoo], int]]] = {
    Status.SUCCESS: success,
    Status.ERROR: error,
    Status.TIMEOUT: timeout,
    Status.INITIALIZING: initializing,
    Status.INVALID_REQUEST: invalid_request,
    Status.SKIPPED: skipped,
    Status.COULD_NOT_START_IN_TIME: could_not_start_in_time,
}
"""Returns the status that a client got, by the one that it should get."""


@pytest.mark.parametrize("status", Status, ids=lambda each: each.name)
def test_a_client_can_see_every_status(
    status: Status, system: System, tmp_path: Path, zoo: Zoo
) -> None:
    """Each is provoked through real processes."""
    assert SCENARIOS[status](system, tmp_path, zoo) == status
