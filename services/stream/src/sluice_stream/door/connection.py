"""One client at the door: its socket, what it says, and what is written to it."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Protocol, cast
from uuid import uuid4

import structlog

from sluice_core.auth import Identity, Scope
from sluice_core.bus import BusError
from sluice_stream.door.exchange import Exchange
from sluice_stream.door.frames import BEAT, BadFrame, Frame, Limits, Parser, encode
from sluice_stream.door.guard import Admitted, Guard
from sluice_stream.door.post import Post
from sluice_stream.door.protocol import (
    Ack,
    Ask,
    Disconnect,
    Login,
    Send,
    Subscribe,
    Unsubscribe,
    Violation,
)
from sluice_stream.door.protocol import Protocol as Rules
from sluice_stream.door.selectors import BadSelector, Selector
from sluice_stream.door.subscription import Subscription
from sluice_stream.messages import TOPIC

__all__ = ["Bounds", "Connection", "House", "Traffic"]

log = structlog.get_logger(__name__)

SERVER = "sluice"
# Seconds: for the login, for what is written at the end, and without a byte taken by a client that has much to read.
HANDSHAKE = 10.0
FAREWELL = 5.0
STUCK = 60.0
# Seconds between two looks whether a login still counts.
RECHECK = 10.0
# Heart-beats that may be missing.
PATIENCE = 2.0
# Bytes that were read and not worked through yet; and those that wait to be written, beyond which queues give nothing.
UNREAD = 2**18
CLOGGED = 2**18
# Messages that are passed on together.
TOGETHER = 128


@dataclass(frozen=True)
class Bounds:
    """What one client may use.

    Attributes
    ----------
    buffer
        Bytes that wait for it to read.
    """

    frames: Limits
    subscriptions: int
    prefetch: int
    buffer: int


@dataclass
class Traffic:
    """What went over all connections.

    Attributes
    ----------
    connections, refused
        Logins that were good, and those that were not.
    received, sent
        Frames.
    sent_messages
        Messages that clients sent.
    errors
        Connections that ended with an ERROR.
    slow
        Connections that were cut off because they did not read.
    silent
        Connections that were cut off because nothing was heard of them.
    """

    connections: int = 0
    refused: int = 0
    received: int = 0
    sent: int = 0
    sent_messages: int = 0
    errors: int = 0
    slow: int = 0
    silent: int = 0


class House(Protocol):
    """What a connection needs of the door."""

    exchange: Exchange
    guard: Guard
    bounds: Bounds
    traffic: Traffic

    def arrived(self, connection: "Connection") -> str:
        """Take note of a connection; returns why there is no room, or nothing."""
        ...

    def named(self, connection: "Connection") -> None:
        """Take note of who it is; closes the one that had this client-id."""
        ...

    def left(self, connection: "Connection") -> None:
        """Forget it."""
        ...


class Connection(asyncio.Protocol):
    """One client.

    Parameters
    ----------
    house
        The door.
    """

    def __init__(self, house: House) -> None:
        self.version = "1.2"
        self.client_id = ""
        self.namespace = ""
        self.identity = Identity("", frozenset(), None)
        self.since = datetime.now(UTC)
        self.peer = ("", 0)
        self.subscriptions: dict[str, Subscription] = {}
        self.received = 0
        self.sent = 0
        self._house = house
        self._rules = Rules(subscriptions=house.bounds.subscriptions, prefetch=house.bounds.prefetch)
        self._parser = Parser(house.bounds.frames)
        self._admitted: Admitted | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._numbers = count(1)
        # Inwards.
        self._frames: deque[Frame | BadFrame] = deque()
        self._unworked = 0
        self._news = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._deaf = False
        # Outwards: what the transport has not taken yet.
        self._unwritten: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        self.backlog = 0
        self._paused = False
        self._ending = False
        # Time.
        self._ours = self._theirs = 0.0
        self._heard = self._wrote = self._moved = self._checked = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=64 * 1024, low=16 * 1024)
        peer = transport.get_extra_info("peername") or ("", 0)
        self.peer = (str(peer[0]), int(peer[1]))
        # For those that ask for no heart-beats.
        known = transport.get_extra_info("socket")
        if known is not None:
            known.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            known.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(STUCK))
        self._timer = self._loop.call_later(HANDSHAKE, self._tick)
        full = self._house.arrived(self)
        if full:
            self.fail(full)
            return
        self._worker = self._loop.create_task(self._work(), name="client of the STOMP door")

    def data_received(self, data: bytes) -> None:
        """Take what comes, frame by frame."""
        self._heard = self._loop.time()
        if self._ending or self._deaf:
            return
        try:
            for frame in self._parser.feed(data):
                self._frames.append(frame)
                self._unworked += frame.size
        except BadFrame as exc:
            self._frames.append(exc)
            self._deaf = True
        if self._frames:
            self._news.set()
        if self._unworked > UNREAD and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client says nothing more; nor do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything, and give back what was not acknowledged; what it has sent is passed on all the same."""
        self._transport = None
        self._news.set()
        if self._timer is not None:
            self._timer.cancel()
        self._unwritten.clear()
        self.backlog = 0
        self.let_go()
        self._house.left(self)

    def let_go(self) -> None:
        """Want nothing more."""
        for subscription in self.subscriptions.values():
            self._house.exchange.unsubscribe(subscription)
        self.subscriptions.clear()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._paused = True
        self._moved = self._loop.time()

    def resume_writing(self) -> None:
        """There is room again."""
        self._paused = False
        self._moved = self._loop.time()
        was = self.clogged
        while self._unwritten and not self._paused:
            frame, taken = self._unwritten.popleft()
            self.backlog -= len(frame)
            self._write(frame, taken)
        if self._ending and not self._unwritten:
            self._hang_up()
        elif was and not self.clogged:
            self._house.exchange.ready(self.subscriptions.values())

    # Writing.

    @property
    def clogged(self) -> bool:
        """Whether so much waits that queues give nothing more."""
        return self.backlog > CLOGGED or self._ending or self._transport is None

    def number(self) -> int:
        """Return a number that no other delivery of this connection has."""
        return next(self._numbers)

    def send(self, frame: bytes, taken: Callable[[], None] | None = None) -> None:
        """Write a frame; a client that leaves too much unread is cut off.

        Parameters
        ----------
        taken
            Called when the socket has it.
        """
        if self._ending or self._transport is None:
            return
        self._house.traffic.sent += 1
        self.sent += 1
        if not self._paused:
            self._write(frame, taken)
            return
        self.backlog += len(frame)
        self._unwritten.append((frame, taken))
        if self.backlog > self._house.bounds.buffer:
            self._house.traffic.slow += 1
            waiting = self.backlog
            self._unwritten.clear()
            self.backlog = 0
            self.fail(f"too slow: {waiting} bytes of messages waited to be read")

    def _write(self, frame: bytes, taken: Callable[[], None] | None) -> None:
        if self._transport is not None:
            self._wrote = self._loop.time()
            self._transport.write(frame)
            if taken is not None:
                taken()

    def answer(self, command: str, headers: dict[str, str], body: bytes = b"") -> None:
        """Write a frame of the protocol."""
        self.send(encode(command, headers, body, version=self.version))

    def fail(self, reason: str, receipt: str | None = None) -> None:
        """Say why, and end."""
        if self._ending or self._transport is None:
            return
        self._house.traffic.errors += 1
        log.info("STOMP client refused", client=self.client_id, peer=self.peer[0], reason=reason)
        headers = {"message": reason[:500], "content-type": "text/plain"}
        if receipt is not None:
            headers["receipt-id"] = receipt
        self.answer("ERROR", headers, reason.encode(errors="replace"))
        self.end()

    def end(self) -> None:
        """Write what waits, and close."""
        if self._ending or self._transport is None:
            return
        self._ending = True
        # Not now: whoever gives us a message at the moment goes through those who take some.
        self._loop.call_soon(self.let_go)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(FAREWELL, self.cut)
        if not self._unwritten:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._transport is None:
            return
        # A socket that is closed with something unread in it is reset, and the client never sees why.
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def cut(self) -> None:
        """Close at once."""
        if self._worker is not None:
            self._worker.cancel()
        if self._transport is not None:
            self._transport.abort()

    # Time.

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = None
        if self._admitted is None:
            self.fail(f"no login within {HANDSHAKE:.0f} s")
            return
        if self._ours and now - self._wrote >= self._ours / 3 and not self._paused:
            self._write(BEAT, None)
        reading = self._transport is not None and self._transport.is_reading()
        if self._theirs and reading and now - self._heard > self._theirs * PATIENCE:
            self._house.traffic.silent += 1
            self.fail(f"no heart-beat for {now - self._heard:.1f} s")
            return
        if self._paused and now - self._moved > STUCK:
            self._house.traffic.slow += 1
            self.cut()
            return
        if now - self._checked > RECHECK:
            self._checked = now
            if not self._admitted.still():
                self.fail("the login counts no more")
                return
        steps = [each / 3 for each in (self._ours, self._theirs) if each]
        self._timer = self._loop.call_later(min([RECHECK, *steps]), self._tick)

    # Reading.

    async def _work(self) -> None:
        while True:
            while not self._frames:
                if self._transport is None:
                    return
                self._news.clear()
                await self._news.wait()
            some = [self._frames.popleft() for _ in range(min(TOGETHER, len(self._frames)))]
            await self._go_through(some)
            if self._ending:
                return
            self._unworked -= sum(frame.size for frame in some if isinstance(frame, Frame))
            if self._unworked <= UNREAD and self._transport is not None and not self._transport.is_reading():
                self._transport.resume_reading()

    async def _go_through(self, frames: list[Frame | BadFrame]) -> None:
        sends: list[Send] = []
        receipt: str | None = None
        try:
            for frame in frames:
                if isinstance(frame, BadFrame):
                    raise frame
                self._house.traffic.received += 1
                self.received += 1
                receipt = frame.headers.get("receipt")
                ask = self._rules.receive(frame)
                if isinstance(ask, Send):
                    self._insist(Scope.STREAM_WRITE, f"send to {ask.destination}")
                    sends.append(ask)
                    continue
                receipt = None
                await self._pass_on(sends)
                receipt = frame.headers.get("receipt")
                if self._transport is not None:
                    await self._do(ask)
            receipt = None
            await self._pass_on(sends)
        except (BadFrame, Violation, BadSelector) as exc:
            await self._pass_on(sends)
            self.fail(str(exc), None if isinstance(exc, BadFrame) else receipt)
        except BusError as exc:
            self.fail(f"that cannot be made sure of now: {exc}", receipt)

    async def _pass_on(self, sends: list[Send]) -> None:
        some, sends[:] = list(sends), []
        if not some:
            return
        at = datetime.now(UTC)
        posts = [Post(uuid4(), each.destination, each.headers, each.body, at) for each in some]
        if self.identity.namespaces is not None:
            for post, send in zip(posts, some, strict=True):
                if not self.identity.within(post.namespace):
                    self.fail("you may not send messages of this namespace", send.receipt)
                    return
        reasons = await self._house.exchange.publish(posts)
        self._house.traffic.sent_messages += len(posts)
        for send, reason in zip(some, reasons, strict=True):
            if reason:
                self.fail(f"{send.destination} does not take it: {reason}", send.receipt)
                return
            self._confirm(send.receipt)

    def _confirm(self, receipt: str | None) -> None:
        if receipt is not None:
            self.answer("RECEIPT", {"receipt-id": receipt})

    def _insist(self, scope: Scope, what: str) -> None:
        if not self.identity.may(scope):
            raise Violation(f"you may not {what}: it needs the scope {scope.value}")

    async def _do(self, ask: Ask) -> None:
        match ask:
            case Login():
                await self._login(ask)
            case Subscribe():
                await self._subscribe(ask)
            case Unsubscribe():
                subscription = self.subscriptions.pop(ask.id, None)
                if subscription is not None:
                    self._house.exchange.unsubscribe(subscription)
                if ask.durable:
                    await self._house.exchange.forget(self.client_id, self.identity.subject, ask.durable)
                self._confirm(ask.receipt)
            case Ack():
                await self._ack(ask)
                self._confirm(ask.receipt)
            case Disconnect():
                self.let_go()
                self._confirm(ask.receipt)
                self.end()

    async def _login(self, ask: Login) -> None:
        self.version = ask.version
        try:
            self._admitted = await self._house.guard.admit(ask.login, ask.passcode, self.peer)
        except Violation:
            self._house.traffic.refused += 1
            raise
        self.identity = self._admitted.identity
        self.client_id, self.namespace = ask.client_id, ask.namespace
        self._house.named(self)
        self._house.traffic.connections += 1
        self._ours, self._theirs = ask.ours, ask.theirs
        headers = {
            "version": ask.version,
            "heart-beat": f"{ask.ours * 1000:.0f},{ask.theirs * 1000:.0f}",
            "server": SERVER,
            "session": uuid4().hex,
        }
        self.answer("CONNECTED", headers)
        if self._timer is not None:
            self._timer.cancel()
        self._heard = self._loop.time()
        self._tick()

    async def _subscribe(self, ask: Subscribe) -> None:
        # Who takes a message out of a queue changes something.
        scope = Scope.STREAM_READ if ask.destination.startswith(TOPIC) else Scope.STREAM_WRITE
        self._insist(scope, f"subscribe to {ask.destination}")
        selector = Selector(ask.selector) if ask.selector else None
        subscription = self.subscriptions[ask.id] = Subscription(self, ask, selector)
        await self._house.exchange.subscribe(subscription)
        self._confirm(ask.receipt)

    async def _ack(self, ask: Ack) -> None:
        for subscription in self.subscriptions.values():
            if ask.subscription not in (None, subscription.ask.id):
                continue
            found = subscription.settle(ask.id, ask.good)
            if found:
                self._house.exchange.ready([subscription])
                if ask.receipt is not None:
                    await self._house.exchange.settler.settled()
                return
            topic = subscription.ask.destination.startswith(TOPIC) and not subscription.ask.durable
            if topic and (ask.subscription is not None or ask.id.startswith("topic-")):
                return
        raise Violation("nothing that was sent to you waits for this ACK or NACK")
