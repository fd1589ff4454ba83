"""Read a stream from any place, in order, without an account of what was read."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .client import Bus
from .errors import BusAway, BusError
from .message import Message
from .pull import ConsumerGone, Pull
from .session import ApiError, Session
from .streams import ensure_consumer

__all__ = ["Following", "StreamState", "following", "stream_state", "waiting"]

# Seconds that a first connection may take.
CONNECT = 2.0
# Nanoseconds after which the server forgets the consumer of a process that died.
FORGOTTEN = int(60e9)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class StreamState:
    """What a stream holds.

    Attributes
    ----------
    epoch
        Names this stream; one of the same name that is made anew, and counts from 1 again, has another.
    first
        Sequence of the oldest message; one more than `last` where there is none.
    last
        Sequence of the newest message that there ever was.
    """

    epoch: str
    first: int
    last: int


class Following:
    """A stream that is being read.

    Attributes
    ----------
    state
        When the reading began.
    """

    def __init__(self, session: Session, pull: Pull, state: StreamState) -> None:
        self.state = state
        self._session = session
        self._pull = pull

    async def fetch(self, timeout: float) -> list[Message]:
        """Return the next messages; none when none came for ``timeout`` seconds.

        Raises
        ------
        BusAway
            Read on with a new `following`.
        """
        try:
            return [Message.of(self._session, raw) for raw in await self._pull.fetch(timeout)]
        except ConsumerGone as exc:
            raise BusAway(str(exc)) from exc


async def stream_state(bus: Bus, stream: str) -> StreamState:
    """Ask what a stream holds.

    Raises
    ------
    BusAway, StreamRefused
        NATS or the stream is away, or we may not ask.
    """
    return await _state(await bus.session(CONNECT), stream)


async def waiting(bus: Bus, stream: str) -> dict[str, int]:
    """Ask how many messages a stream holds, by their subjects.

    Raises
    ------
    BusAway, StreamRefused
        NATS or the stream is away, or we may not ask.
    """
    found: dict[str, int] = {}
    session = await bus.session(CONNECT)
    while True:
        try:
            # The server tells of 100,000 subjects at once.
            info = await session.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">", "offset": len(found)})
        except ApiError as exc:
            raise BusAway(f"{stream}: {exc}") from exc
        some = info["state"].get("subjects") or {}
        found |= some
        if not some or len(found) >= info.get("total", 0):
            return found


@asynccontextmanager
async def following(
    bus: Bus,
    stream: str,
    after: Callable[[StreamState], int] = lambda _: 0,
    *,
    newest_of: str = "",
    batch: int = 500,
) -> AsyncIterator[Following]:
    """Read a stream on the connection of now.

    Needs `Grant.follow <sluice_core.bus.permissions.Grant>`.

    Parameters
    ----------
    after
        Says of what there is after which sequence to begin.
    newest_of
        Subjects, with wildcards, of which alone is read: first the newest message of each, then all that come; `after`
        is not asked.
    batch
        Most messages in hand at once.

    Raises
    ------
    BusAway, StreamRefused
        NATS or the stream is away, or we may not read it.
    """
    session = await bus.session(CONNECT)
    state = await _state(session, stream)
    name = f"follow-{secrets.token_hex(8)}"
    config: dict[str, Any] = {
        "name": name,
        **(
            {"deliver_policy": "last_per_subject", "filter_subject": newest_of}
            if newest_of
            else {"deliver_policy": "by_start_sequence", "opt_start_seq": after(state) + 1}
        ),
        "ack_policy": "none",
        "mem_storage": True,
        "inactive_threshold": FORGOTTEN,
    }
    try:
        await ensure_consumer(session, stream, config)
    except ApiError as exc:
        raise BusAway(f"{stream}: {exc}") from exc
    try:
        # What comes is told at once, not after the rest of its batch.
        async with Pull(session, stream, name, batch=batch, rest=0) as pull:
            yield Following(session, pull, state)
    finally:
        with contextlib.suppress(ApiError, BusError):
            await session.api(f"CONSUMER.DELETE.{stream}.{name}")


async def _state(session: Session, stream: str) -> StreamState:
    try:
        info = await session.api(f"STREAM.INFO.{stream}")
    except ApiError as exc:
        raise BusAway(f"{stream}: {exc}") from exc
    made = datetime.fromisoformat(info["created"]) - _BEGINNING
    # An empty stream that never held anything says 0.
    first = max(1, info["state"]["first_seq"])
    return StreamState(f"{made // timedelta(microseconds=1):x}", first, info["state"]["last_seq"])
