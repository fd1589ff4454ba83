"""The stream service behind real ports, with a stream to publish on and clients that follow it."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from sluice_core.bus import DLQ, INBOUND, MESSAGES, Bus, PubAck
from sluice_core.testing import NatsServer, eventually
from sluice_core.testing.tokens import Tokens
from sluice_stream.messages import Message

PATH = "/api/messages/stream/"


class Publisher:
    """Publishes onto the stream ``MESSAGES``, as the bridge does; its bus lives in a thread of its own.

    Parameters
    ----------
    url
        Of nats-server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="publisher")
        self._thread.start()
        self._bus: Bus = self.run(self._open())

    def run(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    async def _open(self) -> Bus:
        bus = Bus(self._url, name="publisher")
        await bus.open()
        await bus.wait_connected(10)
        await bus.ensure([MESSAGES, INBOUND, DLQ])
        return bus

    @property
    def connected(self) -> bool:
        """Whether it can publish."""
        return self._bus.connected

    def make_anew(self) -> None:
        """Lose the stream with all that is in it, and make it again."""

        async def anew() -> None:
            session = await self._bus.session(10)
            await session.api(f"STREAM.DELETE.{MESSAGES.name}")
            await self._bus.ensure([MESSAGES])

        self.run(anew())

    def forget(self, before: int) -> None:
        """Drop all messages before a sequence."""

        async def purge() -> None:
            session = await self._bus.session(10)
            await session.api(f"STREAM.PURGE.{MESSAGES.name}", {"seq": before})

        self.run(purge())

    def __call__(self, msg_type: str = "stf_gen", *, replayed: bool = False, **body: Any) -> int:
        """Publish one message; return its sequence."""
        return self.many([{"msg_type": msg_type, **body}], replayed=replayed)[0]

    def raw(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        """Publish what need not be a message."""
        self.run(self._bus.publish_stored(subject, data, msg_id=str(uuid4()), headers=headers))

    def many(self, bodies: list[dict[str, Any]], *, replayed: bool = False) -> list[int]:
        """Publish messages in their order; return their sequences."""

        async def publish() -> list[int]:
            acks = []
            for at in range(0, len(bodies), 256):
                acks += await asyncio.gather(*(self._one(body, replayed) for body in bodies[at : at + 256]))
            return [ack.sequence for ack in acks]

        found: list[int] = self.run(publish())
        return found

    async def _one(self, body: dict[str, Any], replayed: bool) -> PubAck:
        data = json.dumps(body, ensure_ascii=False).encode()
        message = Message(uuid4(), "/topic/epictopic", datetime.now(UTC), data, replayed)
        return await self._bus.publish_stored(
            message.fields.subject, data, msg_id=str(message.id), headers=message.headers, timeout=30
        )

    def close(self) -> None:
        """Close the bus and end the thread."""
        self.run(self._bus.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Event:
    """One event that a client got."""

    def __init__(self, text: str) -> None:
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        self.name = fields["event"]
        self.data: dict[str, Any] = json.loads(fields["data"])
        self.id = fields.get("id", "")


class Follower:
    """A client of the event stream on a socket of its own, which reads in the test's thread.

    Parameters
    ----------
    url
        Base URL of the service.
    query
        With its ``?``.
    headers
        Of the request.
    """

    def __init__(self, url: str, query: str, headers: dict[str, str], path: str = PATH) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=10)
        lines = [f"GET {path}{query} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in headers.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self._text = b""
        self.raw = b""
        self.last_id = ""
        self.client_id = ""

    def event(self) -> Event:
        """Return the next event.

        Raises
        ------
        EOFError
            The stream has ended.
        """
        while b"\n\n" not in self._text:
            self._text += self._chunk()
        one, _, self._text = self._text.partition(b"\n\n")
        event = Event(one.decode())
        self.last_id = event.id or self.last_id
        return event

    def next(self) -> Event:
        """Return the next event that is no heartbeat."""
        while (event := self.event()).name == "heartbeat":
            pass
        return event

    def take(self, count: int) -> list[Event]:
        """Return so many events, heartbeats apart."""
        return [self.next() for _ in range(count)]

    def until_end(self) -> list[Event]:
        """Return all events until the stream ends."""
        found = []
        with contextlib.suppress(EOFError):
            while True:
                found.append(self.next())
        return found

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self.socket.close()

    def _chunk(self) -> bytes:
        try:
            size = int(self._file.readline() or b"0", 16)
            data = self._file.read(size)
            self._file.readline()
        except ConnectionResetError:
            raise EOFError from None
        if not size:
            raise EOFError
        self.raw += data
        return data


Follow = Callable[..., Follower]


@pytest.fixture
def publish(nats_server: NatsServer) -> Iterator[Publisher]:
    publisher = Publisher(nats_server.url())
    yield publisher
    publisher.close()


@pytest.fixture
def follow(tokens: Tokens) -> Iterator[Follow]:
    """Follow messages: ``follow(url, "?msg_types=a", last="id")``; the first event, ``connected``, has been read."""
    with contextlib.ExitStack() as stack:

        def open_one(url: str, query: str = "", *, last: str = "", **more: Any) -> Follower:
            headers = tokens.header("stream:read") | ({"Last-Event-ID": last} if last else {}) | more.get("headers", {})

            def attempt() -> Follower | None:
                one = Follower(url, query, headers)
                if one.status == 503:  # it has not read the stream yet
                    one.close()
                    return None
                stack.callback(one.close)
                return one

            found = eventually(attempt)
            assert found is not None
            assert found.status == 200
            connected = found.event()
            assert connected.name == "connected"
            found.client_id = connected.data["client_id"]
            return found

        yield open_one
