"""A message that a consumer was given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from nats.aio.msg import Msg

from .session import Session

__all__ = ["Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream, until it is settled.

    Subject, headers and data were written by somebody else: they are input to judge, and no proof of who sent it.
    """

    subject: str
    data: bytes
    headers: Mapping[str, str]
    stream: str
    sequence: int
    """Place in the stream; counts from 1 again when the stream is made anew."""
    at: datetime
    """When the stream stored it."""
    deliveries: int
    """1 at the first delivery."""
    _session: Session = field(repr=False, compare=False)
    _reply: str = field(repr=False, compare=False)

    @classmethod
    def of(cls, session: Session, raw: Msg) -> Self:
        """Take it as it came from the server."""
        metadata = raw.metadata
        return cls(
            subject=raw.subject,
            data=raw.data,
            headers=raw.headers or {},
            stream=metadata.stream,
            sequence=metadata.sequence.stream,
            at=metadata.timestamp,
            deliveries=metadata.num_delivered,
            _session=session,
            _reply=raw.reply,
        )

    async def ack(self) -> None:
        """It is done."""
        await self._session.publish(self._reply, b"+ACK")

    async def settle(self) -> None:
        """It is done, and the server has noted it.

        Raises
        ------
        BusAway, StreamRefused
            It may come again.
        """
        await self._session.request(self._reply, b"+ACK")

    async def nak(self, delay: float = 0.0) -> None:
        """Deliver it again, after so many seconds."""
        await self._session.publish(self._reply, b'-NAK {"delay": %d}' % int(delay * 1e9))

    async def working(self) -> None:
        """It takes longer; do not deliver it again yet."""
        await self._session.publish(self._reply, b"+WPI")

    async def term(self) -> None:
        """Never deliver it again."""
        await self._session.publish(self._reply, b"+TERM")
