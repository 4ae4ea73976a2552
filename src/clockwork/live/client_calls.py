"""A client's calls: patience with a controller that starts, time limits, redialling, resending.

A call ends exactly once: with a response of status 0, or with the exception that tells why not.
While the controller is starting or ending (nobody listens, or status 5) a call is tried again until
the client's patience ends.

When the connection breaks nobody knows what became of the calls that were under way. Those that may
be carried out twice without harm (`REPEATABLE`, inferences above all) are sent again on the next
connection, which is dialled at once: with what is left of their SLO, not after it, not after their
time limit, and `RESENDS_MAX` times. The others end with ConnectionLostError.

Everything but `next_id` belongs to the loop's thread.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from msgspec.structs import replace

from clockwork.errors import ClockworkError, ConnectionLostError
from clockwork.live.addresses import Address
from clockwork.live.client_connection import ClientConnection
from clockwork.live.clock import now_ns
from clockwork.live.dialling import Backoff
from clockwork.live.outcomes import error_of, request_error
from clockwork.messages.requests import (
    OVERLOADED,
    EvictRequest,
    InferRequest,
    InferResponse,
    LsRequest,
    Request,
    Response,
)
from clockwork.messages.role import Payload
from clockwork.messages.status import Status
from clockwork.parts.throttle import Throttle
from clockwork.units import SECOND

REPEATABLE: Final = (InferRequest, LsRequest, EvictRequest)
"""Requests that leave the same behind whether they are carried out once or twice."""
RESENDS_MAX: Final = 3
"""How often a call survives a broken connection; chosen: a request that ends its controller must
not end all that follow."""
THROTTLED: Final = f"{OVERLOADED} (this client did not send the request)"
RETRY_S: Final = 0.1
"""Wait before a request that was answered with 5 is sent again; the controller holds it longer."""

Done = Callable[[Response | ClockworkError, Payload, int], None]
"""Takes how a call ended: a successful response or an exception, the payload, the latency in ns."""


class Call:
    """One request on its way, and who waits for it."""

    __slots__ = (
        "begin_ns",
        "deadline_ns",
        "done",
        "is_over",
        "loss",
        "payloads",
        "request",
        "resend_count",
        "slo_timer",
        "timer",
    )

    def __init__(self, request: Request, payloads: Sequence[Payload], done: Done) -> None:
        self.request = request
        self.payloads = payloads
        self.done = done
        self.begin_ns = now_ns()
        self.is_over = False
        # Ends the call when its time is over; None without a limit.
        self.timer: asyncio.TimerHandle | None = None
        # When its SLO ends, counted from when it was sent first; None without an SLO in time.
        self.deadline_ns: int | None = None
        # Why it has to be sent again; None if it was never lost.
        self.loss: ConnectionLostError | None = None
        # Ends the call if its SLO ends before it could be sent again.
        self.slo_timer: asyncio.TimerHandle | None = None
        self.resend_count = 0


class Calls:
    """Starts calls to one controller, over one connection at a time."""

    def __init__(self, address: Address, *, timeout_s: float, resend: bool = True) -> None:
        """Prepare; the first call dials, or `connect`.

        Args:
            address: where the controller listens.
            timeout_s: patience with a controller that is not there or still starting.
            resend: whether calls survive a broken connection.
        """
        self._resend = resend
        self._throttle = Throttle()
        self._address = address
        self._timeout_s = timeout_s
        self._ids = count()
        self._connection: ClientConnection | None = None
        self._dialling: asyncio.Task[ClientConnection] | None = None
        self._is_closed = False

    def next_id(self) -> int:
        """Return a `user_request_id` for a new request; from any thread."""
        return next(self._ids)

    async def connect(self) -> None:
        """Dial until the controller is there.

        Raises:
            ConnectionLostError: it was not there in time, or refuses us.
        """
        await self._dial()

    def start(self, call: Call, timeout_s: float | None = None) -> None:
        """Send a call's request, dialling first if need be; `call.done` is called once.

        Args:
            call: made just now.
            timeout_s: how long the call may take; None: until it is answered.
        """
        if isinstance(call.request, InferRequest) and self._throttle.refuses(now_ns()):
            self._end(call, request_error(Status.COULD_NOT_START_IN_TIME, THROTTLED))
            return
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            call.timer = loop.call_later(timeout_s, self._expire, call, timeout_s)
        self._dispatch(call)

    def _dispatch(self, call: Call) -> None:
        """Send a call's request on the connection, or on the next one."""
        connection = self._connection
        if connection is not None and connection.is_open:
            self._send(call, connection)
        elif self._is_closed:
            self._end(call, ConnectionLostError("this client is closed"))
        else:
            self._dial().add_done_callback(lambda task: self._on_dialled(task, call))

    async def close(self) -> None:
        """Close the connection; calls under way end with ConnectionLostError."""
        self._is_closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    def _dial(self) -> "asyncio.Task[ClientConnection]":
        """Return the task that dials: all who need a connection wait for the same one."""
        if self._dialling is None:
            self._dialling = asyncio.ensure_future(self._dial_patiently())
        return self._dialling

    async def _dial_patiently(self) -> ClientConnection:
        backoff = Backoff()
        last: ConnectionLostError | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    connection = ClientConnection(self._address)
                    try:
                        await connection.open()
                    except ConnectionLostError as error:
                        if connection.is_hopeless:
                            raise
                        last = error
                    else:
                        self._connection = connection
                        return connection
                    await asyncio.sleep(backoff.next_s())
        except TimeoutError:
            raise ConnectionLostError(
                f"{last or f'no answer from {self._address}'} (waited {self._timeout_s:g} s)"
            ) from None
        finally:
            self._dialling = None

    def _on_dialled(self, task: "asyncio.Task[ClientConnection]", call: Call) -> None:
        if task.cancelled():
            self._end(call, ConnectionLostError("this client is closed"))
            return
        error = task.exception()
        if error is None:
            self._send(call, task.result())
        else:
            # An exception of its own for each call: raising adds to its traceback.
            self._end(call, ConnectionLostError(str(error)))

    def _send(self, call: Call, connection: ClientConnection) -> None:
        if call.is_over:
            return
        self._note_deadline(call)

        def answer(response: Response | ConnectionLostError, payload: Payload, at_ns: int) -> None:
            if isinstance(response, InferResponse):
                is_late = call.deadline_ns is not None and at_ns > call.deadline_ns
                self._throttle.note(response, is_late=is_late)
            if isinstance(response, ConnectionLostError):
                self._on_loss(call, response)
            elif response.status is Status.SUCCESS:
                self._end(call, response, payload, at_ns)
            elif response.status is Status.INITIALIZING and self._is_patient(call):
                self._retry(call, connection)
            else:
                self._end(call, error_of(response) or response)

        connection.send(call.request, call.payloads, answer)

    def _retry(self, call: Call, connection: ClientConnection) -> None:
        """Send a call that was not looked at again; its SLO begins anew unless it was lost once."""
        if call.loss is not None and call.deadline_ns is not None and call.deadline_ns < now_ns():
            self._give_up(call, call.loss)
        else:
            asyncio.get_running_loop().call_later(RETRY_S, self._send, call, connection)

    def _note_deadline(self, call: Call) -> None:
        """Find a call's deadline when it is sent first; later give it what is left."""
        request = call.request
        if not isinstance(request, InferRequest) or not request.slo_ns:
            return
        if call.loss is None:
            call.deadline_ns = now_ns() + request.slo_ns
        elif call.deadline_ns is not None:
            left_ns = max(call.deadline_ns - now_ns(), 1)
            call.request = replace(request, slo_ns=left_ns)
        if call.slo_timer is not None:
            call.slo_timer.cancel()

    def _on_loss(self, call: Call, error: ConnectionLostError) -> None:
        """Send a call again if that is safe and of use; else end it."""
        is_safe = self._resend and isinstance(call.request, REPEATABLE)
        left_ns = None if call.deadline_ns is None else call.deadline_ns - now_ns()
        is_late = left_ns is not None and left_ns <= 0
        if self._is_closed or call.is_over or not is_safe or is_late:
            self._end(call, error)
        elif call.resend_count == RESENDS_MAX:
            self._end(call, ConnectionLostError(f"{error} (sent {RESENDS_MAX + 1} times)"))
        else:
            call.loss = error
            call.resend_count += 1
            if left_ns is not None:
                loop = asyncio.get_running_loop()
                call.slo_timer = loop.call_later(left_ns / SECOND, self._give_up, call, error)
            self._dispatch(call)

    def _give_up(self, call: Call, error: ConnectionLostError) -> None:
        text = f"{error}; its SLO ended before it could be sent again"
        self._end(call, ConnectionLostError(text))

    def _is_patient(self, call: Call) -> bool:
        waited_ns = now_ns() - call.begin_ns
        return not call.is_over and waited_ns + RETRY_S * SECOND < self._timeout_s * SECOND

    def _expire(self, call: Call, timeout_s: float) -> None:
        if self._connection is not None:
            self._connection.forget(call.request.user_request_id)
        text = f"no answer within {timeout_s:g} s: allow a larger timeout_s, or an slo_ms below it"
        self._end(call, request_error(Status.TIMEOUT, text))

    def _end(
        self,
        call: Call,
        outcome: Response | ClockworkError,
        payload: Payload = b"",
        at_ns: int = 0,
    ) -> None:
        if call.is_over:
            return
        call.is_over = True
        for timer in (call.timer, call.slo_timer):
            if timer is not None:
                timer.cancel()
        call.done(outcome, payload, at_ns - call.begin_ns)
