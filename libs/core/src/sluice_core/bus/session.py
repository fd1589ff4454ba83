"""One connection to NATS, from its handshake until it breaks.

nats-py can reconnect by itself, but what was in flight then hangs or is sent again in an unknown order, and pull
requests are forgotten silently. So a connection that broke is never used again: all that waits on it fails at once, and
`sluice_core.bus.Bus` opens the next one.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sluice_core.subjects import token

from .errors import BusAway, BusError, StreamRefused

__all__ = ["ApiError", "Outgoing", "Server", "Session", "message_size"]

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 2
API_TIMEOUT = 5.0
DRAIN_TIME = 1.0
# A peer that vanished without a word is noticed after three unanswered pings.
PING_INTERVAL = 10
# Bytes that wait for the socket. Twice the largest payload, so that one message never finds the buffer full.
MAX_BUFFERED = 16 * 1024 * 1024
# A server ends the connection of a client whose protocol line is longer than 4096 bytes; sizes and the reply subject
# need some of it.
MAX_SUBJECT = 3900

_NOT_PERMITTED = re.compile(r'permissions violation for publish to "(.+?)"')
_NO_RESPONDERS = "503"

Outgoing = tuple[str, bytes, Mapping[str, str] | None]
"""Subject, data and headers of a message."""


class ApiError(Exception):
    """JetStream refused a request of its API.

    Attributes
    ----------
    code
        Like an HTTP status.
    err_code
        The exact reason, as a number of nats-server.
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.err_code = err_code


@dataclass(frozen=True)
class Server:
    """Where a NATS server is, and who we are there."""

    addresses: Sequence[str]
    user: str | None
    password: str | None = field(repr=False)

    @property
    def inbox(self) -> str:
        """Prefix of our reply subjects; with one a user, nobody can listen to the answers of others."""
        return f"_INBOX.{token(self.user)}" if self.user else "_INBOX"


def message_size(data: bytes, headers: Mapping[str, str] | None) -> int:
    """Return the bytes that a server counts as the payload."""
    if not headers:
        return len(data)
    return len(data) + len("NATS/1.0") + 4 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())


