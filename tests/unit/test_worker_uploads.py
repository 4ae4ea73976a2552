"""Uploads at the worker role: steps go to the shell as they come and are answered as they end."""

from worker_stage import Stage, results, statuses

from clockwork.messages.actions import ActionFailed
from clockwork.messages.ids import ActionId
from clockwork.messages.status import ActionStatus
from clockwork.messages.uploads import (
    BeginUpload,
    DropUploads,
    EndUpload,
    StoreChunk,
    StoreUpload,
    UploadAction,
    UploadDone,
    UploadFile,
    UploadStored,
)
from clockwork.messages.worker_io import ControllerLost, Shutdown
from clockwork.worker.uploads import OPEN_MAX

FILES = (UploadFile("model.json", 3, "0" * 64),)
BEGIN = BeginUpload(ActionId(1), "resnet", FILES)
CHUNK = StoreChunk(ActionId(2), "resnet", 0, 0)
END = EndUpload(ActionId(3), "resnet", is_complete=True)


def stored(stage: Stage, *actions: UploadAction, payload: bytes = b"") -> list[StoreUpload]:
    """Send steps; return what the shell is told to do."""
    effects = stage.send(*actions, payload=payload)
    orders = [effect for effect in effects if isinstance(effect, StoreUpload)]
    assert len(orders) == len(effects)
    return orders


def test_steps_are_handed_over_in_order_with_their_bytes() -> None:
    """The role waits for none of them."""
    stage = Stage()
    orders = stored(stage, BEGIN, CHUNK, END, payload=b"abc")
    assert [order.action for order in orders] == [BEGIN, CHUNK, END]
    assert [order.payload for order in orders] == [b"abc"] * 3
    assert len({order.task_id for order in orders}) == 3


def test_each_step_gets_one_result() -> None:
    """What is there already, and what failed, is told with the times of the worker's clock."""
    stage = Stage()
    begin, chunk = stored(stage, BEGIN, CHUNK)
    received_ns, stage.now_ns = stage.now_ns, stage.now_ns + 5
    effects = stage.handle(UploadStored(begin.task_id, is_there=True))
    assert results(effects) == [UploadDone(ActionId(1), True, received_ns, stage.now_ns)]
    failure = UploadStored(chunk.task_id, False, ActionStatus.RUNTIME_ERROR, "the disk is full")
    (result,) = results(stage.handle(failure))
    assert isinstance(result, ActionFailed)
    assert (result.action_id, result.status) == (2, ActionStatus.RUNTIME_ERROR)
    assert result.message == "the disk is full"


def test_a_lost_controller_gets_nothing_and_leaves_nothing() -> None:
    """What was under way is dropped; the next controller's upload is answered."""
    stage = Stage()
    (begin,) = stored(stage, BEGIN)
    assert stage.handle(ControllerLost()) == [DropUploads()]
    assert stage.handle(UploadStored(begin.task_id, is_there=False)) == []
    assert stage.handle(ControllerLost()) == []
    (again,) = stored(stage, BEGIN)
    assert statuses(stage.handle(UploadStored(again.task_id, is_there=False))) == [(1, 0)]


def test_more_steps_than_anybody_sends_are_refused() -> None:
    """The shell's queue is bounded."""
    stage = Stage()
    stored(stage, *[CHUNK] * OPEN_MAX)
    (result,) = results(stage.send(CHUNK))
    assert isinstance(result, ActionFailed)
    assert "1024 steps of uploads are under way" in result.message


def test_a_worker_that_shuts_down_begins_no_upload() -> None:
    """What was begun is still answered."""
    stage = Stage()
    (begin,) = stored(stage, BEGIN)
    stage.handle(Shutdown())
    assert statuses(stage.send(CHUNK)) == [(2, ActionStatus.SHUTTING_DOWN)]
    assert statuses(stage.handle(UploadStored(begin.task_id, is_there=False))) == [(1, 0)]
