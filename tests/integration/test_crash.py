"""What was answered is there after a crash or a stop, and every change reaches the bus once ("Must show" 4)."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import nats
import psycopg2
import pytest
import requests

from sluice_core.bus.permissions import ADMIN, authorization
from sluice_core.testing import eventually
from sluice_embedded import Nats
from tests.integration.platforms import Client, Up

AGENTS = "/api/systemagents/"
HEARTBEAT = f"{AGENTS}heartbeat/"
WRITERS = 8
AGENTS_OF_WRITER = 25
BEATS_OF_AGENT = 5
CREATES_OF_WRITER = 125
ALL = WRITERS * (AGENTS_OF_WRITER * BEATS_OF_AGENT + CREATES_OF_WRITER)


@dataclass
class Work:
    """1,000 heartbeats, each a change, and 1,000 creates, by 16 clients that try until they are answered.

    Attributes
    ----------
    beaten
        Last beat of each agent that was answered.
    created
        Agents whose creation was answered.
    again
        While it is clear, clients that lost the connection wait.
    faults
        What a client did not expect.
    clients
        Of each thread, by the URL that they are for.
    """

    up: Up
    prefix: str
    beaten: dict[str, int] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    again: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)
    clients: threading.local = field(default_factory=threading.local)

    def start(self) -> None:
        works = [(work, number) for number in range(WRITERS) for work in (self._beat, self._create)]
        self._threads = [threading.Thread(target=self._do, args=each, daemon=True) for each in works]
        for thread in self._threads:
            thread.start()

    @property
    def answered(self) -> int:
        """How much is done."""
        return sum(self.beaten.values()) + len(self.created)

    def end(self) -> None:
        """Let the clients do the rest."""
        self.again.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.faults
        assert self.answered == ALL

    def check(self) -> None:
        """What was answered is there."""
        rows = {row["instance_name"]: row for row in self.up.client().get(AGENTS).json()}
        lost = [name for name, pid in self.beaten.copy().items() if name not in rows or rows[name]["pid"] < pid]
        assert not lost
        assert self.created <= set(rows)

    def _do(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except Exception as exc:
            self.faults.append(repr(exc))

    def _beat(self, writer: int) -> None:
        for pid in range(1, BEATS_OF_AGENT + 1):
            for number in range(AGENTS_OF_WRITER):
                name = f"{self.prefix}-beat-{writer}-{number}"
                answer = self._send(HEARTBEAT, {"instance_name": name, "pid": pid})
                assert answer.status_code in (200, 201), answer.text
                self.beaten[name] = pid

    def _create(self, writer: int) -> None:
        for number in range(CREATES_OF_WRITER):
            name = f"{self.prefix}-made-{writer}-{number}"
            answer = self._send(AGENTS, {"instance_name": name, "agent_type": "test"})
            # Stored by a try whose answer was lost.
            assert answer.status_code == 201 or "already exists" in answer.text, answer.text
            self.created.add(name)

    def _send(self, path: str, body: dict[str, Any]) -> requests.Response:
        while True:
            client: Client = self.clients.__dict__.setdefault(self.up.http, self.up.client())
            try:
                answer = client.post(path, body)
            except requests.RequestException:
                self.again.wait(60)
                continue
            if answer.status_code != 503:
                return answer
            self.again.wait(60)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash") / "data"


@pytest.fixture
def up(data: Path) -> Iterator[Up]:
    with Up(data) as up:
        yield up


def events_waiting(up: Up) -> int:
    """Count what the registry has not published yet."""
    host, port = up.postgres.split(":")
    password = up.password("postgres registry")
    with (
        closing(
            psycopg2.connect(host=host, port=port, user="sluice_registry", password=password, dbname="sluice_registry")
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM outbox")
        return int((cursor.fetchone() or (0,))[0])


def published(data: Path) -> list[dict[str, Any]]:
    """Return all events of the stream AGENTS in their order; no platform may run on the data."""

    async def read(url: str) -> list[dict[str, Any]]:
        client = await nats.connect(url)
        try:
            stream = client.jetstream()
            found: list[dict[str, Any]] = []
            last = (await stream.stream_info("AGENTS")).state.last_seq
            subscription = await stream.subscribe("agents.state.>", ordered_consumer=True)
            while len(found) < last:
                message = await subscription.next_msg(timeout=10)
                assert message.headers is not None
                event = msgspec.json.decode(message.data)
                assert message.headers["Nats-Msg-Id"] == event["id"]
                found.append(event)
            return found
        finally:
            await client.close()

    with Nats(data / "nats", authorization=authorization({ADMIN: "secret"})) as server:
        return asyncio.run(read(server.url(ADMIN, "secret")))


def assert_each_change_is_one_event(data: Path, prefix: str) -> None:
    events = [each for each in published(data) if each["data"]["instance_name"].startswith(prefix)]
    assert len({event["id"] for event in events}) == len(events)
    told = Counter((event["data"]["instance_name"], event["data"]["pid"]) for event in events)
    beats = {
        (f"{prefix}-beat-{writer}-{number}", pid)
        for writer in range(WRITERS)
        for number in range(AGENTS_OF_WRITER)
        for pid in range(1, BEATS_OF_AGENT + 1)
    }
    made = {
        (f"{prefix}-made-{writer}-{number}", None) for writer in range(WRITERS) for number in range(CREATES_OF_WRITER)
    }
    assert set(told) == beats | made
    assert set(told.values()) == {1}
    of_agents: dict[str, list[int]] = {}
    for event in events:
        of_agents.setdefault(event["data"]["instance_name"], []).append(event["data"]["pid"])
    assert all(pids == sorted(pids) for pids in of_agents.values() if None not in pids)


def test_nothing_answered_is_lost_by_kill_9_and_each_change_is_one_event(up: Up) -> None:
    work = Work(up, "killed")
    work.start()
    eventually(lambda: work.answered > ALL // 3 or bool(work.faults), 60)
    up.kill()
    # They die with their parent, by themselves.
    eventually(lambda: not up.children(), 10)
    assert work.answered < ALL
    up.start()
    work.check()
    work.end()
    eventually(lambda: events_waiting(up) == 0, 30)
    up.stop()
    assert_each_change_is_one_event(up.data, "killed")


def test_nothing_answered_is_lost_by_sigterm_which_ends_it_in_less_than_5_seconds(up: Up) -> None:
    work = Work(up, "stopped")
    work.start()
    eventually(lambda: work.answered > ALL // 3 or bool(work.faults), 60)
    address = up.http.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as half:
        half.sendall(
            b"POST /api/logs/ HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        took = up.stop()
    print(f"SIGTERM under load: {took:.2f} s")
    assert took < 5
    assert not up.children()
    assert work.answered < ALL
    up.start()
    work.check()
    work.end()
    eventually(lambda: events_waiting(up) == 0, 30)
    up.stop()
    assert_each_change_is_one_event(up.data, "stopped")
