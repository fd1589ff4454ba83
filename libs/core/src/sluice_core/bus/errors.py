"""What a publisher can be told."""

__all__ = ["BusAway", "BusError", "StreamDiffers", "StreamRefused"]


class BusError(Exception):
    """Something between us and NATS."""


class BusAway(BusError):
    """NATS cannot be reached, no stream takes the subject, or no answer came in time.

    When the answer is missing, the message may be stored nevertheless: send it again with the same id.
    """


class StreamRefused(BusError):
    """The stream answered that it does not take the message.

    Parameters
    ----------
    reason
        The words of the server.
    permanent
        The same message will never be taken, since it is too big; in contrast to a stream that is full, or rights that
        somebody can still give.
    """

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent


class StreamDiffers(BusError):
    """A stream exists in another shape than the declared one, and the server cannot change it."""
