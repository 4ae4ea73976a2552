"""Rows of the action log, from an action as it was planned and its result (SPEC 6.2)."""

from typing import Final

from clockwork.controller.underway import PendingEvict, PendingInfer, PendingLoad
from clockwork.messages.actions import (
    ActionFailed,
    ActionType,
    EvictWeightsDone,
    InferDone,
    LoadWeightsDone,
)
from clockwork.messages.records import ActionRecord
from clockwork.messages.status import ActionStatus

_OK: Final = ActionStatus.SUCCESS
_INFER: Final = ActionType.INFER
_LOAD: Final = ActionType.LOAD_WEIGHTS


def infer_row(
    pending: PendingInfer, result: InferDone, *, goodput: float, received_ns: int, now_ns: int
) -> ActionRecord:
    """Return the row of a batch that ran."""
    sent_ns, instance = pending.sent_at_ns, pending.instance
    gpu = instance.gpu
    # A worker's clock may seem to run ahead: no event lies before the sending.
    received_at_ns = result.received_at_ns
    base_ns = sent_ns if sent_ns < received_at_ns else received_at_ns
    # Comparisons instead of `max`, and positional: both together halve the cost of this, the
    # longest record.
    run, clock_before_mhz = result.exec, result.clock_before_mhz
    exec_end_ns = run.end_ns - base_ns
    output_end_ns = result.copy_output.end_ns - base_ns
    result_sent_ns = result.sent_at_ns - base_ns
    return ActionRecord(
        sent_ns,
        pending.action_id,
        _INFER,
        _OK,
        gpu.worker.worker_id,
        gpu.gpu_id,
        instance.model.model_id,
        len(pending.requests),
        pending.expected_ns,
        run.duration_ns,
        pending.start_ns + pending.expected_ns - sent_ns,
        exec_end_ns if exec_end_ns > 0 else 0,
        clock_before_mhz,
        clock_before_mhz,
        result.clock_mhz,
        output_end_ns if output_end_ns > 0 else 0,
        received_at_ns - base_ns,
        result_sent_ns if result_sent_ns > 0 else 0,
        received_ns - sent_ns,
        now_ns - sent_ns,
        goodput,
        pending.queued_after,
        pending.copies_loaded,
    )


def load_row(
    pending: PendingLoad, result: LoadWeightsDone, *, received_ns: int, now_ns: int
) -> ActionRecord:
    """Return the row of a load that succeeded."""
    sent_ns, instance = pending.sent_at_ns, pending.instance
    gpu = instance.gpu
    received_at_ns = result.received_at_ns
    base_ns = sent_ns if sent_ns < received_at_ns else received_at_ns
    timing, expected_ns = result.timing, pending.expected_ns
    end_ns = timing.end_ns - base_ns
    result_sent_ns = result.sent_at_ns - base_ns
    # Positional for the same reason as above.
    return ActionRecord(
        sent_ns,
        pending.action_id,
        _LOAD,
        _OK,
        gpu.worker.worker_id,
        gpu.gpu_id,
        instance.model.model_id,
        1,
        expected_ns,
        timing.duration_ns,
        pending.start_ns + expected_ns - sent_ns,
        end_ns if end_ns > 0 else 0,
        0,
        0,
        0,
        0,
        received_at_ns - base_ns,
        result_sent_ns if result_sent_ns > 0 else 0,
        received_ns - sent_ns,
        now_ns - sent_ns,
        1.0,
        0,
        pending.copies_loaded,
    )


def other_row(
    pending: PendingInfer | PendingLoad | PendingEvict,
    result: ActionFailed | EvictWeightsDone,
    *,
    received_ns: int,
    now_ns: int,
) -> ActionRecord:
    """Return the row of a failed action or of an eviction."""
    sent_ns = pending.sent_at_ns
    shift_ns = max(sent_ns - result.received_at_ns, 0)
    expected_ns, start_ns = _expectation(pending)
    status = result.status if isinstance(result, ActionFailed) else _OK
    is_infer = isinstance(pending, PendingInfer)
    return ActionRecord(
        t=sent_ns,
        action_id=pending.action_id,
        action_type=_type_of(pending),
        status=status,
        worker_id=pending.instance.gpu.worker.worker_id,
        gpu_id=pending.instance.gpu.gpu_id,
        model_id=pending.instance.model.model_id,
        batch_size=len(pending.requests) if isinstance(pending, PendingInfer) else 1,
        expected_exec_duration=expected_ns,
        worker_exec_duration=0,
        expected_exec_complete=max(start_ns + expected_ns - sent_ns, 0),
        worker_exec_complete=0,
        expected_gpu_clock=0,
        worker_gpu_clock_before=0,
        worker_gpu_clock=0,
        worker_copy_output_complete=0,
        worker_action_received=max(result.received_at_ns + shift_ns - sent_ns, 0),
        worker_result_sent=max(result.sent_at_ns + shift_ns - sent_ns, 0),
        controller_result_enqueue=received_ns - sent_ns,
        controller_action_duration=now_ns - sent_ns,
        goodput=1.0 if status is _OK and not is_infer else 0.0,
        requests_queued=pending.queued_after if isinstance(pending, PendingInfer) else 0,
        copies_loaded=pending.copies_loaded,
    )


def _expectation(pending: PendingInfer | PendingLoad | PendingEvict) -> tuple[int, int]:
    if isinstance(pending, PendingEvict):
        return 0, pending.sent_at_ns
    return pending.expected_ns, pending.start_ns


def _type_of(pending: PendingInfer | PendingLoad | PendingEvict) -> ActionType:
    if isinstance(pending, PendingInfer):
        return ActionType.INFER
    if isinstance(pending, PendingLoad):
        return ActionType.LOAD_WEIGHTS
    return ActionType.EVICT_WEIGHTS
