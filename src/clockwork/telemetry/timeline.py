"""Turns rows of the two logs into events of a trace for Perfetto and Chrome's trace viewer.

What is shown: a process per worker with two tracks per GPU, what it executes and what it loads; a
process with the requests from arrival to departure; an arrow from each request to the batch that
answered it. Failed actions and evictions are marks on their GPU's track.

Why arrows can be drawn: the logs do not say which action answered a request, but the controller
answers all requests of a batch at the instant at which it processes the batch's result. So a
request belongs to the successful Infer of its model with ``t + controller_action_duration`` equal
to the request's ``t + latency``. Two batches of one model whose results were processed at the
same instant are told apart by order: the older requests go to the action that was sent first.

Invariants: slices of a track never overlap; one that seems to begin before its predecessor ended
(two clocks, microseconds) begins where that one ended. Times count from the begin of the logs.

Source: the Trace Event Format of Chrome's trace viewer, as JSON.

Not here: files (`trace_file.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final

from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus, Status
from clockwork.units import MS, US

TIMELINE_ACTION_COLUMNS: Final = (
    "t",
    "action_id",
    "action_type",
    "status",
    "worker_id",
    "gpu_id",
    "model_id",
    "batch_size",
    "expected_exec_duration",
    "worker_exec_duration",
    "expected_exec_complete",
    "worker_exec_complete",
    "worker_action_received",
    "controller_action_duration",
    "requests_queued",
)
"""Columns of the action log that a trace needs."""
TIMELINE_REQUEST_COLUMNS: Final = (
    "t",
    "request_id",
    "result",
    "user_id",
    "model_id",
    "latency",
    "is_coldstart",
)
"""Columns of the request log that a trace needs."""

Event = dict[str, object]
Row = dict[str, int]

# Process 0 is the idle task for some viewers, so requests come first with 1.
_REQUESTS: Final = 1
_FIRST_WORKER: Final = 2
# Ids of tracks that each process has to itself.
_TRACKS: Final = 1_000_000
_LOAD_TYPES: Final = (ActionType.LOAD_WEIGHTS, ActionType.EVICT_WEIGHTS)


def link(actions: Sequence[Row], requests: Sequence[Row]) -> dict[int, int]:
    """Return, by index of request, the index of the action that answered it.

    Args:
        actions: in order of sending.
        requests: in order of arrival.
    """
    # By model and instant of the answers: indices of actions, once per request of the batch.
    places: dict[tuple[int, int], list[int]] = {}
    for index, action in enumerate(actions):
        if action["action_type"] == ActionType.INFER and action["status"] == ActionStatus.SUCCESS:
            answered_at_ns = action["t"] + action["controller_action_duration"]
            batch = places.setdefault((action["model_id"], answered_at_ns), [])
            batch += [index] * action["batch_size"]
    for batch in places.values():
        batch.reverse()
    links = {}
    for index, request in enumerate(requests):
        left = places.get((request["model_id"], request["t"] + request["latency"]))
        if left and request["result"] == Status.SUCCESS:
            links[index] = left.pop()
    return links


def trace_events(
    actions: Sequence[Row],
    requests: Sequence[Row],
    links: Mapping[int, int],
    *,
    origin_ns: int,
) -> Iterator[Event]:
    """Yield all events of a trace.

    Args:
        actions: with `TIMELINE_ACTION_COLUMNS`, in order of sending.
        requests: with `TIMELINE_REQUEST_COLUMNS`, in order of arrival.
        links: which action answered a request, from `link`.
        origin_ns: the instant that the trace shows as 0.
    """
    begins = _begins(actions)
    lanes = _lanes(requests)
    yield from _names(actions, lane_count=max(lanes, default=-1) + 1)
    for action, begin_ns in zip(actions, begins, strict=True):
        yield _action(action, begin_ns, origin_ns)
    for index, (request, lane) in enumerate(zip(requests, lanes, strict=True)):
        yield _request(request, lane, origin_ns)
        if index in links:
            answer = links[index]
            yield from _arrow(
                index, request, lane, actions[answer], begins[answer], origin_ns=origin_ns
            )


def _names(actions: Sequence[Row], *, lane_count: int) -> Iterator[Event]:
    """Yield the names of processes and tracks, workers and GPUs in order."""
    for worker_id in sorted({action["worker_id"] for action in actions}):
        yield _name("process_name", _FIRST_WORKER + worker_id, 0, f"worker {worker_id}")
    for worker_id, gpu_id in sorted({(row["worker_id"], row["gpu_id"]) for row in actions}):
        for kind, offset in (("infer", 0), ("load", 1)):
            process, track = _gpu_track(worker_id, gpu_id, offset)
            yield _name("thread_name", process, track, f"GPU{gpu_id} {kind}")
    if lane_count:
        yield _name("process_name", _REQUESTS, 0, "requests")
    for lane in range(lane_count):
        yield _name("thread_name", _REQUESTS, lane, f"in flight {lane + 1}")


def _begins(actions: Sequence[Row]) -> list[int]:
    """Return when each action's task began, at the earliest when its track was free."""
    begins = [0] * len(actions)
    free_at_ns: dict[tuple[int, int], int] = {}
    for index in sorted(range(len(actions)), key=lambda index: _end_ns(actions[index])):
        action = actions[index]
        end_ns = _end_ns(action)
        track = _track(action)
        begin_ns = max(end_ns - action["worker_exec_duration"], free_at_ns.get(track, 0))
        begins[index] = min(begin_ns, end_ns)
        if action["worker_exec_duration"]:  # a mark takes no room
            free_at_ns[track] = end_ns
    return begins


