"""Server-sent events to many readers at once: framing, a bounded queue for each reader, and an end for all.

An event is encoded once and its bytes are shared by all who get it. A reader that is slower than what comes loses its
oldest events first; one that takes nothing any more is cut off, so nobody holds memory for ever.
"""

import asyncio
import os
import re
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from starlette.types import Receive, Scope, Send

from sluice_core.http.envelope import TRANSPORT

__all__ = ["MEDIA_TYPE", "Reader", "Readers", "encode_event"]

MEDIA_TYPE = "text/event-stream"

# Bytes of one write; what is longer goes out in pieces, so that a reader holds no more than this beyond its queue.
PIECE = 64 * 1024
# Seconds between two looks at all readers, where their heartbeat is not shorter.
LOOK = 1.0
# Seconds that a reader has for its last events when the process ends.
LAST = 0.5
# The kernel gives up on a peer that acknowledges nothing, a little before the second heartbeat.
UNACKNOWLEDGED = 0.8

_BREAK = re.compile(rb"\r\n|\r|\n")


def encode_event(name: str, data: bytes, event_id: str = "") -> bytes:
    """Return one event as it goes on the wire.

    Parameters
    ----------
    name
        What stands behind ``event:``. It has to stay on its line: each line break that some client knows is a space.
    data
        UTF-8. Each of its lines gets a ``data:`` of its own, which is one line for JSON.
    event_id
        What a client sends as ``Last-Event-ID`` when it comes back; stands last, so the rest is as without it.
    """
    line = " ".join(name.splitlines()).encode("utf-8", "replace")
    if b"\n" in data or b"\r" in data:
        data = _BREAK.sub(b"\ndata: ", data)
    if event_id:
        return b"event: %b\ndata: %b\nid: %b\n\n" % (line, data, event_id.encode())
    return b"event: %b\ndata: %b\n\n" % (line, data)


