"""What can go wrong for an agent."""

__all__ = ["ApiError", "BusAway"]


class ApiError(Exception):
    """The platform refused a request for good, or did not answer for longer than agents wait.

    Attributes
    ----------
    status
        HTTP status; None: there was no answer.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class BusAway(Exception):
    """The broker cannot be reached, or does not want us; the text says why."""
