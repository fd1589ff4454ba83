"""Work whose every answer can be looked for afterwards, in the database and on the bus."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import nats
import psycopg2
import requests

from sluice_core.bus.permissions import ADMIN, authorization
from sluice_core.testing import eventually
from sluice_embedded import Nats
from tests.integration.platforms import Client, Up

__all__ = ["Work", "assert_each_change_is_one_event"]

AGENTS = "/api/systemagents/"
HEARTBEAT = f"{AGENTS}heartbeat/"
WRITERS = 8


class Work:
    """Heartbeats, each a change, and as many creates, by 16 clients that try until they are answered.

    As a context manager it runs.

    Parameters
    ----------
    up
        The platform; may come and go.
    prefix
        Of the names of its agents.
    beats
        Of each of the 200 agents.

    Attributes
    ----------
    total
        Requests that must be answered.
    beaten
        Last beat of each agent that was answered.
    created
        Agents whose creation was answered.
    there
        Clients that lost the connection wait until it is set.
    """

    def __init__(self, up: Up, prefix: str, *, beats: int = 5) -> None:
        self._up = up
        self._prefix = prefix
        self._beats = range(1, beats + 1)
        self._agents = range(25)
        self._creates = range(25 * beats)
        self._faults: list[str] = []
        self._over = False
        self._clients = threading.local()
        self.total = 2 * WRITERS * len(self._creates)
        self.beaten: dict[str, int] = {}
        self.created: set[str] = set()
        self.there = threading.Event()
        works = [(work, writer) for writer in range(WRITERS) for work in (self._beat, self._create)]
        self._threads = [threading.Thread(target=self._do, args=each) for each in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._over = True
        self.there.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """How much is done."""
        return sum(self.beaten.copy().values()) + len(self.created)

    def reach(self, share: float) -> None:
        """Wait until so much of it is done."""

        def reached() -> bool:
            if self._faults:
                raise RuntimeError(self._faults[0])
            return self.answered >= share * self.total

        eventually(reached, 60)

    def check(self) -> None:
        """Insist that all that was answered is there."""
        beaten, created = self.beaten.copy(), self.created.copy()
        with closing(self._up.client()) as client:
            rows = {row["instance_name"]: row for row in client.get(AGENTS).json()}
        assert created | set(beaten) <= set(rows)
        assert not [name for name, pid in beaten.items() if rows[name]["pid"] < pid]

    def changes(self) -> set[tuple[str, int | None]]:
        """Return all changes that it makes: name and process id."""
        beats = {
            (self._beating(writer, agent), pid)
            for writer in range(WRITERS)
            for agent in self._agents
            for pid in self._beats
        }
        return beats | {(self._made(writer, number), None) for writer in range(WRITERS) for number in self._creates}

    def _beating(self, writer: int, agent: int) -> str:
        return f"{self._prefix}-beat-{writer}-{agent}"

    def _made(self, writer: int, number: int) -> str:
        return f"{self._prefix}-made-{writer}-{number}"

    def _do(self, work: Callable[[int], None], writer: int) -> None:
        try:
            work(writer)
        except Exception as exc:
            self._faults.append(repr(exc))
        finally:
            for client in self._clients.__dict__.values():
                client.close()

    def _beat(self, writer: int) -> None:
        for pid in self._beats:
            for agent in self._agents:
                name = self._beating(writer, agent)
                answer = self._send(HEARTBEAT, {"instance_name": name, "pid": pid})
                assert answer.status_code in (200, 201), answer.text
                self.beaten[name] = pid

    def _create(self, writer: int) -> None:
        for number in self._creates:
            name = self._made(writer, number)
            answer = self._send(AGENTS, {"instance_name": name, "agent_type": "test"})
            # Stored by a try whose answer was lost.
            assert answer.status_code == 201 or "already exists" in answer.text, answer.text
            self.created.add(name)

    def _send(self, path: str, body: dict[str, Any]) -> requests.Response:
        while not self._over:
            client: Client = self._clients.__dict__.setdefault(self._up.http, self._up.client())
            try:
                answer = client.post(path, body)
            except requests.RequestException:
                self.there.wait(60)
                continue
            if answer.status_code != 503:
                return answer
            self.there.wait(60)
        raise RuntimeError("it is over")


def assert_each_change_is_one_event(up: Up, work: Work) -> None:
    """Insist that each change of the work is one event, in the order of its agent; ends the platform to look."""
    eventually(lambda: _events_waiting(up) == 0, 30)
    up.stop()
    wanted = work.changes()
    names = {name for name, _ in wanted}
    events = [each for each in _published(up.data) if each["data"]["instance_name"] in names]
    assert len({event["id"] for event in events}) == len(events)
    told = Counter((event["data"]["instance_name"], event["data"]["pid"]) for event in events)
    assert set(told) == wanted
    assert set(told.values()) == {1}
    of_agents: dict[str, list[int]] = {}
    for event in events:
        of_agents.setdefault(event["data"]["instance_name"], []).append(event["data"]["pid"])
    assert all(pids == sorted(pids) for pids in of_agents.values() if len(pids) > 1)


def _events_waiting(up: Up) -> int:
    """Count what the registry has not published yet."""
    host, port = up.postgres.split(":")
    password = up.password("postgres registry")
    connection = psycopg2.connect(
        host=host, port=port, user="sluice_registry", password=password, dbname="sluice_registry"
    )
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox")
        return int((cursor.fetchone() or (0,))[0])


def _published(data: Path) -> list[dict[str, Any]]:
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
