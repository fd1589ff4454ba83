"""A topic at 200 messages a second while something on their way is away: none lost, none twice."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import requests
import stomp  # type: ignore[import-untyped]

from sluice_core import bus as core
from sluice_core.bus import Bucket, Bus
from sluice_core.bus.permissions import SERVICES
from sluice_core.testing import Databases, eventually
from sluice_core.testing.activemq import PASSWORD, USER, ActiveMq
from sluice_core.testing.tokens import Tokens
from sluice_embedded import Nats, Postgres
from tests.integration.platforms import Serve

pytestmark = pytest.mark.timeout(600)

RATE = 200
TOPIC = "/topic/epictopic"
AWAY = 30.0
# Seconds without a byte after which a reader comes back; the event stream says something more often.
SILENT = 5


class _Confirmed(stomp.ConnectionListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.numbers: set[int] = set()

    def on_receipt(self, frame: Any) -> None:
        number = frame.headers["receipt-id"]
        if number.isdecimal():
            self.numbers.add(int(number))


class Source(threading.Thread):
    """Publishes numbered messages; what the broker has confirmed must arrive, once."""

    def __init__(self, broker: ActiveMq) -> None:
        super().__init__(name="source")
        self.broker = broker
        self.sent = 0
        self.listener = _Confirmed()
        self.over = threading.Event()

    def run(self) -> None:
        """Publish until it is over; a message that fails is not repeated."""
        began = time.monotonic()
        while not self.over.is_set():
            try:
                connection = stomp.StompConnection11(
                    [self.broker.address], auto_content_length=False, timeout=5, reconnect_attempts_max=1
                )
                connection.set_listener("source", self.listener)
                connection.connect(USER, PASSWORD, headers={"client-id": uuid4().hex})
                while not self.over.wait(max(0.0, began + self.sent / RATE - time.monotonic())):
                    body = json.dumps({"msg_type": "stf_gen", "number": self.sent, "sender": "daq-1"})
                    self.sent += 1
                    number = str(self.sent - 1)
                    connection.send(TOPIC, body, headers={"persistent": "true", "receipt": number})
                connection.disconnect("bye")
            except (stomp.exception.StompException, OSError):
                self.over.wait(0.2)

    def reach(self, seconds: float) -> None:
        """Wait until so many seconds' worth of messages is confirmed on top of what is."""
        goal = len(self.listener.numbers) + int(seconds * RATE)
        eventually(lambda: len(self.listener.numbers) >= goal, 30 + 2 * seconds)


class Reader(threading.Thread):
    """Follows the event stream, and resumes after the last event it got whenever that ends."""

    def __init__(self, serve: Serve, headers: Mapping[str, str]) -> None:
        super().__init__(name="reader")
        self.numbers: list[int] = []
        self.following = threading.Event()
        self.over = threading.Event()
        self._serve = serve
        self._headers = dict(headers)

    def run(self) -> None:
        """Read until it is over."""
        while not self.over.is_set():
            with contextlib.suppress(requests.RequestException):
                url = f"{self._serve.http}/api/messages/stream/"
                with requests.get(url, headers=self._headers, stream=True, timeout=(5, SILENT)) as reply:
                    if reply.status_code == 200:
                        self._read(reply)
            self.over.wait(0.2)

    def _read(self, reply: requests.Response) -> None:
        number: int | None = None
        for line in reply.iter_lines(chunk_size=None):
            if line.startswith(b"data: "):
                number = json.loads(line[6:]).get("number")
            elif line.startswith(b"id: "):
                self._headers["Last-Event-ID"] = line[4:].decode()
                self.following.set()
            elif not line and number is not None:
                self.numbers.append(number)
                number = None
            if self.over.is_set():
                return


class Way:
    """Everything between the topic and the table."""

    def __init__(
        self, serve: Serve, broker: ActiveMq, postgres: Postgres, nats: Nats, database: str, tokens: Tokens
    ) -> None:
        self.serve = serve
        self.tokens = tokens
        self.broker = broker
        self.postgres = postgres
        self.nats = nats
        self._database = database

    def take_away(self, what: str) -> None:
        """``kill -9`` one of them, and start it again."""
        if what == "the bridge for 30 s":
            self.serve.kill()
            time.sleep(AWAY)  # what is measured
            self.serve.start()
            return
        found = getattr(self, what)
        found.kill()
        found.start()

    def numbers(self) -> list[int]:
        """Return the numbers of all recorded messages."""
        url = self._database.replace("+psycopg2", "")
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT (message_content->>'number')::int FROM workflow_message")
            return [number for (number,) in cursor.fetchall()]


@pytest.fixture
def way(tmp_path: Path, own_broker: ActiveMq) -> Iterator[Way]:
    with Postgres(tmp_path / "postgres") as postgres, Nats(tmp_path / "nats") as nats:
        asyncio.run(make_streams(nats.url()))
        tokens = Tokens()
        asyncio.run(tokens.publish(nats.url()))
        host, port = own_broker.address
        broker = {"HOST": host, "PORT": str(port), "USER": USER, "PASSWORD": PASSWORD}
        with Databases(postgres).fresh("sluice_stream") as url:
            serve = Serve(
                "stream",
                tmp_path,
                database_url=url,
                nats_url=nats.url(),
                SLUICE_STREAM_ACTIVEMQ_CLIENT_ID=uuid4().hex,
                SLUICE_STREAM_SSE_HEARTBEAT="1s",
                **{f"ACTIVEMQ_{name}": value for name, value in broker.items()},
            )
            with serve:
                eventually(serve.ready, 30)
                yield Way(serve, own_broker, postgres, nats, url, tokens)


async def make_streams(url: str) -> None:
    """Make all streams, as the registry does."""
    bus = Bus(url, name="test")
    await bus.open()
    try:
        kept = SERVICES["registry"].keep
        streams = [each for each in kept if isinstance(each, core.Stream)]
        await bus.ensure(streams, [each for each in kept if isinstance(each, Bucket)])
    finally:
        await bus.close()


@pytest.mark.parametrize("what", ["the bridge for 30 s", "serve", "broker", "nats", "postgres"])
def test_what_the_broker_has_confirmed_is_stored_once_whatever_dies(way: Way, what: str) -> None:
    """Also scenario 25 of swf-monitor.md."""
    source, reader = Source(way.broker), Reader(way.serve, way.tokens.header("stream:read"))
    eventually(lambda: "sluice_bridge_connected 1.0" in metrics(way.serve), 30)
    reader.start()
    try:
        assert reader.following.wait(30)
        source.start()
        try:
            source.reach(3)
            way.take_away(what)
            source.reach(3)
        finally:
            source.over.set()
            source.join()
        _compare(what, way, source, reader)
    finally:
        reader.over.set()
        reader.join()


def _compare(what: str, way: Way, source: Source, reader: Reader) -> None:
    confirmed = source.listener.numbers

    def all_there() -> bool:
        numbers = way.numbers()
        assert confirmed <= set(numbers), f"{len(confirmed - set(numbers))} missing"
        return True

    eventually(all_there, 120)
    numbers = way.numbers()
    eventually(lambda: len(reader.numbers) >= len(numbers), 60)
    print(
        f"{what}: sent {source.sent}, confirmed {len(confirmed)}, stored {len(numbers)}, streamed {len(reader.numbers)}"
    )
    assert len(numbers) == len(set(numbers))
    assert sorted(reader.numbers) == sorted(numbers)


def metrics(serve: Serve) -> str:
    """Return what it counts."""
    return requests.get(f"{serve.admin}/metrics", timeout=10).text
