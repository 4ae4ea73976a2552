"""What a response's status means to a Python caller: nothing, or an exception that says what to do.

Source: SPEC 2.1; the tree of exceptions is in `clockwork.errors`.
"""

from typing import Final

from clockwork.errors import (
    FailedError,
    InitializingError,
    InvalidRequestError,
    RejectedError,
    RequestError,
    TimedOutError,
)
from clockwork.messages.requests import Response
from clockwork.messages.status import Status

_ERRORS: Final[dict[Status, type[RequestError]]] = {
    Status.ERROR: FailedError,
    Status.TIMEOUT: TimedOutError,
    Status.INITIALIZING: InitializingError,
    Status.INVALID_REQUEST: InvalidRequestError,
    Status.SKIPPED: RejectedError,
    Status.COULD_NOT_START_IN_TIME: RejectedError,
}
_WHAT: Final[dict[Status, str]] = {
    Status.ERROR: "the request failed",
    Status.TIMEOUT: "the deadline passed before the request could run",
    Status.INITIALIZING: "the controller is still starting",
    Status.INVALID_REQUEST: "the request cannot be served as it is",
    Status.SKIPPED: "the request was given up in favour of a larger batch of later ones",
    Status.COULD_NOT_START_IN_TIME: "no GPU could have finished the request by its deadline",
}
_ADVICE: Final[dict[Status, str]] = {
    Status.ERROR: "the controller's log tells more",
    Status.TIMEOUT: "allow a larger slo_ms, send less, or add workers",
    Status.INITIALIZING: "try again in a moment",
    Status.INVALID_REQUEST: "correct it before sending it again",
    Status.SKIPPED: "send it again, or allow a larger slo_ms",
    Status.COULD_NOT_START_IN_TIME: "allow a larger slo_ms, send less, or add workers",
}


def error_of(response: Response) -> RequestError | None:
    """Return the exception that tells the outcome of a request; None if it succeeded."""
    if response.status is Status.SUCCESS:
        return None
    return request_error(response.status, response.message)


def request_error(status: Status, message: str) -> RequestError:
    """Return the exception for `status`; `message` tells what happened, or is empty."""
    text = message or f"{_WHAT[status]}: {_ADVICE[status]}"
    return _ERRORS[status](text, status=status.value)


def invalid(message: str) -> InvalidRequestError:
    """Return the exception for a request that was not even sent."""
    return InvalidRequestError(message, status=Status.INVALID_REQUEST.value)
