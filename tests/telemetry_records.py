"""Records of telemetry for tests: every field has a harmless value, tests name what matters."""

import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from clockwork.messages.actions import ActionType
from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.messages.status import ActionStatus, Status
from clockwork.telemetry.report_text import report_text
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG, header, rows
from clockwork.units import MS, SECOND

START_NS = 1_700_000_000 * SECOND
"""When the logs of the tests begin."""


def request(at_ns: int = 0, **fields: Any) -> RequestRecord:
    """Return a request that arrived `at_ns` after the start and succeeded within 5 ms."""
    values: dict[str, Any] = {
        "t": START_NS + at_ns,
        "request_id": 1,
        "result": Status.SUCCESS,
        "user_id": 0,
        "model_id": 0,
        "slo_factor": 0.0,
        "latency": 5 * MS,
        "deadline": 100 * MS,
        "deadline_met": 1,
        "arrival_count": 1,
        "departure_count": 1,
        "is_coldstart": 0,
    }
    return RequestRecord(**(values | fields))


def action(at_ns: int = 0, **fields: Any) -> ActionRecord:
    """Return an Infer of one request, sent `at_ns` after the start, that took 3 ms as expected."""
    values: dict[str, Any] = {
        "t": START_NS + at_ns,
        "action_id": 1,
        "action_type": ActionType.INFER,
        "status": ActionStatus.SUCCESS,
        "worker_id": 0,
        "gpu_id": 0,
        "model_id": 0,
        "batch_size": 1,
        "expected_exec_duration": 3 * MS,
        "worker_exec_duration": 3 * MS,
        "expected_exec_complete": 4 * MS,
        "worker_exec_complete": 4 * MS,
        "expected_gpu_clock": 0,
        "worker_gpu_clock_before": 0,
        "worker_gpu_clock": 0,
        "worker_copy_output_complete": 4 * MS,
        "worker_action_received": MS // 10,
        "worker_result_sent": 4 * MS,
        "controller_result_enqueue": 5 * MS,
        "controller_action_duration": 5 * MS,
        "goodput": 1.0,
        "requests_queued": 0,
        "copies_loaded": 1,
    }
    return ActionRecord(**(values | fields))


def load(at_ns: int = 0, **fields: Any) -> ActionRecord:
    """Return a LoadWeights, sent `at_ns` after the start, that took 8 ms as expected."""
    values: dict[str, Any] = {
        "action_type": ActionType.LOAD_WEIGHTS,
        "expected_exec_duration": 8 * MS,
        "worker_exec_duration": 8 * MS,
        "expected_exec_complete": 9 * MS,
        "worker_exec_complete": 9 * MS,
        "worker_copy_output_complete": 0,
    }
    return action(at_ns, **(values | fields))


def write_logs(
    directory: Path,
    requests: Sequence[RequestRecord] | None = None,
    actions: Sequence[ActionRecord] | None = None,
) -> Path:
    """Write the logs that are given, in the order in which a controller does; return the folder."""
    if requests is not None:
        departed = sorted(requests, key=lambda row: row.t + row.latency)
        (directory / REQUEST_LOG).write_bytes(header(RequestRecord) + rows(departed))
    if actions is not None:
        ended = sorted(actions, key=lambda row: row.t + row.controller_action_duration)
        (directory / ACTION_LOG).write_bytes(header(ActionRecord) + rows(ended))
    return directory


def random_requests(rng: random.Random, count: int) -> list[RequestRecord]:
    """Return requests over ten seconds; some fail, some are late, some find no warm model."""
    made = []
    for number in range(count):
        status = rng.choices((Status.SUCCESS, Status.TIMEOUT), (95, 5))[0]
        latency = int(rng.lognormvariate(15.5, 0.6))
        made.append(
            request(
                rng.randrange(10 * SECOND),
                request_id=number,
                result=status,
                user_id=rng.randrange(3),
                model_id=rng.randrange(20),
                latency=latency,
                deadline=20 * MS,
                deadline_met=int(status == Status.SUCCESS and latency <= 20 * MS),
                is_coldstart=int(rng.random() < 0.1),
            )
        )
    return made


def shown(report: object) -> str:
    """Return what a report looks like on a wide terminal."""
    console = Console(file=io.StringIO(), width=240)
    assert isinstance(console.file, io.StringIO)
    console.print(report_text(report))  # type: ignore[arg-type]
    return console.file.getvalue()
