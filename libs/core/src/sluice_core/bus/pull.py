"""Pull messages from a consumer: the fetch of nats-py makes a task for each message and waits out its time limit."""

import asyncio
from collections import deque

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .errors import BusAway
from .session import Session

__all__ = ["ConsumerGone", "Pull"]

# A request lives so long on the server; also how long one lingers there for a process that died.
EXPIRES = 30.0
# The server says so often that it is alive while it has nothing; after two missed ones, it or the consumer is gone.
HEARTBEAT = 5.0
# What belongs to a batch is on its way already; the batch does not wait longer for its last message. Some never come:
# what the server has counted may have been replaced or deleted since.
REST = 1.0
# Bytes in hand at once. A single message may have 8 MB, and one that is larger than this would never come.
MAX_BYTES = 32 * 1024 * 1024


class ConsumerGone(Exception):
    """The consumer, its stream or its server is no more there; make it anew."""


class Pull:
    """The messages of one consumer on one connection.

    Parameters
    ----------
    session, stream, consumer
        Whose messages.
    batch
        Most messages in hand at once.
    rest
        Seconds for which messages wait for more of their batch.
    """

    def __init__(self, session: Session, stream: str, consumer: str, *, batch: int, rest: float = REST) -> None:
        self._session = session
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._batch = batch
        self._rest = rest
        self._inbox = session.inbox()
        self._subscription: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._asked = 0
        self._heard = 0.0
        self._gone = ""
        self._stopped = False

    async def __aenter__(self) -> "Pull":
        self._session.when_lost(self._news.set)
        self._subscription = await self._session.subscribe(self._inbox, self._on_message)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        if self._subscription is not None:
            # What is on its way would wait for the end of its time before another process got it.
            await self._session.drain(self._subscription)

    @property
    def left(self) -> list[Msg]:
        """What arrived and was not fetched; all of it after the end."""
        return list(self._arrived)

    def stop(self) -> None:
        """Let `fetch` return nothing, also one that waits."""
        self._stopped = True
        self._news.set()

    async def fetch(self, timeout: float) -> list[Msg]:
        """Return what is there, up to a batch; wait when there is nothing.

        Parameters
        ----------
        timeout
            Seconds to wait for a first message; then the list is empty.

        Raises
        ------
        ConsumerGone
            It must be made anew.
        BusAway
            The connection broke.
        """
        until = _now() + timeout
        while True:
            self._news.clear()
            if self._stopped:
                return []
            if self._arrived:
                return await self._collect()
            await self._ask()
            if not await self._wait(until):
                return []

    async def _collect(self) -> list[Msg]:
        until = _now() + self._rest
        batch: list[Msg] = []
        while True:
            self._news.clear()
            while self._arrived and len(batch) < self._batch:
                batch.append(self._arrived.popleft())
            more = self._asked > 0 and batch[-1].metadata.num_pending > 0 and self._session.alive
            if len(batch) == self._batch or not more or not await self._wait(until):
                return batch

    async def _ask(self) -> None:
        if not self._session.alive:
            raise BusAway("the connection to NATS broke")
        if not self._gone and self._asked and _now() - self._heard > 2.5 * HEARTBEAT:
            self._gone = "the server is silent"
        if self._gone:
            raise ConsumerGone(self._gone)
        if self._asked <= 0:
            self._asked = self._batch
            self._heard = _now()
            request = {
                "batch": self._batch,
                "max_bytes": MAX_BYTES,
                "expires": int(EXPIRES * 1e9),
                "idle_heartbeat": int(HEARTBEAT * 1e9),
            }
            await self._session.publish(self._next, msgspec.json.encode(request), reply=self._inbox)

    async def _wait(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _on_message(self, message: Msg) -> None:
        self._heard = _now()
        # A message may carry a header "Status" too, but only the server can make this reply subject.
        if message.reply.startswith("$JS.ACK."):
            self._asked -= 1
            self._arrived.append(message)
        else:
            self._on_status(message.headers or {})
        self._news.set()

    def _on_status(self, headers: dict[str, str]) -> None:
        status, text = headers.get("Status", ""), headers.get("Description", "")
        if "Nats-Pending-Messages" in headers:  # a request has ended, and so many of its messages will not come
            self._asked -= int(headers["Nats-Pending-Messages"])
        elif status == "503":
            self._gone = "there is no such consumer"
        elif status != "100":
            self._gone = text or f"the server answers {status}"


def _now() -> float:
    return asyncio.get_running_loop().time()
