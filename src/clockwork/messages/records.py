"""Telemetry rows as the controller emits them (SPEC 6.1, 6.2, with the decided meanings).

Field order is the column order of the two TSV files. All times are nanoseconds; ``rel`` columns
count from the instant when the action was sent and are never negative.
"""

from msgspec import Struct

from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus, Status


class RequestRecord(Struct, frozen=True, gc=False):
    """One row of ``clockwork_request_log.tsv``: a request and its response."""

    # Arrival at the controller.
    t: int
    request_id: int
    result: Status
    user_id: int
    model_id: int
    slo_factor: float
    # Departure minus arrival.
    latency: int
    # The promised duration: deadline minus arrival.
    deadline: int
    # 1 if it succeeded by its deadline.
    deadline_met: int
    # GPUs that held the model's weights at arrival, and at departure.
    arrival_count: int
    departure_count: int
    # 1 if `arrival_count` is 0.
    is_coldstart: int


class ActionRecord(Struct, frozen=True, gc=False):
    """One row of ``clockwork_action_log.tsv``: a LoadWeights, Infer or EvictWeights."""

    # When the action was sent.
    t: int
    action_id: int
    action_type: ActionType
    status: ActionStatus
    worker_id: int
    gpu_id: int
    model_id: int
    # 1 for loads and evicts.
    batch_size: int
    expected_exec_duration: int
    worker_exec_duration: int
    expected_exec_complete: int
    worker_exec_complete: int
    expected_gpu_clock: int
    worker_gpu_clock_before: int
    worker_gpu_clock: int
    worker_copy_output_complete: int
    worker_action_received: int
    worker_result_sent: int
    # Result received minus action sent.
    controller_result_enqueue: int
    # Result processed minus action sent.
    controller_action_duration: int
    # Share of the batch that was answered by its deadline, 0 to 1; 1 for a successful load.
    goodput: float
    # Requests of the model still queued after this action took its own.
    requests_queued: int
    # GPUs that held the model when the action was sent.
    copies_loaded: int


Record = RequestRecord | ActionRecord
