"""One connection to a STOMP broker, from its handshake until it breaks; it never reconnects.

stomp.py reads in a thread of its own, which does nothing here but hand over to the event loop; what writes may block,
so it has a second thread. What stomp.py 9 does that shapes this:

- Its own ways to reconnect leave heart-beats that stop or double; so a connection that broke is thrown away.
- Waiting for the broker's greeting by its means knows no deadline.
- Where it dials, it keeps the reason of a failure to itself, tries 127.0.0.1 without TLS too, and on closing waits for
  the other side's goodbye. `_Wire` dials instead.
- An end of file on TLS is no end for it: it reads again, at once and for ever.
"""

import asyncio
import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import stomp  # type: ignore[import-untyped]
from stomp.connect import BaseConnection  # type: ignore[import-untyped]
from stomp.protocol import Protocol11  # type: ignore[import-untyped]
from stomp.transport import Transport  # type: ignore[import-untyped]
from stomp.utils import PollableQueue  # type: ignore[import-untyped]

from sluice_stream.intake import SLUICE_ID, message_id
from sluice_stream.messages import Message

__all__ = ["Address", "Broker", "BrokerAway", "Frame", "SendRefused", "Subscription", "Tls"]

# What it has to say we say ourselves, once a fault instead of once an attempt.
logging.getLogger("stomp.py").setLevel(logging.CRITICAL)

# Milliseconds between two signs of life, ours and the broker's (contract 7.1).
HEARTBEATS = (5000, 10000)
# Seconds for the connection, for each step of the handshake, and for the broker to take or confirm what we send.
TIMEOUT = 10.0
# Seconds for a farewell; without one the broker notices all the same.
FAREWELL = 0.5
# Bytes in hand that are not stored yet. Beyond it nothing more is read from the socket.
MOST_BYTES = 64 * 2**20
# A broker of our own kind. To bridge it with itself would be an endless loop.
OURSELVES = "sluice"


class BrokerAway(Exception):
    """The broker cannot be reached, does not want us, or the connection broke; the text says why."""


class SendRefused(Exception):
    """The broker does not take this one message; the text is its own."""


@dataclass(frozen=True)
class Tls:
    """How to know the broker, and to be known.

    Attributes
    ----------
    ca
        PEM file with whose word is good.
    certificate, key
        PEM files of the client, both or none.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Address:
    """Where the broker is, and who we are there."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    client_id: str
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Subscription:
    """What to listen to.

    Attributes
    ----------
    id
        Names it on this connection.
    destination
        Such as ``/topic/epictopic``.
    durable
        Name under which the broker keeps a topic's messages while we are away; None: it does not.
    window
        Messages that the broker sends ahead of their acknowledgement; 0: it wants none.
    """

    id: str
    destination: str
    durable: str | None = None
    window: int = 0

    @property
    def kind(self) -> str:
        """What its destination begins with, ``/topic/`` or ``/queue/``."""
        return f"/{self.destination.split('/')[1]}/"

    def headers(self) -> dict[str, str]:
        """Return the headers, those that ActiveMQ Classic knows and those that Artemis knows."""
        found: dict[str, str] = {}
        if self.durable is not None:
            found |= {"activemq.subscriptionName": self.durable, "durable-subscription-name": self.durable}
        if self.window:
            # Artemis counts bytes; its own 10 kB are a few messages.
            found |= {"activemq.prefetchSize": str(self.window), "consumer-window-size": str(2**20)}
        return found


@dataclass(frozen=True)
class Frame:
    """A message as the broker delivered it."""

    subscription: str
    ack: str
    """What to acknowledge it by."""
    message: Message


class _Wire(Transport):  # type: ignore[misc]
    """A transport that dials once and ends when the other side does."""

    def __init__(self, address: Address) -> None:
        super().__init__([(address.host, address.port)], vhost=address.host, auto_decode=False)
        self._address = address

    def attempt_connection(self) -> None:
        address = self._address
        dialled = socket.create_connection((address.host, address.port), TIMEOUT)
        if address.tls is not None:
            dialled = _encrypted(dialled, address.host, address.tls)
            self.send_queue = PollableQueue()
            self.sel = selectors.DefaultSelector()
            self.sel.register(self.send_queue, selectors.EVENT_READ)
            self.sel.register(dialled, selectors.EVENT_READ)
        self.blocking = address.tls is None
        dialled.setblocking(self.blocking)
        self.socket = dialled
        self.current_host_and_port = (address.host, address.port)

    def receive(self) -> bytes | None:
        data: bytes | None = super().receive()
        # None: nothing to read yet.
        if data == b"" and not self.blocking:
            self.running = False
        return data


def _encrypted(plain: socket.socket, host: str, tls: Tls) -> socket.socket:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


class _Connection(stomp.StompConnection11):  # type: ignore[misc]
    """A connection over such a wire."""

    def __init__(self, address: Address) -> None:
        wire = _Wire(address)
        BaseConnection.__init__(self, wire)
        # Without a content-length the broker takes a message for a text (contract 7.5).
        Protocol11.__init__(self, wire, HEARTBEATS, auto_content_length=False)