class Session:
    """A connection that is open, or broken for ever.

    Attributes
    ----------
    lost
        Set as soon as the connection broke.
    """

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self._client = Client()
        self._subscriptions: list[Subscription] = []
        self._ids = itertools.count()
        self._replies = ""
        # An error travels as a result: an exception that nobody comes to fetch would end up in the log.
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg | BusError]]] = {}
        self._when_lost: list[Callable[[], None]] = []
        self._last_error: Exception | None = None
        self._closing = False
        self._closed = asyncio.Event()

    async def open(self, server: Server, name: str) -> None:
        """Connect, and make sure that there is a JetStream which answers us.

        Raises
        ------
        BusAway
            With the reason. Neither it nor the log contains credentials.
        """
        try:
            await self._client.connect(
                servers=list(server.addresses),
                name=name,
                inbox_prefix=server.inbox,
                connect_timeout=CONNECT_TIMEOUT,
                ping_interval=PING_INTERVAL,
                pending_size=MAX_BUFFERED,
                flush_timeout=API_TIMEOUT,
                # One quick second attempt; what comes after it is up to the bus. Zero would mean without end.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=self._on_error,
                disconnected_cb=self._on_lost,
                closed_cb=self._on_lost,
                user=server.user,
                password=server.password,
                # A user without password is a token.
                token=server.user if server.password is None else None,
            )
            prefix = self._client.new_inbox()
            self._replies = f"{prefix}."
            await self.subscribe(f"{prefix}.*", self._on_reply)
        except (OSError, TimeoutError, nats.errors.Error) as exc:
            raise BusAway(str(self._last_error or exc)) from exc
        try:
            await self.api("INFO")
        except ApiError as exc:
            raise BusAway(f"JetStream: {exc}") from exc

    async def close(self) -> None:
        """Write out what waits for the socket, and close it."""
        self._closing = True
        self._break()
        # nats-py stops halfway when the socket is broken already; then it leaves the tasks of subscriptions behind.
        for subscription in list(self._subscriptions):
            await self.unsubscribe(subscription)
        with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._client.close()
        self._closed.set()

    @property
    def alive(self) -> bool:
        """Whether the connection stands. nats-py does not call back for each way to lose one."""
        return not self.lost.is_set() and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes of headers and data that the server takes in one message."""
        return self._client.max_payload

    def has_room(self, size: int) -> bool:
        """Whether so many bytes can be handed to the socket without waiting."""
        return self._client.pending_data_size + size + MAX_SUBJECT < MAX_BUFFERED

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call back when the connection broke; at once when it has already."""
        if self.lost.is_set():
            callback()
        else:
            self._when_lost.append(callback)

    def too_large(self, subject: str, size: int) -> str:
        """Say why the server cannot take such a message; empty when it can.

        The server would not refuse it but end the connection, for all who use it.
        """
        if len(subject) > MAX_SUBJECT:
            return f"a subject of {len(subject)} characters is too long"
        if size > self.max_payload:
            return f"{size} bytes are more than the {self.max_payload} that the server takes"
        return ""

    def inbox(self) -> str:
        """Return a subject that only we may listen to."""
        return self._client.new_inbox()

    async def subscribe(self, subject: str, on_message: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Call back for each message on a subject."""
        subscription = await self._client.subscribe(subject, cb=on_message)
        self._subscriptions.append(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, also on a broken connection."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            with contextlib.suppress(OSError, nats.errors.Error):
                await subscription.unsubscribe()

    async def drain(self, subscription: Subscription) -> None:
        """End a subscription when all that the server has sent for it was handed over."""
        if self.alive:
            with contextlib.suppress(TimeoutError, OSError, nats.errors.Error):
                async with asyncio.timeout(DRAIN_TIME):
                    await subscription.drain()  # type: ignore[no-untyped-call]
        await self.unsubscribe(subscription)

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand a message to the socket's buffer; waits only while that is full.

        Raises
        ------
        BusAway
            The connection is broken.
        """
        if not self.alive:
            raise BusAway("the connection to NATS is broken")
        try:
            await self._client.publish(subject, data, reply, dict(headers) if headers else None)
        except nats.errors.ConnectionClosedError as exc:
            raise BusAway("the connection to NATS is broken") from exc

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = API_TIMEOUT,
    ) -> Msg:
        """Send a message and wait for its one answer.

        Raises
        ------
        BusAway
            The connection broke, nobody listens, or no answer came within ``timeout`` seconds.
        StreamRefused
            We may not send on this subject, or the message is larger than the server takes.
        """
        (answer,) = await self.request_all([(subject, data, headers)], timeout=timeout)
        if isinstance(answer, BusError):
            raise answer
        return answer

    async def request_all(self, requests: Sequence[Outgoing], *, timeout: float) -> list[Msg | BusError]:
        """Send messages, one behind the other, and wait for the answer of each; without a task for each.

        Parameters
        ----------
        timeout
            Seconds for all of them.

        Returns
        -------
        list
            In the order of the requests, the answer or what `request` would raise.
        """
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Msg | BusError]] = []
        numbers: list[str] = []

        def too_late() -> None:
            for answer in answers:
                _answer(answer, BusAway(f"no answer from NATS within {timeout:g} s"))

        # Not asyncio.timeout: it cancels, and nats-py swallows a cancellation while it waits for a full buffer.
        limit = loop.call_later(timeout, too_late)
        try:
            for subject, data, headers in requests:
                answer: asyncio.Future[Msg | BusError] = loop.create_future()
                answers.append(answer)
                if reason := self.too_large(subject, message_size(data, headers)):
                    _answer(answer, StreamRefused(reason, permanent=True))
                    continue
                number = str(next(self._ids))
                numbers.append(number)
                self._waiting[number] = (subject, answer)
                try:
                    await self.publish(subject, data, reply=self._replies + number, headers=headers)
                except BusAway as exc:
                    _answer(answer, exc)
            return [_checked(await answer, request[0]) for answer, request in zip(answers, requests, strict=True)]
        finally:
            limit.cancel()
            for number in numbers:
                del self._waiting[number]

    async def api(self, what: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream.

        Parameters
        ----------
        what
            Subject behind ``$JS.API.``, such as ``STREAM.INFO.AGENTS``.

        Raises
        ------
        ApiError
            JetStream refused.
        BusAway, StreamRefused
            As `request`.
        """
        data = msgspec.json.encode(payload) if payload else b""
        message = await self.request(f"$JS.API.{what}", data)
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        if "error" in answer:
            error = answer["error"]
            raise ApiError(error.get("code", 500), error.get("err_code", 0), error.get("description", "refused"))
        return answer

    async def _on_reply(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.removeprefix(self._replies))
        if waiting is not None:
            _answer(waiting[1], message)

    async def _on_error(self, exc: Exception) -> None:
        self._last_error = exc
        if "permissions violation" not in str(exc):
            log.debug("nats", error=str(exc))
            return
        log.error("NATS does not permit this", error=str(exc))
        publish = _NOT_PERMITTED.search(str(exc))
        for subject, answer in self._waiting.values():
            # nats-py has put the words of the server into lower case.
            if publish is not None and subject.lower() == publish[1]:
                _answer(answer, StreamRefused(f"not permitted: {subject}", permanent=False))

    async def _on_lost(self) -> None:
        self._break()
        if not self._closing:
            # nats-py would now begin to reconnect; it does not once it is closed.
            await self._closed.wait()

    def _break(self) -> None:
        self.lost.set()
        while self._when_lost:
            self._when_lost.pop()()
        for _, answer in self._waiting.values():
            _answer(answer, BusAway("the connection to NATS broke"))


def _checked(message: Msg | BusError, subject: str) -> Msg | BusError:
    empty = isinstance(message, Msg) and not message.data and message.headers
    return BusAway(f"no stream takes {subject}") if empty and empty.get("Status") == _NO_RESPONDERS else message


def _answer(future: asyncio.Future[Msg | BusError], answer: Msg | BusError) -> None:
    if not future.done():
        future.set_result(answer)
