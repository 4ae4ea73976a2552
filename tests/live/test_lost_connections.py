"""What is left of a connection when it is lost: nothing."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from wire_stage import Port, dial

from clockwork.messages.ids import ModelId
from clockwork.messages.requests import InferResponse
from clockwork.messages.status import Status
from clockwork.units import MIB


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_lost_connection_takes_no_memory(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """Nothing but its owner keeps it, as the collector leaves alone what has grown old."""

    async def scenario() -> None:
        async with Port() as port:
            ours, our_recorder = await dial(port.port)
            theirs, their_recorder = await port.accepted()
            await our_recorder.ready.wait()
            await their_recorder.ready.wait()
            theirs.send(
                InferResponse(1, Status.SUCCESS, "", ModelId(1), 1, 0, False), (bytes(MIB),)
            )
            await our_recorder.wait_for(1)
            theirs.close("that was all")
            await our_recorder.closed
            await ours.wait_closed()
            await theirs.wait_closed()
            left = [weakref.ref(ours), weakref.ref(theirs)]
            del ours, theirs, our_recorder, their_recorder
            port.connections.clear()
            port.recorders.clear()
            # What the loop notes of a turn goes with it.
            await asyncio.sleep(0)
            assert [ref() for ref in left] == [None, None]

    gc.disable()
    try:
        run(scenario())
    finally:
        gc.enable()
