"""The bus of one service: a connection to NATS that comes back by itself."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from nats.aio.msg import Msg

from .backoff import Backoff
from .errors import BusAway, BusError, StreamRefused
from .kv import DELETE_HEADERS, key_subject, read_and_follow
from .pull import ConsumerGone
from .session import ApiError, Outgoing, Server, Session, message_size
from .streams import Bucket, Stream, ensure

__all__ = ["Bus", "PubAck", "Stored"]

log = structlog.get_logger(__name__)

# Stored publishes on their way at once; those of one `Bus.publish_all` count as one. 128 keep a server busy that syncs
# each write; more only wait in its queue.
IN_FLIGHT = 512
TOGETHER = 128
ACK_TIMEOUT = 5.0
# What the servers of the platform take (architecture, "Streams").
MAX_PAYLOAD = 8 * 1024 * 1024
# How often a connection is looked at whose loss nats-py may not have told.
LOOK = 1.0


class PubAck(msgspec.Struct, frozen=True):
    """Where a stream has put a message."""

    stream: str
    sequence: int
    duplicate: bool = False
    """The stream had a message of this id already; nothing was added."""


class Stored(NamedTuple):
    """A message that a stream is to keep.

    Attributes
    ----------
    msg_id
        Names the event, never the attempt: within its duplicate window the stream takes an id once.
    """

    subject: str
    data: bytes
    msg_id: str
    headers: Mapping[str, str] = MappingProxyType({})


class _Refusal(msgspec.Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    error: _Refusal | None = None
    stream: str = ""
    seq: int = 0
    duplicate: bool = False


class ConsumerState(msgspec.Struct):
    """What a consumer of this process has done so far."""

    waiting: int = 0
    """Messages that the stream holds for it and has not delivered."""
    handled: int = 0
    failed: int = 0
    """Deliveries that ended in another try."""
    parked: int = 0


class Bus:
    """NATS as one service sees it; connects to nothing before `open`.

    Parameters
    ----------
    url
        ``nats://user:password@host:4222``, or several with commas between them; the credentials of the first count.
    name
        Shown in the server's list of connections.
    keeps
        Streams and buckets that this service makes anew when the server has lost them. Each connection begins with
        it, so `connected` means that they are there. Needs the right to make streams; see
        `sluice_core.bus.permissions`.

    Attributes
    ----------
    problem
        Why there is no connection now; empty when there is one.
    connections
        How many connections were made so far; more than one means that the bus was away in between.
    published
        Messages handed to the server, stored ones included.
    dropped
        Best-effort messages thrown away because the server was away or too slow.
    refused
        Stored messages that a stream did not take.
    consumers
        State of each consumer of this process, by durable name.
    """

    def __init__(self, url: str, *, name: str, keeps: Sequence[Stream | Bucket] = ()) -> None:
        self._server = parse(url)
        self._name = name
        self._keeps = tuple(keeps)
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self.problem = "not opened"
        self.connections = 0
        self.published = 0
        self.dropped = 0
        self.refused = 0
        self.pending = 0
        """Stored publishes that wait for the stream's answer."""
        self.consumers: dict[str, ConsumerState] = {}

    async def open(self) -> None:
        """Begin to connect, for ever, and return at once."""
        self.problem = "connecting"
        self._keeper = asyncio.create_task(self._keep(), name=f"bus of {self._name}")

    async def close(self) -> None:
        """Write out what is buffered, and disconnect."""
        if self._keeper is not None:
            self._closing = True
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._session is not None and self._session.alive

    @property
    def max_payload(self) -> int:
        """Bytes of headers and data that the server takes in one message; a guess while it is away."""
        return self._session.max_payload if self._session is not None else MAX_PAYLOAD

    def check(self) -> tuple[bool, str]:
        """Say whether the bus is there: a readiness check."""
        return self.connected, self.problem

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until messages can be sent.

        Parameters
        ----------
        timeout
            Seconds; None waits for ever.

        Raises
        ------
        BusAway
            It took longer; with the reason.
        """
        await self.session(timeout)

    async def session(self, timeout: float | None = None) -> Session:
        """Return the connection of now, for what must notice that it broke.

        Raises
        ------
        BusAway
            There was none within ``timeout`` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._session is None or not self._session.alive:
                    self._up.clear()
                    await self._up.wait()
        except TimeoutError:
            raise BusAway(self.problem or "NATS is away") from None
        return self._session

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Send a message that may get lost; never waits for the network.

        Returns
        -------
        bool
            False when it was dropped: the server is away or too slow, or the message too large.
        """
        session = self._session
        if session is not None:
            size = message_size(data, headers)
            if session.has_room(size) and not session.too_large(subject, size):
                try:
                    await session.publish(subject, data, headers=headers)
                except BusAway:
                    pass
                else:
                    self.published += 1
                    return True
        self.dropped += 1
        return False

    async def publish_stored(
        self,
        subject: str,
        data: bytes,
        *,
        msg_id: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = ACK_TIMEOUT,
    ) -> PubAck:
        """Send a message to the stream of its subject, and wait until it is stored.

        Many may wait at once; beyond `IN_FLIGHT` they queue.

        Parameters
        ----------
        msg_id
            Names the event, never the attempt: within its duplicate window the stream takes an id once.
        timeout
            Seconds for the stream's answer.

        Raises
        ------
        BusAway
            NATS is away, or the answer did not come. It may be stored; send it again with the same id.
        StreamRefused
            The stream is full, or will never take this message.
        """
        return await self._store(subject, data, {**(headers or {}), "Nats-Msg-Id": msg_id}, timeout)

    async def publish_all(self, messages: Sequence[Stored], *, timeout: float = ACK_TIMEOUT) -> list[PubAck | BusError]:
        """Send messages to the streams of their subjects, many at once, and wait until all are stored.

        Parameters
        ----------
        messages
            In their order; those of one subject are stored in it, but where one is refused those behind it are not held
            back.
        timeout
            Seconds for the answers to `TOGETHER` messages.

        Returns
        -------
        list
            For each message where it is, or what `publish_stored` would raise.
        """
        results: list[PubAck | BusError] = []
        for start in range(0, len(messages), TOGETHER):
            some = messages[start : start + TOGETHER]
            requests = [(each.subject, each.data, {**each.headers, "Nats-Msg-Id": each.msg_id}) for each in some]
            results += await self._store_all(requests, timeout)
        return results

    async def put(
        self, bucket: str, key: str, value: bytes, *, revision: int | None = None, ttl: float | None = None
    ) -> int:
        """Set a key of a bucket.

        Parameters
        ----------
        key
            A token; see `sluice_core.subjects.token` for what comes from outside.
        revision
            Only when the key still has this revision; 0: when there is no such key.
        ttl
            Whole seconds after which the server forgets the key.

        Returns
        -------
        int
            The new revision.

        Raises
        ------
        BusAway, StreamRefused
            As `publish_stored`; the latter also when the key has another revision.
        """
        headers = {}
        if revision is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        if ttl is not None:
            headers["Nats-TTL"] = str(int(ttl))
        return (await self._store(key_subject(bucket, key), value, headers or None, ACK_TIMEOUT)).sequence

    async def delete(self, bucket: str, key: str) -> None:
        """Take a key out of a bucket; no error when it is not there.

        Raises
        ------
        BusAway, StreamRefused
            As `publish_stored`.
        """
        await self._store(key_subject(bucket, key), b"", DELETE_HEADERS, ACK_TIMEOUT)

    async def watch(
        self,
        bucket: str,
        on_change: Callable[[str, bytes | None], None],
        on_ready: Callable[[], None] = lambda: None,
        *,
        keep_lost: bool = False,
    ) -> None:
        """Tell all keys of a bucket, then each change, for ever; run it as a supervised task.

        After each loss of the connection the bucket is read again from the start, so no change is missed. While NATS
        or the bucket is away nothing is told: the last known values hold.

        Parameters
        ----------
        on_change
            Gets the key and its value, or None when it was deleted. The same value may come again, and of changes that
            follow each other quickly only the last is sure to come. Runs in the event loop.
        on_ready
            Called each time when the bucket has been read to its end.
        keep_lost
            Of a bucket that comes back empty, tell nothing: its server has lost it, and who made it makes it anew. For
            buckets that are never empty otherwise.
        """
        known: set[str] = set()
        delays = Backoff()

        def ready() -> None:
            delays.reset()
            on_ready()

        while True:
            session = await self.session()
            try:
                await read_and_follow(session, bucket, known, on_change, ready, keep_lost=keep_lost)
            except (ApiError, ConsumerGone, BusError) as exc:
                log.warning("bucket is not followed", bucket=bucket, reason=str(exc))
            await delays.wait()

    async def ensure(self, streams: Sequence[Stream] = (), buckets: Sequence[Bucket] = ()) -> None:
        """Create what is declared, or bring what exists to it. For ``migrate``.

        Raises
        ------
        StreamDiffers
            One exists in a shape that cannot be changed; the text says what to do.
        BusAway, StreamRefused
            NATS is away, or does not let us.
        """
        session = await self.session(ACK_TIMEOUT)
        for stream in streams:
            await ensure(session, stream)
        for bucket in buckets:
            await ensure(session, bucket)

    async def _store(self, subject: str, data: bytes, headers: Mapping[str, str] | None, timeout: float) -> PubAck:
        (result,) = await self._store_all([(subject, data, headers)], timeout)
        if isinstance(result, BusError):
            raise result
        return result

    async def _store_all(self, requests: Sequence[Outgoing], timeout: float) -> list[PubAck | BusError]:
        async with self._slots:
            session = self._session
            if session is None:
                return [BusAway(self.problem) for _ in requests]
            self.pending += len(requests)
            try:
                return [*map(self._stored, await session.request_all(requests, timeout=timeout))]
            finally:
                self.pending -= len(requests)

    def _stored(self, message: Msg | BusError) -> PubAck | BusError:
        if isinstance(message, BusError):
            self.refused += isinstance(message, StreamRefused)
            return message
        answer = msgspec.json.decode(message.data, type=_Answer)
        if answer.error is not None:
            self.refused += 1
            # 400: this message. 503 and others: the state of the stream or of the server.
            return StreamRefused(answer.error.description, permanent=answer.error.code == 400)
        self.published += 1
        return PubAck(answer.stream, answer.seq, answer.duplicate)

    async def _keep(self) -> None:
        delays = Backoff()
        # A cancellation can be lost in nats-py, which waits with wait_for.
        while not self._closing:
            session = Session()
            try:
                await session.open(self._server, self._name)
                for declared in self._keeps:
                    await ensure(session, declared)
                delays.reset()
                self._connected(session)
                while session.alive and not self._closing:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK):
                            await session.lost.wait()
                self.problem = "the connection to NATS broke"
                log.warning("NATS is away")
            except BusError as exc:
                # Once a fault, not once an attempt.
                if self.problem != str(exc):
                    self.problem = str(exc)
                    log.warning("NATS is away", reason=self.problem)
            finally:
                self._session = None
                await session.close()
            await delays.wait()

    def _connected(self, session: Session) -> None:
        self.connections += 1
        self.problem = ""
        self._session = session
        self._up.set()
        log.info("connected to NATS", connections=self.connections)


def parse(url: str) -> Server:
    """Take the credentials out of a URL, so that no error message can show them."""
    addresses = []
    user = password = None
    for one in url.split(","):
        parts = urlsplit(one.strip())
        if parts.scheme not in ("nats", "tls") or not parts.hostname:
            raise ValueError("a NATS URL is nats://[user:password@]host[:port]")
        if user is None and parts.username is not None:
            user = unquote(parts.username)
            password = unquote(parts.password) if parts.password is not None else None
        addresses.append(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return Server(addresses, user, password)
