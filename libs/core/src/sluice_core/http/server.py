"""uvicorn, started from code: several ports in one event loop, stopped by an event and not by signals."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

__all__ = ["Listener", "PortBusy", "Server", "ServiceDied", "Tls", "lifespan", "serve", "stop_on_signals"]

log = structlog.get_logger(__name__)

GRACE = 2
"""Seconds that requests may still take once the process stops; less than what a supervisor of processes waits."""

# Longer than the minute between two heartbeats of an agent, which else meets a connection that is just being closed.
KEEP_ALIVE = 75

# Bytes of an answer that the kernel takes beyond what is on its way. Else it takes 3 MB for each reader of a long list
# that is slow, and the database reads that much ahead at once.
UNSENT = 128 * 1024

# Bytes of one answer that wait for what is written after them in the same step of the event loop. More is sent at once,
# so that the transport knows of it and whoever writes is held back.
GATHERED = 16 * 1024

# Seconds for which the event loop keeps the interpreter to itself while a thread of the database waits for it. With the
# default of 5 ms, a transaction whose five steps each wait for the loop takes longer than all its steps.
SWITCH = 0.0005

MAX_HEAD = 64 * 1024
"""Bytes of a request line and its headers, give or take one packet."""

HEAD_TIME = 30.0
"""Seconds from the beginning of a connection, or of a further request on it, to the end of the request's headers."""

BODY_TIME = 60.0
"""Seconds for which a body may pause before its connection is ended."""

MAX_MESSAGE = 64 * 1024
"""Bytes of one message of a WebSocket; a longer one ends the connection (close code 1009)."""

MAX_FRAGMENTS = 1000
"""Frames of one message of a WebSocket."""

PING = 20.0
"""Seconds between two pings on a WebSocket, and those that the answer may take."""


class PortBusy(Exception):
    """The address is in use, or is none of this machine; the text is for people."""


class ServiceDied(Exception):
    """A long-lived task of a service ended, so the process must end and be started anew."""


class Tls(NamedTuple):
    """A certificate, chain included, and its private key, as PEM files."""

    certificate: Path
    key: Path


class Listener:
    """A bound port; connections wait in its queue until a server takes them.

    Parameters
    ----------
    host
        Address or name of this machine.
    port
        0: the kernel chooses.

    Attributes
    ----------
    port
        The real one.

    Raises
    ------
    PortBusy
        The port is taken, or cannot be had.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self.socket = socket.socket(family, kind, protocol)
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
                self.socket.bind(address)
                # Two sockets may be bound to one port as long as none listens.
                self.socket.listen(2048)
            except OSError:
                self.socket.close()
                raise
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise PortBusy(f"port {port} of {host} is in use by another program") from exc
            raise PortBusy(f"cannot listen on port {port} of {host}: {exc.strerror}") from exc
        self.port: int = self.socket.getsockname()[1]

    def url(self, scheme: str = "http") -> str:
        """Return the base URL under which this machine reaches the port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()


