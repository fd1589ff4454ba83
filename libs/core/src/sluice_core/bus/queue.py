"""One subject of a work-queue stream, read by one process at a time, in order."""

import hashlib
from collections.abc import Callable
from typing import Any

import structlog

from .backoff import Backoff
from .client import Bus
from .errors import BusAway, BusError
from .message import Message
from .pull import ConsumerGone, Pull
from .session import ApiError
from .streams import ensure_consumer

__all__ = ["Queue"]

log = structlog.get_logger(__name__)

# Nanoseconds. Whoever reads gives back what it cannot use, and who reads next makes the consumer anew; so the server
# need not guess after a time that a reader is dead.
_ACK_WAIT = int(86400e9)
_FORGOTTEN = int(60e9)
_NO_CONSUMER = 10014
_LOOK = 5.0


class Queue:
    """A subject of a work-queue stream; needs `Grant.share <sluice_core.bus.permissions.Grant>`.

    The stream keeps what is not acknowledged. Each `read` begins with all of that, whoever had it before, and takes it
    away from him.

    Parameters
    ----------
    bus
        Has the stream.
    stream, subject
        What to read; the subject has no wildcards.
    most
        Messages that may be out unacknowledged.
    """

    def __init__(self, bus: Bus, stream: str, subject: str, *, most: int) -> None:
        self._bus = bus
        self._stream = stream
        self._subject = subject
        self._most = most
        self._name = f"queue-{hashlib.sha256(subject.encode()).hexdigest()[:32]}"

    async def read(self, handle: Callable[[Message], None]) -> None:
        """Hand over each message, for ever, anew from the first unacknowledged one after each loss of the connection.

        Parameters
        ----------
        handle
            Gets each message at least once; knows by its sequence what it has in hand already.
        """
        delays = Backoff(0.1, 5.0)
        while True:
            try:
                await self._through(handle, delays)
            except (ApiError, ConsumerGone, BusError) as exc:
                log.info("queue is not read", subject=self._subject, reason=str(exc))
            await delays.wait()

    async def _through(self, handle: Callable[[Message], None], delays: Backoff) -> None:
        session = await self._bus.session()
        await self.forget()
        config: dict[str, Any] = {
            "name": self._name,
            "filter_subject": self._subject,
            "ack_policy": "explicit",
            "ack_wait": _ACK_WAIT,
            "max_ack_pending": self._most,
            "max_deliver": -1,
            "mem_storage": True,
            "inactive_threshold": _FORGOTTEN,
        }
        await ensure_consumer(session, self._stream, config)
        async with Pull(session, self._stream, self._name, batch=self._most, rest=0) as pull:
            delays.reset()
            while True:
                for raw in await pull.fetch(_LOOK):
                    handle(Message.of(session, raw))

    async def forget(self) -> None:
        """Give everything back that was read and not acknowledged.

        Raises
        ------
        ApiError, BusAway, StreamRefused
            The server does not know it yet.
        """
        session = await self._bus.session()
        try:
            await session.api(f"CONSUMER.DELETE.{self._stream}.{self._name}")
        except ApiError as exc:
            if exc.err_code != _NO_CONSUMER:
                raise

    async def purge(self) -> None:
        """Drop every message of the subject.

        Raises
        ------
        BusAway, StreamRefused
            The server does not know it yet.
        """
        session = await self._bus.session()
        try:
            await session.api(f"STREAM.PURGE.{self._stream}", {"filter": self._subject})
        except ApiError as exc:
            raise BusAway(f"{self._stream}: {exc}") from exc
