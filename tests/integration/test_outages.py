"""NATS away, PostgreSQL away: what the registry answers meanwhile, and that it mends by itself."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
import requests

from sluice_core.subjects import HeartbeatIn
from sluice_core.testing import Databases, NatsServer, PostgresServer, eventually, servers
from tests.integration.platforms import Client, Serve, samples

AGENTS = "/api/systemagents/"
HEARTBEAT = f"{AGENTS}heartbeat/"
TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that may be away without disturbing other tests."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Databases:
    return Databases(postgres)


@pytest.fixture
def serve(nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path, databases: Databases) -> Iterator[Serve]:
    """The registry, ready."""
    with databases.fresh("sluice_registry") as url:
        registry = Serve(
            "registry", tmp_path, database_url=url, nats_url=nats_server.url(), SLUICE_REGISTRY_ADMIN_TOKEN=TOKEN
        )
        with registry:
            eventually(registry.ready, 30)
            yield registry
        if not postgres.running:
            postgres.start()


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    client = Client(serve.http, TOKEN)
    yield client
    client.close()


def events(server: NatsServer, expected: int) -> list[dict[str, Any]]:
    """Wait until AGENTS holds so many events; return them in their order."""

    async def read() -> list[dict[str, Any]]:
        client = await nats.connect(server.url(), allow_reconnect=False)
        try:
            stream = client.jetstream()
            last = (await stream.stream_info("AGENTS")).state.last_seq
            assert last >= expected
            found = [await stream.get_msg("AGENTS", seq=number + 1) for number in range(last)]
            return [msgspec.json.decode(message.data or b"") for message in found]
        finally:
            await client.close()

    return eventually(lambda: asyncio.run(read()), 30)


def checks(serve: Serve) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{serve.admin}/readyz", timeout=10).json()["checks"]
    return found


# NATS


def test_without_nats_the_registry_answers_and_its_events_arrive_later_once(
    serve: Serve, client: Client, nats_server: NatsServer
) -> None:
    nats_server.kill()
    eventually(lambda: not checks(serve)["bus"]["ok"])
    for number in range(50):
        assert client.post(HEARTBEAT, {"instance_name": f"beat-{number}"}).status_code == 201
        assert client.post(AGENTS, {"instance_name": f"made-{number}", "agent_type": "test"}).status_code == 201
    assert client.post("/api/state/next-agent-id/").status_code == 200
    assert len(client.get(AGENTS).json()) == 100
    eventually(lambda: sum(samples(serve.admin, "sluice_outbox_waiting").values()) >= 100)
    nats_server.start()
    found = events(nats_server, 100)
    assert len({event["id"] for event in found}) == len(found) == 100
    expected = {f"{kind}-{number}" for kind in ("beat", "made") for number in range(50)}
    assert {event["data"]["instance_name"] for event in found} == expected
    eventually(lambda: sum(samples(serve.admin, "sluice_outbox_waiting").values()) == 0)
    eventually(serve.ready, 30)
    assert serve.running


def test_each_change_arrives_once_when_nats_dies_amid_them(
    serve: Serve, client: Client, nats_server: NatsServer
) -> None:
    name = {"instance_name": "daq-1"}
    for pid in range(300):
        if pid in (100, 200):
            nats_server.kill()
        if pid in (130, 230):
            nats_server.start()
        assert client.post(HEARTBEAT, {**name, "pid": pid}).ok
    found = events(nats_server, 300)
    assert [event["data"]["pid"] for event in found] == list(range(300))


# PostgreSQL


def away(client: Client, method: str, path: str, body: Any) -> float:
    """Insist on a 503 with Retry-After; return how long it took."""
    began = time.monotonic()
    answer = client(method, path, json=body)
    took = time.monotonic() - began
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True), answer.text
    return took


REQUESTS = [
    ("POST", HEARTBEAT, {"instance_name": "daq-1"}),
    ("POST", AGENTS, {"instance_name": "daq-2", "agent_type": "test"}),
    ("GET", AGENTS, None),
    ("GET", f"{AGENTS}?limit=5", None),
    ("GET", f"{AGENTS}1/", None),
    ("PATCH", f"{AGENTS}1/", {"pid": 1}),
    ("DELETE", f"{AGENTS}1/", None),
    ("POST", "/api/state/next-agent-id/", None),
    ("POST", "/api/namespaces/ensure/", {"name": "n", "owner": "ada"}),
    ("GET", "/api/namespaces/", None),
    ("GET", "/api/auth/tokens/", None),
]


def test_without_postgresql_all_is_503_in_less_than_2_seconds_and_mends_by_itself(
    postgres: PostgresServer, serve: Serve, client: Client
) -> None:
    assert client.post(HEARTBEAT, {"instance_name": "daq-1"}).status_code == 201
    postgres.kill()
    slowest = max(away(client, *each) for each in REQUESTS)
    with ThreadPoolExecutor(40) as threads:
        together = threads.map(lambda n: away(Client(serve.http, TOKEN), *REQUESTS[n % len(REQUESTS)]), range(200))
        slowest = max(slowest, *together)
    assert slowest < 2, f"{slowest:.2f} s"
    eventually(lambda: not checks(serve)["database"]["ok"])
    postgres.start()
    eventually(lambda: client.post(HEARTBEAT, {"instance_name": "daq-1"}).status_code == 200, 10)
    eventually(serve.ready, 10)
    for method, path, body in REQUESTS:
        assert client(method, path, json=body).status_code < 500
    assert serve.running


def test_a_restart_of_postgresql_between_two_requests_is_not_noticed(
    postgres: PostgresServer, serve: Serve, client: Client
) -> None:
    for number in range(3):
        assert client.post(HEARTBEAT, {"instance_name": f"daq-{number}"}).status_code == 201
        assert client.get(f"{AGENTS}1/").status_code == 200
        postgres.kill()
        postgres.start()


def test_heartbeats_of_the_bus_wait_for_postgresql(
    postgres: PostgresServer, serve: Serve, client: Client, nats_server: NatsServer
) -> None:
    async def publish() -> None:
        program = await nats.connect(nats_server.url())
        for number in range(20):
            await program.jetstream().publish(HeartbeatIn(None, f"daq-{number}").subject, b"{}")
        await program.close()

    postgres.kill()
    asyncio.run(publish())
    away(client, "GET", AGENTS, None)
    postgres.start()

    def names() -> set[str]:
        answer = client.get(AGENTS)
        return {row["instance_name"] for row in answer.json()} if answer.ok else set()

    eventually(lambda: names() == {f"daq-{number}" for number in range(20)}, 30)


def test_a_registry_that_starts_before_postgresql_waits_for_it(
    postgres: PostgresServer, serve: Serve, client: Client
) -> None:
    serve.stop()
    postgres.kill()
    with ThreadPoolExecutor(1) as thread:
        starting = thread.submit(serve.start)
        eventually(lambda: "waiting for PostgreSQL" in serve.log, 30)
        assert not starting.done()
        postgres.start()
        starting.result(30)
    assert Client(serve.http, TOKEN).get(AGENTS).status_code == 200