class _Gathering:
    """A transport that sends at once what is written in one step of the event loop: the head of an answer and its body.

    As two packets they wake the client twice, which takes a quarter of the time of a small answer.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        # Asked for with each answer, and `__getattr__` is slow.
        self.is_closing = transport.is_closing
        self._pieces: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > GATHERED:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + self._size

    def _flush(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces and not self._transport.is_closing():
            self._transport.writelines(pieces)


class _Bounded(HttpToolsProtocol):
    """HTTP whose request line and headers are bounded, in length and in time, and whose bodies do not pause for ever.

    The parser itself keeps what is sent until memory ends, and uvicorn a connection that sends nothing for ever.
    """

    _head = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, _Gathering(transport, self.loop))
        self._deadline = self.loop.call_later(HEAD_TIME, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._head = -1
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def data_received(self, data: bytes) -> None:
        if self._head > MAX_HEAD:
            self.send_400_response("Request head too large")
            return
        super().data_received(data)
        if self._head < 0:
            self._in_time()
            self._await_body()
            return
        self._head += len(data)
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIME, self.transport.abort)

    def _await_body(self) -> None:
        if self.cycle is not None and self.cycle.more_body:
            self._deadline = self.loop.call_later(BODY_TIME, self._body_pauses)

    def _body_pauses(self) -> None:
        # It may be us who do not read on.
        if self.flow.read_paused:
            self._await_body()
        else:
            self.transport.abort()

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _BoundedSocket(WebSocketsSansIOProtocol):
    """A WebSocket with bounds on what uvicorn leaves without one."""

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        # Empty fragments never exceed the size of a message, and each of them is kept.
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        # Who does not read his answers gets none to pings; they would wait in memory.
        if self.transport.get_write_buffer_size() > UNSENT:
            self.conn.data_to_send()
            return
        super().handle_ping()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # A transport closes when all is sent. To a peer that does not read, that is never, and whoever sends waits.
        self.transport.abort()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Several servers share one process; what ends them is decided in one place.
        yield


class Server:
    """One application on one port.

    Parameters
    ----------
    app
        Any ASGI application; its lifespan is not run here (see `lifespan`).
    listener
        Closed when the server stops.
    tls
        Serve HTTPS.
    """

    def __init__(self, app: ASGIApp, listener: Listener, tls: Tls | None = None) -> None:
        config = uvicorn.Config(
            app,
            http=_Bounded,
            ws=_BoundedSocket,
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,
            ws_ping_interval=PING,
            ws_ping_timeout=PING,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            ssl_certfile=tls and tls.certificate,
            ssl_keyfile=tls and tls.key,
        )
        self._listener = listener
        self._uvicorn = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take connections from now on."""
        sys.setswitchinterval(SWITCH)
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener.socket]), name="http server")
        listening = asyncio.create_task(self._uvicorn.listening.wait())
        await asyncio.wait([self._task, listening], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            listening.cancel()
            await self._task

    async def stop(self) -> None:
        """Take no more connections, let requests end for `GRACE` seconds, then cancel them."""
        self._uvicorn.should_exit = True
        if self._task is not None:
            await self._task
        self._listener.close()


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Run the lifespan of an application around a block.

    Raises
    ------
    Exception
        What the application raised when it started or ended.
    """
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task: asyncio.Task[Any] = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))

    async def step(name: str) -> None:
        await incoming.put({"type": f"lifespan.{name}"})
        answer = asyncio.create_task(outgoing.get())
        try:
            await asyncio.wait([task, answer], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or not answer.result()["type"].endswith(".complete"):
                await task  # it raises what went wrong
                raise RuntimeError(f"the application ended during its {name}")
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            answer.cancel()

    await step("startup")
    try:
        yield
    finally:
        await step("shutdown")
        await task


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Generator[None, None, None]:
    """Set an event at SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve(
    services: Sequence[FastAPI],
    public: Sequence[Server],
    *,
    admin: Server,
    stop: asyncio.Event,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run services until they are told to stop, or until one of them dies.

    The admin port answers from the beginning, so that a probe sees why a service does not start; the others when all
    services have started. At the end readiness turns red and streams are told first; then requests end; then services.

    Parameters
    ----------
    services
        Applications made by `sluice_core.service.build`.
    public
        Servers of these applications, or of a router before them.
    stop
        Ends all.
    on_ready
        Called when requests are taken.

    Raises
    ------
    ServiceDied
        A long-lived task of a service ended.
    Exception
        What hindered a service from starting.
    """
    held = [app.state.service for app in services]
    started = [asyncio.Event() for _ in services]
    release = asyncio.Event()
    lives = [asyncio.create_task(_live(app, event, release)) for app, event in zip(services, started, strict=True)]
    stopped = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(_all_set(started))
    try:
        await admin.start()
        await asyncio.wait([stopped, ready, *lives], return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not stop.is_set():
            for server in public:
                await server.start()
            on_ready()
            deaths = [asyncio.create_task(service.supervisor.died.wait()) for service in held]
            await asyncio.wait([stopped, *deaths, *lives], return_when=asyncio.FIRST_COMPLETED)
            for death in deaths:
                death.cancel()
        for service in held:
            service.drain()
        await asyncio.gather(*(server.stop() for server in public))
    finally:
        stopped.cancel()
        ready.cancel()
        release.set()
        for life, event in zip(lives, started, strict=True):
            if not event.is_set():
                life.cancel()
        outcomes = await asyncio.gather(*lives, return_exceptions=True)
        await admin.stop()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    died = [f"{service.name}: {service.supervisor.reason}" for service in held if service.supervisor.died.is_set()]
    if died:
        raise ServiceDied("; ".join(died))


async def _live(app: ASGIApp, started: asyncio.Event, release: asyncio.Event) -> None:
    async with lifespan(app):
        started.set()
        await release.wait()


async def _all_set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