class _Room:
    """Bytes in hand, bounded; the thread that reads waits for room."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._bytes = 0
        self._closed = False

    @property
    def full(self) -> bool:
        return self._bytes > MOST_BYTES

    def take(self, size: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._closed or not self.full)
            self._bytes += size

    def give(self, size: int) -> None:
        with self._condition:
            self._bytes -= size
            self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class _Ears(stomp.ConnectionListener):  # type: ignore[misc]
    """Runs in the thread of stomp.py, and tells a `Broker` in its event loop."""

    def __init__(self, broker: "Broker", room: _Room, subscriptions: Mapping[str, Subscription]) -> None:
        self.heard = time.monotonic()
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._room = room
        self._subscriptions = subscriptions
        self._arrived: list[Frame] = []
        self._lock = threading.Lock()

    def on_connected(self, frame: Any) -> None:
        self._tell(self._broker.greeted, frame.headers.get("server", ""))

    def on_message(self, frame: Any) -> None:
        self.heard = time.monotonic()
        subscription = self._subscriptions[frame.headers["subscription"]]
        if not subscription.window:
            self._tell(self._broker.echoed, frame.body)
            return
        message = _message(frame.headers, subscription, frame.body)
        self._room.take(len(message.body))
        with self._lock:
            self._arrived.append(Frame(subscription.id, frame.headers["message-id"], message))
            first = len(self._arrived) == 1
        if first:
            # One call for all that come until the loop has the time.
            self._tell(self._hand_over)

    def on_receipt(self, frame: Any) -> None:
        self.heard = time.monotonic()
        self._tell(self._broker.confirmed, frame.headers.get("receipt-id", ""))

    def on_heartbeat(self) -> None:
        self.heard = time.monotonic()

    def on_error(self, frame: Any) -> None:
        # The body is a trace of the broker's own code.
        text = frame.headers.get("message") or "the broker gives no reason"
        self._tell(self._broker.failed, text[:300], frame.headers.get("receipt-id", ""))

    def on_heartbeat_timeout(self) -> None:
        self._tell(self._broker.broke)

    def on_disconnected(self) -> None:
        self._tell(self._broker.broke)

    def on_receiver_loop_completed(self, _: Any) -> None:
        self._tell(self._broker.broke)

    def _hand_over(self) -> None:
        with self._lock:
            frames, self._arrived = self._arrived, []
        self._broker.arrived(frames)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *args)


def _message(headers: Mapping[str, str], subscription: Subscription, body: bytes) -> Message:
    destination = headers.get("destination") or subscription.destination
    if not destination.startswith("/"):
        destination = f"{subscription.kind}{destination}"
    try:
        known = UUID(headers[SLUICE_ID])
    except (KeyError, ValueError):
        # The time too: a broker that has lost its store begins to count anew.
        known = message_id("broker", headers["message-id"], destination, headers.get("timestamp", ""))
    return Message(known, destination, datetime.now(UTC), body)


class Broker:
    """One connection.

    Parameters
    ----------
    address
        Whose.

    Attributes
    ----------
    lost
        Set as soon as it broke.
    reason
        Why it broke.
    """

    def __init__(self, address: Address) -> None:
        self.lost = asyncio.Event()
        self.reason = ""
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._connection = _Connection(address)
        self._subscriptions: dict[str, Subscription] = {}
        self._room = _Room()
        self._ears = _Ears(self, self._room, self._subscriptions)
        self._connection.set_listener("bridge", self._ears)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="stomp-writer")
        self._greeting: asyncio.Future[None] = self._loop.create_future()
        self._receipts: dict[str, asyncio.Future[str]] = {}
        self._frames: deque[Frame] = deque()
        self._news = asyncio.Event()
        self._echo: Callable[[bytes], None] = lambda body: None

    async def open(self) -> None:
        """Connect and say who we are.

        Raises
        ------
        BrokerAway
            With the reason.
        """
        address = self._address
        await self._write(
            self._connection.connect, address.user, address.password, headers={"client-id": address.client_id}
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._greeting
        except TimeoutError:
            raise BrokerAway(f"{address} does not greet") from None

    async def subscribe(self, subscription: Subscription) -> None:
        """Listen to a destination; returns once the broker has confirmed it.

        Raises
        ------
        BrokerAway
            The connection broke, or the broker does not let us.
        """
        self._subscriptions[subscription.id] = subscription
        ack = "client" if subscription.window else "auto"
        receipt = uuid4().hex
        headers = {**subscription.headers(), "receipt": receipt}
        try:
            subscribe = self._connection.subscribe
            await self._confirmed(receipt, subscribe, subscription.destination, subscription.id, ack, headers)
        except SendRefused as exc:
            raise BrokerAway(f"no subscription to {subscription.destination}: {exc}") from None

    @property
    def silence(self) -> float:
        """Seconds since the broker has last been heard; 0 while we do not listen because too much is in hand."""
        return 0.0 if self._room.full else time.monotonic() - self._ears.heard

    def on_echo(self, call: Callable[[bytes], None]) -> None:
        """Call with the body of each message of a subscription without a window."""
        self._echo = call

    async def frames(self, most: int) -> list[Frame]:
        """Return what has come, in order; waits for a first one.

        Raises
        ------
        BrokerAway
            The connection broke. What came before is the broker's again.
        """
        while not self._frames:
            self._insist()
            self._news.clear()
            await self._news.wait()
        return [self._frames.popleft() for _ in range(min(most, len(self._frames)))]

    async def ack(self, frame: Frame) -> None:
        """Tell the broker that a message, and all before it of its subscription, are stored.

        Raises
        ------
        BrokerAway
            The connection broke.
        """
        await self._write(self._connection.ack, frame.ack, frame.subscription)

    def settled(self, frames: list[Frame]) -> None:
        """Make room: these are in our hands no more."""
        self._room.give(sum(len(frame.message.body) for frame in frames))

    async def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a message; returns once the broker has confirmed it. Several may wait; they arrive in order.

        Raises
        ------
        BrokerAway
            It is not known to have arrived.
        SendRefused
            The broker does not take it.
        """
        receipt = uuid4().hex
        await self._confirmed(
            receipt, self._connection.send, destination, body, headers={**headers, "receipt": receipt}
        )

    async def close(self) -> None:
        """Say farewell where the broker still listens, and close."""
        if not self.lost.is_set():
            with contextlib.suppress(BrokerAway, SendRefused, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    receipt = uuid4().hex
                    await self._confirmed(receipt, self._connection.send_frame, "DISCONNECT", {"receipt": receipt})
        self._break("closed")
        self._writer.shutdown(wait=False)

    async def _confirmed(self, receipt: str, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._insist()
        confirmed = self._receipts[receipt] = self._loop.create_future()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._write(write, *args, **kwargs)
                refusal = await confirmed
        except TimeoutError:
            self._break(f"{self._address} does not confirm what it is sent")
            raise BrokerAway(self.reason) from None
        finally:
            del self._receipts[receipt]
        if refusal:
            raise SendRefused(refusal)

    async def _write(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._insist()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._loop.run_in_executor(self._writer, lambda: self._written(write, *args, **kwargs))
        except TimeoutError:
            self._break(f"{self._address} takes nothing")
        except (OSError, ssl.SSLError, stomp.exception.StompException) as exc:
            self._break(str(exc) or f"{self._address} cannot be reached")
        self._insist()

    def _written(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Run in the writer's thread."""
        write(*args, **kwargs)
        if self.lost.is_set():
            # It took so long that nobody waits any more.
            self._hang_up()

    def _insist(self) -> None:
        if self.lost.is_set():
            raise BrokerAway(self.reason)

    def _break(self, reason: str) -> None:
        if not self.lost.is_set():
            self.reason = reason
            self.lost.set()
        self._hang_up()
        self._frames.clear()
        self._room.close()
        self._news.set()
        if not self._greeting.done():
            self._greeting.set_exception(BrokerAway(self.reason))
            self._greeting.exception()
        for waiting in self._receipts.values():
            if not waiting.done():
                waiting.set_exception(BrokerAway(self.reason))
                waiting.exception()

    def _hang_up(self) -> None:
        """End both threads: one waits in a read, and the other perhaps in a write."""
        transport = self._connection.transport
        transport.running = False
        found = transport.socket
        if found is not None:
            with contextlib.suppress(OSError):
                # That of a plain socket: TLS would wait for a goodbye.
                socket.socket.shutdown(found, socket.SHUT_RDWR)
        self._connection.heartbeat_terminate_event.set()

    # What follows runs in the event loop, told by `_Ears`.

    def greeted(self, server: str) -> None:
        """The broker has let us in."""
        if server.lower().startswith(OURSELVES):
            self._break(f"{self._address} is our own door, and no broker; unset ACTIVEMQ_HOST")
        elif not self._greeting.done():
            self._greeting.set_result(None)

    def confirmed(self, receipt: str, refusal: str = "") -> None:
        """The broker has confirmed or refused something."""
        waiting = self._receipts.get(receipt)
        if waiting is not None and not waiting.done():
            waiting.set_result(refusal)

    def failed(self, text: str, receipt: str) -> None:
        """The broker has sent an error."""
        if receipt in self._receipts:
            self.confirmed(receipt, text)
        else:
            self._break(text)

    def broke(self) -> None:
        """The connection is gone."""
        self._break(f"the connection to {self._address} broke")

    def arrived(self, frames: list[Frame]) -> None:
        """Messages have come."""
        self._frames.extend(frames)
        self._news.set()

    def echoed(self, body: bytes) -> None:
        """A message of a subscription without a window has come."""
        self._echo(body)
