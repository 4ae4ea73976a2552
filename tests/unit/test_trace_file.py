"""The timeline: valid traces, tracks without overlaps, arrows that end at the right batch."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from telemetry_records import action, load, request, write_logs

from clockwork.cli.timeline import timeline as timeline_command
from clockwork.errors import ConfigurationError
from clockwork.messages.actions import ActionType
from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.messages.status import ActionStatus, Status
from clockwork.telemetry.rows import ACTION_LOG
from clockwork.telemetry.trace_file import TraceCounts, write_trace
from clockwork.units import MS, SECOND, US


def trace_of(
    tmp_path: Path,
    requests: list[RequestRecord] | None,
    actions: list[ActionRecord],
    **options: Any,
) -> tuple[list[dict[str, Any]], TraceCounts]:
    """Return the events of the trace of these logs, and its counts."""
    file = tmp_path / "trace.json"
    counts = write_trace(write_logs(tmp_path, requests, actions), file, **options)
    return json.loads(file.read_text())["traceEvents"], counts


def of_phase(events: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    """Return the events of one kind: X slices, i marks, s and f ends of arrows, M names."""
    return [event for event in events if event["ph"] == phase]


def test_an_infer_is_a_slice_on_its_gpus_track(tmp_path: Path) -> None:
    """A slice spans the measured execution and tells batch size and prediction."""
    events, counts = trace_of(
        tmp_path,
        None,
        [
            action(0),
            action(
                SECOND,
                worker_id=1,
                gpu_id=2,
                model_id=7,
                batch_size=4,
                worker_exec_duration=2 * MS,
                worker_exec_complete=5 * MS,
            ),
        ],
    )
    assert counts == TraceCounts(actions=2, requests=0, linked=0, is_cut=False)
    second = of_phase(events, "X")[1]
    assert second["name"] == "M7 x4"
    assert (second["ts"], second["dur"]) == (1_003_000, 2_000)
    assert second["args"]["batch_size"] == 4
    assert second["args"]["predicted_ms"] == 3
    assert second["args"]["measured_ms"] == 2
    assert second["args"]["completed_late_ms"] == 1
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in of_phase(events, "M")
        if event["name"] == "thread_name"
    }
    assert names[second["pid"], second["tid"]] == "GPU2 infer"
    processes = [e["args"]["name"] for e in of_phase(events, "M") if e["name"] == "process_name"]
    assert processes == ["worker 0", "worker 1"]


def test_loads_evictions_and_failures_are_told_apart(tmp_path: Path) -> None:
    """A load is a slice on its own track; evictions and failed actions are marks."""
    events, _ = trace_of(
        tmp_path,
        None,
        [
            action(0),
            load(MS, model_id=3),
            action(20 * MS, action_type=ActionType.EVICT_WEIGHTS, worker_exec_duration=0),
            action(30 * MS, status=ActionStatus.EXEC_TOO_LATE, worker_exec_duration=0),
        ],
    )
    infer, loading = of_phase(events, "X")
    assert loading["name"] == "load M3"
    assert loading["tid"] == infer["tid"] + 1
    evicted, failed = of_phase(events, "i")
    assert (evicted["name"], evicted["tid"]) == ("evict M0", loading["tid"])
    assert (failed["name"], failed["tid"]) == ("M0 EXEC_TOO_LATE", infer["tid"])


def test_a_request_points_to_the_batch_that_answered_it(tmp_path: Path) -> None:
    """The arrow starts on the request's slice and ends at the begin of its batch's slice."""
    batch = action(10 * MS, batch_size=2)  # answered 5 ms after it was sent
    answered_at = 15 * MS
    requests = [
        request(0, request_id=1, latency=answered_at),
        request(4 * MS, request_id=2, latency=answered_at - 4 * MS),
        request(5 * MS, request_id=3, latency=answered_at - 5 * MS, model_id=9),
        request(6 * MS, request_id=4, latency=answered_at - 6 * MS + 1),
        request(7 * MS, request_id=5, latency=answered_at - 7 * MS, result=Status.TIMEOUT),
    ]
    events, counts = trace_of(tmp_path, requests, [batch, action(40 * MS)])
    assert (counts.requests, counts.linked) == (5, 2)
    slices = {event["args"].get("request_id"): event for event in of_phase(events, "X")}
    infer = of_phase(events, "X")[0]
    starts, ends = of_phase(events, "s"), of_phase(events, "f")
    assert [(e["tid"], e["ts"]) for e in starts] == [
        (slices[1]["tid"], slices[1]["ts"]),
        (slices[2]["tid"], slices[2]["ts"]),
    ]
    assert {(e["pid"], e["tid"], e["ts"], e["bp"]) for e in ends} == {
        (infer["pid"], infer["tid"], infer["ts"], "e")
    }
    assert [e["id"] for e in starts] == [e["id"] for e in ends]


def test_batches_answered_at_one_instant_share_their_requests(tmp_path: Path) -> None:
    """Two batches of one model that end together take as many requests as they have places."""
    actions = [action(0, action_id=1, batch_size=2), action(0, action_id=2, gpu_id=1)]
    requests = [request(n, latency=5 * MS - n, request_id=n) for n in range(4)]
    events, counts = trace_of(tmp_path, requests, actions)
    assert counts.linked == 3
    ends = Counter(event["tid"] for event in of_phase(events, "f"))
    infers = [event for event in of_phase(events, "X") if event["cat"] == "infer"]
    assert [ends[event["tid"]] for event in infers] == [2, 1]


def test_slices_of_a_track_never_overlap(tmp_path: Path) -> None:
    """Whatever the clocks say, slices on one track follow each other, and stay in order."""
    rng = random.Random(4)
    actions = [
        action(
            n * 3 * MS, gpu_id=n % 2, worker_exec_complete=4 * MS + rng.randrange(-400, 400) * US
        )
        for n in range(200)
    ]
    requests = [request(rng.randrange(SECOND), latency=rng.randrange(40 * MS)) for _ in range(300)]
    events, _ = trace_of(tmp_path, requests, actions)
    ends: dict[tuple[int, int], float] = {}
    for event in sorted(of_phase(events, "X"), key=lambda event: event["ts"]):
        track = (event["pid"], event["tid"])
        assert event["ts"] >= ends.get(track, 0) - 1e-3
        ends[track] = event["ts"] + event["dur"]


def test_a_mark_does_not_shorten_a_slice(tmp_path: Path) -> None:
    """An action that failed while another ran leaves that one as long as it was."""
    running = action(0, worker_exec_duration=9 * MS, worker_exec_complete=10 * MS)
    failed = action(
        5 * MS,
        status=ActionStatus.EXEC_TOO_LATE,
        worker_exec_duration=0,
        worker_exec_complete=0,
    )
    events, _ = trace_of(tmp_path, None, [running, failed])
    assert of_phase(events, "X")[0]["dur"] == 9_000


def test_a_window_and_a_limit_choose_actions(tmp_path: Path) -> None:
    """Only actions sent in the window are shown, the first ones up to the limit."""
    actions = [action(n * SECOND, action_id=n) for n in range(10)]
    requests = [request(n * SECOND, latency=5 * MS) for n in range(10)]
    events, counts = trace_of(
        tmp_path, requests, actions, from_ns=2 * SECOND, to_ns=8 * SECOND, limit=3
    )
    shown = [event["args"]["action_id"] for event in events if event.get("cat") == "infer"]
    assert shown == [2, 3, 4]
    assert counts == TraceCounts(actions=3, requests=3, linked=3, is_cut=True)


def test_an_empty_log_makes_an_empty_trace(tmp_path: Path) -> None:
    """Logs without rows give a valid trace without events."""
    events, counts = trace_of(tmp_path, [], [])
    assert events == []
    assert counts == TraceCounts(actions=0, requests=0, linked=0, is_cut=False)


def test_without_an_action_log_there_is_no_timeline(tmp_path: Path) -> None:
    """The error names the file that is missing."""
    write_logs(tmp_path, [request()])
    with pytest.raises(ConfigurationError, match=ACTION_LOG):
        write_trace(tmp_path, tmp_path / "trace.json")


def test_the_command_writes_compressed_traces(tmp_path: Path) -> None:
    """A name that ends in .gz gives a compressed file; what was left out is said."""
    write_logs(tmp_path, [request()], [action(0), action(SECOND)])
    file = tmp_path / "trace.json.gz"
    outcome = CliRunner().invoke(timeline_command, [str(tmp_path), "-o", str(file), "--limit", "1"])
    assert outcome.exit_code == 0, outcome.output
    assert "1 actions, 1 requests, 1 of them with an arrow" in outcome.output
    assert "--limit ended the trace" in outcome.output
    assert json.loads(gzip.decompress(file.read_bytes()))["displayTimeUnit"] == "ms"