def _action(action: Row, begin_ns: int, origin_ns: int) -> Event:
    """Return a slice for an action that took time, else a mark."""
    process, track = _track(action)
    event: Event = {
        "name": _action_name(action),
        "cat": ActionType(action["action_type"]).name.lower(),
        "pid": process,
        "tid": track,
        "ts": _us(begin_ns - origin_ns),
        "args": _action_details(action, origin_ns),
    }
    if action["worker_exec_duration"]:
        return event | {"ph": "X", "dur": _us(_end_ns(action) - begin_ns)}
    return event | {"ph": "i", "s": "t"}


def _action_name(action: Row) -> str:
    model = f"M{action['model_id']}"
    if action["status"] != ActionStatus.SUCCESS:
        known = action["status"] in set(ActionStatus)
        return f"{model} {ActionStatus(action['status']).name if known else action['status']}"
    if action["action_type"] == ActionType.INFER:
        return f"{model} x{action['batch_size']}"
    return f"{'load' if action['action_type'] == ActionType.LOAD_WEIGHTS else 'evict'} {model}"


def _action_details(action: Row, origin_ns: int) -> dict[str, float]:
    details: dict[str, float] = {
        "action_id": action["action_id"],
        "model_id": action["model_id"],
        "sent_at_ms": (action["t"] - origin_ns) / MS,
        "predicted_ms": action["expected_exec_duration"] / MS,
        "measured_ms": action["worker_exec_duration"] / MS,
    }
    if action["worker_exec_duration"]:
        late_ns = action["worker_exec_complete"] - action["expected_exec_complete"]
        details["completed_late_ms"] = late_ns / MS
    if action["action_type"] == ActionType.INFER:
        details["batch_size"] = action["batch_size"]
        details["requests_queued"] = action["requests_queued"]
    return details


def _lanes(requests: Sequence[Row]) -> list[int]:
    """Return a track for each request such that no two overlap on one: the lowest free one."""
    lanes = []
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    for request in requests:
        while busy and busy[0][0] <= request["t"]:
            heappush(free, heappop(busy)[1])
        lane = heappop(free) if free else len(busy)
        heappush(busy, (request["t"] + request["latency"], lane))
        lanes.append(lane)
    return lanes


def _request(request: Row, lane: int, origin_ns: int) -> Event:
    known = request["result"] in set(Status)
    return {
        "name": f"M{request['model_id']}",
        "cat": "request",
        "ph": "X",
        "pid": _REQUESTS,
        "tid": lane,
        "ts": _us(request["t"] - origin_ns),
        "dur": _us(request["latency"]),
        "args": {
            "request_id": request["request_id"],
            "status": Status(request["result"]).name if known else request["result"],
            "user_id": request["user_id"],
            "cold_start": bool(request["is_coldstart"]),
        },
    }


def _arrow(
    number: int, request: Row, lane: int, action: Row, begin_ns: int, *, origin_ns: int
) -> Iterator[Event]:
    """Yield both ends of an arrow; each binds to the slice that is there at its time."""
    process, track = _track(action)
    common: Event = {"name": "answered by", "cat": "request", "id": number}
    start: Event = {"ph": "s", "pid": _REQUESTS, "tid": lane, "ts": _us(request["t"] - origin_ns)}
    finish: Event = {"ph": "f", "bp": "e", "pid": process, "tid": track}
    yield common | start
    yield common | finish | {"ts": _us(begin_ns - origin_ns)}


def _track(action: Row) -> tuple[int, int]:
    offset = 1 if action["action_type"] in _LOAD_TYPES else 0
    return _gpu_track(action["worker_id"], action["gpu_id"], offset)


def _gpu_track(worker_id: int, gpu_id: int, offset: int) -> tuple[int, int]:
    """Return process and track; tracks differ between processes, as ids of threads do."""
    process = _FIRST_WORKER + worker_id
    return process, process * _TRACKS + 2 * gpu_id + offset


def _end_ns(action: Row) -> int:
    """Return when the task ended; for one that never ran, when its worker got the action."""
    return action["t"] + (action["worker_exec_complete"] or action["worker_action_received"])


def _name(kind: str, process: int, track: int, name: str) -> Event:
    return {"name": kind, "ph": "M", "pid": process, "tid": track, "args": {"name": name}}


def _us(time_ns: int) -> float:
    """Return microseconds, the unit of traces, with the nanoseconds as decimals."""
    return time_ns / US
