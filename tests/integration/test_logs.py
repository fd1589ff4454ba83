"""Log records through ``kill -9`` of the service, of PostgreSQL and of NATS: what was answered is found, once."""

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import requests

from sluice_core.bus import DLQ, LOGS, Bus
from sluice_core.testing import Databases, NatsServer, PostgresServer, eventually, servers
from tests.integration.platforms import Client, Serve

PATH = "/api/logs/"
WRITERS = 8
BATCH = 20
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that may be away without disturbing other tests."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Databases:
    return Databases(postgres)


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with servers.nats() as server:
        yield server


@pytest.fixture(scope="module")
def serve(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> Iterator[Serve]:
    """The log service alone; the streams are those that the registry makes."""

    async def make_streams() -> None:
        bus = Bus(nats_server.url(), name="registry", keeps=(LOGS, DLQ))
        await bus.open()
        await bus.wait_connected(10)
        await bus.close()

    asyncio.run(make_streams())
    with databases.fresh("sluice_logs") as url:
        folder = tmp_path_factory.mktemp("logs")
        with Serve("logs", folder, database_url=url, nats_url=nats_server.url()) as serve:
            eventually(lambda: checks(serve)["bus"]["ok"])
            yield serve


def checks(serve: Serve) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{serve.admin}/readyz", timeout=10).json()["checks"]
    return found


def record(message: str) -> dict[str, Any]:
    """Return what the agents' library posts (swf-clients.md 6)."""
    return {
        "app_name": "base_agent",
        "instance_name": "daq-7",
        "timestamp": "2026-05-05T10:00:00.123456",
        "level": 20,
        "levelname": "INFO",
        "message": message,
        "module": "base_agent",
        "funcname": "send_heartbeat",
        "lineno": 311,
        "process": 4711,
        "thread": 140713671113600,
        "extra_data": {"execution_id": "fast-ada-0001"},
    }


class Load:
    """Records by eight clients, one by one and in batches, each sent until it is answered.

    As a context manager it runs.

    Attributes
    ----------
    ids
        Message of each record whose id was answered.
    answered
        Messages of records that were answered, those of batches included.
    unknown
        Requests without an answer: nobody knows whether they were carried out.
    refused
        Answers that told to try again.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(WRITERS)
        self._name = secrets.token_hex(4)
        self.ids: dict[int, str] = {}
        self.answered: list[str] = []
        self.unknown = 0
        self.refused = 0

    def __enter__(self) -> "Load":
        self._writers = [self._threads.submit(self._write, number) for number in range(WRITERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for writer in self._writers:
            writer.result(60)
        self._threads.shutdown()

    def another(self, count: int) -> None:
        """Wait until so many more records are answered."""
        goal = len(self.answered) + count
        eventually(lambda: len(self.answered) >= goal or any(each.done() for each in self._writers), 60)

    def check(self) -> Counter[str]:
        """Insist that all that was answered is found, with its id; return how often each message is."""

        def look() -> Counter[str]:
            with closing(Client(self._serve.http)) as client:
                rows = {row["id"]: row["message"] for row in client.get(PATH, timeout=60).json()}
            found = Counter(message for message in rows.values() if message.startswith(self._name))
            missing = set(self.answered) - set(found)
            assert not missing, f"{len(self.answered)} answered, {len(missing)} not found"
            wrong = {key for key, message in self.ids.items() if rows.get(key) != message}
            assert not wrong, f"{len(self.ids)} ids answered, {len(wrong)} not found"
            print(f"answered {len(self.answered)}, found {found.total()}; {self.unknown} without an answer")
            return found

        return eventually(look, 60)

    def _write(self, writer: int) -> None:
        client = Client(self._serve.http)
        number = 0
        while not self._over.is_set():
            number += 1
            names = [f"{self._name}-{writer}-{number}-{at}" for at in range(1 if number % 3 else BATCH)]
            body = b"\n".join(json.dumps(record(name)).encode() for name in names)
            options = {"data": body, "headers": NDJSON} if len(names) > 1 else {"json": record(names[0])}
            while True:
                try:
                    reply = client("POST", PATH, **options)
                except requests.RequestException as exc:
                    # While nobody listens, nobody carries out anything.
                    self.unknown += "Connection refused" not in str(exc)
                    client.close()
                    client = Client(self._serve.http)
                    time.sleep(0.05)
                    continue
                if reply.status_code == 503:
                    self.refused += 1
                    time.sleep(0.05)
                    continue
                break
            assert reply.status_code == 201, reply.text
            if len(names) == 1:
                self.ids[reply.json()["id"]] = names[0]
            self.answered += names
        client.close()


def doubles(found: Counter[str]) -> int:
    return sum(times - 1 for times in found.values())


def test_kill_9_of_the_service_loses_nothing_that_was_answered(serve: Serve) -> None:
    with Load(serve) as load:
        for _ in range(3):
            load.another(200)
            serve.kill()
            serve.start()
        load.another(200)
    found = load.check()
    # A client that got no answer sends again, and only it may make a double.
    assert doubles(found) <= BATCH * load.unknown


def test_kill_9_of_postgresql_loses_and_doubles_nothing_and_is_not_noticed_by_clients(
    serve: Serve, postgres: PostgresServer
) -> None:
    with Load(serve) as load:
        for _ in range(2):
            load.another(200)
            postgres.kill()
            load.another(200)
            postgres.start()
        load.another(200)
    found = load.check()
    assert (doubles(found), load.unknown, load.refused) == (0, 0, 0)


def test_kill_9_of_nats_changes_nothing_for_clients(serve: Serve, nats_server: NatsServer) -> None:
    with Load(serve) as load:
        load.another(200)
        nats_server.kill()
        load.another(400)
        nats_server.start()
        load.another(200)
    found = load.check()
    assert (doubles(found), load.unknown, load.refused) == (0, 0, 0)


def test_kill_9_of_postgresql_and_nats_together_refuses_and_loses_nothing(
    serve: Serve, postgres: PostgresServer, nats_server: NatsServer
) -> None:
    with Load(serve) as load:
        load.another(200)
        nats_server.kill()
        postgres.kill()
        eventually(lambda: load.refused > 20, 30)
        postgres.start()
        load.another(200)
        nats_server.start()
        load.another(200)
    found = load.check()
    # A commit whose answer was lost and which nothing could repeat is answered 503, and the client sends again.
    assert doubles(found) <= BATCH * load.refused


def test_thousands_of_records_one_by_one_from_sixteen_agents_are_all_taken(serve: Serve) -> None:
    """Scenario 13 of swf-clients.md; how many in a second, the benchmark tells."""

    def agent(number: int) -> list[int]:
        with closing(Client(serve.http)) as client:
            replies = [client.post(PATH, record(f"{number}-{at}")) for at in range(125)]
        assert {reply.status_code for reply in replies} == {201}
        return [reply.json()["id"] for reply in replies]

    with ThreadPoolExecutor(16) as threads:
        ids = {key for found in threads.map(agent, range(16)) for key in found}
    assert len(ids) == 2000
    with closing(Client(serve.http)) as client:
        assert ids <= {row["id"] for row in client.get(PATH).json()}
