"""The door: one process at a time listens, and is the broker of everybody."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import msgspec
import structlog

from sluice_core import subjects
from sluice_core.bus import Backoff, Bus, BusError, Message, Rejected, StreamRefused, consume
from sluice_core.http.server import Listener, PortBusy
from sluice_stream.bridge.bridge import HEADERS, OUT
from sluice_stream.door.backlog import Counts
from sluice_stream.door.connection import Bounds, Connection, Traffic
from sluice_stream.door.depths import Depths
from sluice_stream.door.durables import Durables
from sluice_stream.door.exchange import Exchange, Rules
from sluice_stream.door.guard import Guard
from sluice_stream.door.post import Post
from sluice_stream.door.protocol import Violation
from sluice_stream.door.selectors import Selector
from sluice_stream.intake import SLUICE_ID, Intake
from sluice_stream.lease import Lease
from sluice_stream.messages import ID

__all__ = ["Door", "DoorState", "Place"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """Where to listen.

    Attributes
    ----------
    port
        0: any that is free.
    socket
        A listening socket that somebody else has made, instead.
    tls
        Certificate and key; None: plain.
    """

    host: str
    port: int
    socket: int | None = None
    tls: ssl.SSLContext | None = None


@dataclass
class DoorState:
    """What the door of this process does, for metrics and readiness.

    Attributes
    ----------
    active
        It has the lease.
    ports
        On which it listens.
    problem
        Why not; empty when there is none.
    """

    active: bool = False
    ports: tuple[int, ...] = ()
    problem: str = ""


class Door:
    """Serves clients while it has the lease.

    Parameters
    ----------
    bus, intake
        Where messages are kept and recorded.
    guard
        Lets clients in.
    lease
        One door is open at a time.
    places
        Where to listen.
    rules
        About destinations.
    bounds
        Of one client.
    connections, durables
        How many there may be.
    outbound
        Whether what others send by HTTP is brought from here: there is no other broker.
    """

    def __init__(
        self,
        bus: Bus,
        intake: Intake,
        guard: Guard,
        lease: Lease,
        places: Sequence[Place],
        *,
        rules: Rules,
        bounds: Bounds,
        connections: int,
        durables: int,
        outbound: bool,
    ) -> None:
        self.state = DoorState()
        self.guard = guard
        self.bounds = bounds
        self.traffic = Traffic()
        self.counts = Counts()
        self.depths = Depths()
        self.connections: set[Connection] = set()
        self._bus = bus
        self._intake = intake
        self._lease = lease
        self._places = places
        self._rules = rules
        self._most = connections
        self._durables = durables
        self._outbound = outbound
        self._names: dict[str, Connection] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self.exchange = self._made()

    def _made(self) -> Exchange:
        return Exchange(self._bus, self._intake, self._rules, Durables(self._bus, self._durables), self.counts)

    def check(self) -> tuple[bool, str]:
        """Say how it is: a readiness check that is never red, since everything else works without it."""
        if self.state.problem:
            return True, self.state.problem
        if not self.state.active:
            return True, "another process has the door, or none has it yet"
        if not self.state.ports:
            return True, "reads which durable subscriptions there are"
        if self.exchange.stalled:
            return True, f"what clients send waits: {self.exchange.stalled}"
        return True, f"listens on {', '.join(map(str, self.state.ports))}"

    async def run(self) -> None:
        """Work for ever; a long-lived task."""
        delays = Backoff(0.5, 10.0)
        while True:
            async with self._lease.hold() as lost:
                self.state.active = True
                try:
                    await self._open(lost)
                except PortBusy as exc:
                    # Others may have the port free on their machines.
                    if self.state.problem != str(exc):
                        self.state.problem = str(exc)
                        log.error("the STOMP door cannot open", reason=str(exc))
                else:
                    delays.reset()
                finally:
                    self.state.active, self.state.ports = False, ()
            await delays.wait()

    async def _open(self, lost: asyncio.Event) -> None:
        self.exchange = self._made()
        stop = asyncio.Event()
        exchange = self.exchange
        work = (
            exchange.settler.run(),
            exchange.durables.follow(),
            exchange.namespaces.run(),
            self.depths.follow(self._bus),
        )
        async with contextlib.AsyncExitStack() as stack:
            tasks = [asyncio.create_task(each) for each in work]
            stack.push_async_callback(_end, tasks)
            stack.callback(exchange.close)
            # With it, what is kept for durable subscriptions is complete.
            ready = asyncio.create_task(exchange.durables.ready())
            stack.push_async_callback(_end, [ready])
            await self._first_of(lost, [ready, *tasks])
            if lost.is_set():
                return
            # Reads its grammar, which takes a while.
            await asyncio.to_thread(Selector, "TRUE")
            listeners = [await stack.enter_async_context(self._listening(place)) for place in self._places]
            self.state.ports, self.state.problem = tuple(listeners), ""
            log.info("the STOMP door is open", ports=listeners)
            if self._outbound:
                tasks.append(asyncio.create_task(self._bring(stop)))
            await self._first_of(lost, tasks)

    @staticmethod
    async def _first_of(lost: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait until the lease is lost or a task ends, which raises what ended it."""
        waiting = asyncio.create_task(lost.wait())
        try:
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            waiting.cancel()

    @asynccontextmanager
    async def _listening(self, place: Place) -> AsyncIterator[int]:
        if place.socket is not None:
            listener = socket.socket(fileno=socket.dup(place.socket))
        else:
            listener = Listener(place.host, place.port).socket
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), sock=listener, ssl=place.tls, backlog=512)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
            for connection in list(self.connections):
                connection.fail("the door closes; connect again")
            # A moment to read why.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._empty.wait()
            for connection in list(self.connections):
                connection.cut()

    async def _bring(self, stop: asyncio.Event) -> None:
        """Pass on what was sent by HTTP."""

        async def handle(batch: list[Message]) -> list[Rejected]:
            rejected: list[Rejected] = []
            posts: list[Post] = []
            for message in batch:
                try:
                    posts.append(_outbound(message))
                except (ValueError, KeyError) as exc:
                    rejected.append((message, f"no message for a broker: {exc}"))
            reasons = await self.exchange.publish(posts)
            if full := next(filter(None, reasons), ""):
                raise StreamRefused(full, permanent=False)
            return rejected

        await consume(self._bus, OUT, handle, stop, outage=(BusError,))

    # What connections tell (`connection.House`).

    def arrived(self, connection: Connection) -> str:
        """Take note of a connection; returns why there is no room, or nothing."""
        if len(self.connections) >= self._most:
            return f"there are {self._most} connections already"
        self.connections.add(connection)
        self._empty.clear()
        return ""

    def named(self, connection: Connection) -> None:
        """Close the connection that had this client-id: its client has come back before we noticed that it went."""
        if not connection.client_id:
            return
        known = self._names.get(connection.client_id)
        if known is not None:
            if known.identity.subject != connection.identity.subject:
                raise Violation(f"client-id {connection.client_id!r} is in use by another user")
            known.let_go()
            known.fail("another connection has come with this client-id")
        self._names[connection.client_id] = connection

    def left(self, connection: Connection) -> None:
        """Forget it."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
        if self._names.get(connection.client_id) is connection:
            del self._names[connection.client_id]


def _outbound(message: Message) -> Post:
    headers = msgspec.json.decode(message.headers.get(HEADERS, "{}"), type=dict[str, str])
    own = message.headers[ID]
    destination = subjects.outbound_to(message.subject)
    return Post(UUID(own), destination, {**headers, SLUICE_ID: own}, message.data, message.at)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
