"""What is wrong with an action, as the status and the sentence of its result.

Everything that the wire can carry passes here before it reaches a device: a number that makes no
sense becomes a failed result, never an exception.

Order and codes of the checks of an Infer: SPEC 5.2 and 5.9. Inputs whose size is not the model's
are taken for compressed ones, which only the device can judge (status 78).
"""

from clockwork.messages.actions import Infer, LoadModel
from clockwork.messages.status import ActionStatus
from clockwork.worker.store import COPIES_MAX, LoadedModel, ModelStore

Refusal = tuple[ActionStatus, str]
"""A status and what to tell the controller."""


def check_load_model(action: LoadModel, store: ModelStore) -> Refusal | None:
    """Return why the model cannot be loaded under its ids, or None."""
    if not 1 <= action.copies <= COPIES_MAX:
        return _invalid(f"{action.copies} copies asked for, 1 to {COPIES_MAX} are possible")
    if action.batch_max < 1:
        return _invalid(f"batch_max is {action.batch_max}, at least 1 is needed")
    if action.model_id < 0:
        return ActionStatus.INVALID_MODEL_ID, f"model id {action.model_id} is negative"
    taken = store.find_taken(action.model_id, action.copies)
    if taken is not None:
        return ActionStatus.INVALID_MODEL_ID, f"model id {taken} is in use"
    return None


def check_infer(
    action: Infer, model: LoadedModel, payload_bytes: int, *, may_lack_inputs: bool
) -> Refusal | None:
    """Return what is wrong with batch size or inputs, or None."""
    largest = model.profile.batch_sizes[-1]
    if not 1 <= action.batch_size <= largest:
        return (
            ActionStatus.COPY_INPUT_INVALID_BATCH_SIZE,
            f"batch size {action.batch_size}, model {action.model_id} runs 1 to {largest}",
        )
    if not payload_bytes:
        return _check_empty(action, model, may_lack_inputs=may_lack_inputs)
    if action.input_sizes:
        return _check_sizes(action, payload_bytes, may_lack_inputs=may_lack_inputs)
    expected = action.batch_size * model.input_bytes
    if payload_bytes != expected:
        text = (
            f"{payload_bytes} bytes of input, {action.batch_size} requests of model "
            f"{action.model_id} have {expected}"
        )
        return ActionStatus.COPY_INPUT_INVALID_INPUT, text
    return None


def _check_empty(action: Infer, model: LoadedModel, *, may_lack_inputs: bool) -> Refusal | None:
    if any(action.input_sizes):
        return _bad_sizes(f"input sizes {action.input_sizes} but no input")
    if len(action.input_sizes) > action.batch_size:
        return _bad_sizes(f"{len(action.input_sizes)} input sizes for {action.batch_size} requests")
    if model.input_bytes and not may_lack_inputs:
        return _lacks_input(action)
    return None


def _check_sizes(action: Infer, payload_bytes: int, *, may_lack_inputs: bool) -> Refusal | None:
    sizes = action.input_sizes
    if len(sizes) > action.batch_size:
        return _bad_sizes(f"{len(sizes)} input sizes for {action.batch_size} requests")
    smallest = min(sizes)
    if smallest < 0:
        return _bad_sizes(f"an input of {smallest} bytes")
    if sum(sizes) != payload_bytes:
        return _bad_sizes(f"input sizes add to {sum(sizes)} bytes, {payload_bytes} came")
    if not may_lack_inputs and (smallest == 0 or len(sizes) < action.batch_size):
        return _lacks_input(action)
    return None


def _invalid(text: str) -> Refusal:
    return ActionStatus.INVALID_ACTION, text


def _bad_sizes(text: str) -> Refusal:
    return ActionStatus.COPY_INPUT_BAD_SIZES, text


def _lacks_input(action: Infer) -> Refusal:
    text = (
        f"model {action.model_id} needs inputs; requests without them are allowed only with "
        "allow_zero_size_inputs"
    )
    return ActionStatus.COPY_INPUT_INVALID_INPUT, text
