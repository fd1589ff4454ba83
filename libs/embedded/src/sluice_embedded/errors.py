"""Why a server does not start; each message is one sentence for a person."""

__all__ = ["DataInUse", "PortBusy", "ServerError", "StartFailed", "WrongVersion"]


class ServerError(Exception):
    """A server cannot be started; the message says what to do about it."""


class DataInUse(ServerError):
    """Another live server holds the data directory."""


class PortBusy(ServerError):
    """Somebody else listens on the port that was asked for."""


class WrongVersion(ServerError):
    """The data directory was written by another major version."""


class StartFailed(ServerError):
    """The server ended, or did not answer in time; the last lines of its log are part of the message."""
