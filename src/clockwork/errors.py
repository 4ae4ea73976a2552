"""What can go wrong for a user, as exceptions whose messages say what to do.

::

    ClockworkError
     +- ConfigurationError      an option, file or environment variable is wrong
     +- ModelError              a model file or model directory cannot be used
     +- ProtocolError           a peer sent bytes that are no message of ours
     +- ConnectionLostError     the other side is not there, or went away
     +- RequestError            the controller answered a request with a status other than 0
         +- InitializingError   5: the controller is still starting
         +- InvalidRequestError 6: the request itself is wrong (shape, dtype, model, path)
         +- DeadlineError       the promise could not be kept
         |   +- TimedOutError   4: the deadline passed before the request could run
         |   +- RejectedError   8 (7): the controller knew that it could not finish in time
         +- FailedError         1: a worker failed, or anything else
"""


class ClockworkError(Exception):
    """The base of every exception that Clockwork raises on purpose."""


class ConfigurationError(ClockworkError):
    """An option, configuration file or environment variable has a wrong value."""


class ModelError(ClockworkError):
    """A model file or model directory is missing, broken or not supported."""


class ProtocolError(ClockworkError):
    """A peer sent bytes that are not a message of this protocol version."""


class ConnectionLostError(ClockworkError):
    """The other side cannot be reached or closed the connection."""


class RequestError(ClockworkError):
    """The controller answered with a status other than success.

    Attributes:
        status: the status code of the response (see `clockwork.messages.status.Status`).
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class InitializingError(RequestError):
    """The controller is still in its startup phases; try again in a moment."""


class InvalidRequestError(RequestError):
    """The request cannot be served as it is: unknown model, wrong shape, dtype or path."""


class DeadlineError(RequestError):
    """The request was not, or could not be, answered by its deadline."""


class TimedOutError(DeadlineError):
    """The deadline passed before the request could run."""


class RejectedError(DeadlineError):
    """The controller refused the request because it could not finish it in time."""


class FailedError(RequestError):
    """The request failed on the server's side."""