class Reader:
    """One open stream.

    Parameters
    ----------
    length
        Events that wait at most; the oldest leaves for a new one.
    tell_dropped
        Whether the reader gets an event ``dropped`` with the number of those that it lost.
    allowed
        Asked at each heartbeat whether its credential is still good.

    Attributes
    ----------
    sent
        Events that were offered, those included that were dropped later (contract 6.2).
    dropped
        Events that left the queue unsent.
    ended
        Nothing more is sent to it.
    live
        It gets heartbeats; false while it still reads what came before.
    """

    def __init__(self, *, length: int, tell_dropped: bool = False, allowed: Callable[[], bool] = lambda: True) -> None:
        self.sent = 0
        self.dropped = 0
        self.ended = False
        self.live = False
        self.allowed = allowed
        self._length = length
        self._tell_dropped = tell_dropped
        self._untold = 0
        self._queue: deque[bytes] = deque()
        self._news: asyncio.Future[None] | None = None
        self._send: Send | None = None
        self._transport: asyncio.Transport | None = None
        self._writing_since: float | None = None
        self._beat_at = 0.0

    def offer(self, event: bytes) -> None:
        """Queue an event; never waits."""
        self.sent += 1
        self.tell(event)

    def tell(self, event: bytes) -> None:
        """Queue an event that says something about the stream; it is not counted as `sent`."""
        if len(self._queue) >= self._length:
            self._queue.popleft()
            self.dropped += 1
            self._untold += 1
        self._queue.append(event)
        self._wake()

    async def write(self, data: bytes) -> None:
        """Send something past the queue, as fast as the reader takes it; for what it gets before it is `live`."""
        assert self._send is not None
        loop = asyncio.get_running_loop()
        try:
            for at in range(0, len(data), PIECE):
                piece = data if len(data) <= PIECE else data[at : at + PIECE]
                # Whoever takes a piece is slow, not gone.
                self._writing_since = loop.time()
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            self._writing_since = None

    async def replay(self, events: Iterable[bytes]) -> None:
        """Send events past the queue, many in one write; they count as `sent`."""
        waiting = deque(events)
        self.sent += len(waiting)
        while waiting:
            await self.write(_joined(waiting))

    def end(self) -> None:
        """End the stream, cleanly where the reader takes what it is sent."""
        self.ended = True
        self._wake()
        if self._writing_since is not None:
            self.abort()

    def abort(self) -> None:
        """Cut the connection, with what waits in it."""
        self.ended = True
        self._wake()
        if self._transport is not None:
            self._transport.abort()

    async def _run(self, receive: Receive, send: Send, begin: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        watching = asyncio.create_task(self._watch(receive))
        try:
            await begin()
            while not self.ended:
                if self._queue:
                    await self.write(self._take())
                else:
                    await self._wait()
            if not watching.done():
                await self._finish(send)
        finally:
            watching.cancel()

    async def _finish(self, send: Send) -> None:
        try:
            async with asyncio.timeout(LAST):
                while self._queue:
                    await self.write(self._take())
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self.abort()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.ended = True
        self._wake()

    def _take(self) -> bytes:
        """Return the oldest events, as many as make one write."""
        queue = self._queue
        told = b""
        if self._untold and self._tell_dropped:
            told = encode_event("dropped", b'{"count": %d}' % self._untold)
            self._untold = 0
        events = _joined(queue)
        return told + events if told else events

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def _joined(events: deque[bytes]) -> bytes:
    """Take the first of these events out, and as many more as make one write with it."""
    first = events.popleft()
    if not events:
        return first
    found, size = [first], len(first)
    while events and size + len(events[0]) <= PIECE:
        size += len(events[0])
        found.append(events.popleft())
    return b"".join(found)


class Readers:
    """All readers of one kind of stream in this process.

    Parameters
    ----------
    heartbeat
        How often a quiet stream says that it is alive. A reader that is gone, or takes nothing, is noticed within two.
    beat
        Makes the heartbeat; one for all whose time has come.
    most
        How many there may be.
    """

    def __init__(self, *, heartbeat: timedelta, beat: Callable[[], bytes], most: int) -> None:
        self._period = heartbeat.total_seconds()
        self._beat = beat
        self._most = most
        self._open: set[Reader] = set()
        self._closed = False
        self._sent = self._dropped = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def sent(self) -> int:
        """Events that were offered to readers so far."""
        return self._sent + sum(reader.sent for reader in self._open)

    @property
    def dropped(self) -> int:
        """Events that readers were too slow for."""
        return self._dropped + sum(reader.dropped for reader in self._open)

    @property
    def has_room(self) -> bool:
        """Whether one more may come: there are not too many, and the process does not end."""
        return not self._closed and len(self._open) < self._most

    async def serve(
        self, reader: Reader, scope: Scope, receive: Receive, send: Send, begin: Callable[[], Awaitable[None]]
    ) -> None:
        """Send the body of an answer whose head is out, until one of the two ends it.

        Parameters
        ----------
        begin
            Writes what comes first, makes the reader `Reader.live`, and lets others `Reader.offer` to it.
        """
        reader._transport = scope.get(TRANSPORT)
        if reader._transport is not None:
            # TLS would otherwise buffer half a megabyte.
            reader._transport.set_write_buffer_limits(high=PIECE)
            _give_up_after(reader._transport, UNACKNOWLEDGED * self._period)
        reader._beat_at = asyncio.get_running_loop().time() + self._period
        self._open.add(reader)
        try:
            if self._closed:
                reader.end()
            await reader._run(receive, send, begin)
        finally:
            self._open.discard(reader)
            self._sent += reader.sent
            self._dropped += reader.dropped

    async def run(self, draining: asyncio.Event) -> None:
        """Give heartbeats, cut off who takes nothing, end all once ``draining`` is set; a supervised task."""
        look = min(LOOK, self._period / 4)
        while not draining.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(look):
                    await draining.wait()
            self._look()
        self.close()
        await asyncio.Event().wait()  # only the supervisor ends a task

    def close(self) -> None:
        """End all streams at once; none begins any more."""
        self._closed = True
        for reader in tuple(self._open):
            reader.end()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        beat = b""
        for reader in tuple(self._open):
            since = reader._writing_since
            if since is not None and now - since >= self._period:
                reader.abort()
            elif now >= reader._beat_at:
                if not reader.allowed():
                    reader.end()
                elif reader.live and since is None and not reader._queue:
                    beat = beat or self._beat()
                    reader.tell(beat)
                    reader._beat_at = now + self._period


def _give_up_after(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end the connection when a peer acknowledges nothing for so long: it went without a word."""
    found = transport.get_extra_info("socket")
    if found is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    # The socket that a transport shows does not take options in every event loop; its copy does.
    with socket.socket(fileno=os.dup(found.fileno())) as same:
        if same.family != socket.AF_UNIX:
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))
