"""The rows of those who follow messages, and when a stream ends (contract 6.2)."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
import requests
from sqlalchemy import text
from starlette.types import Message

from sluice_core.database import Database
from sluice_core.http.server import lifespan
from sluice_core.testing import NatsServer, PostgresServer, eventually, eventually_async
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens
from sluice_stream.store.visits import Counts, VisitStore

from .conftest import PATH, Follow, Publisher

LEASE = timedelta(hours=1)


@pytest.fixture
def database(make_app: AppMaker, service_database: str) -> Iterator[Database]:
    """The database of the service, empty: `make_app` has cleared it."""
    found = Database(service_database.replace("postgresql://", "postgresql+psycopg2://"), pool_size=1)
    yield found
    found.close()


def sql(database: Database, statement: str, **values: Any) -> list[Any]:
    return database.transact(
        lambda connection: list(found) if (found := connection.execute(text(statement), values)).returns_rows else []
    )


def row(store: VisitStore, client_id: UUID | None = None) -> dict[str, Any]:
    return {
        "client_id": client_id or uuid4(),
        "instance": store.instance,
        "ip": "10.0.0.7",
        "location": "Internal",
        "filters": {"msg_types": ["a"]},
        "connected_at": datetime.now(UTC),
    }


def test_readers_of_a_process_that_died_are_gone_and_come_back_when_it_was_only_slow(database: Database) -> None:
    slow, other = VisitStore(uuid4(), LEASE), VisitStore(uuid4(), LEASE)
    rows = [row(slow), row(other)]
    database.transact(lambda connection: slow.beat([], connection))
    database.transact(lambda connection: other.beat([], connection))
    ids = [database.transact(lambda c, s=s, r=r: s.enter([r], c)) for s, r in zip((slow, other), rows, strict=True)]  # type: ignore[misc]
    everybody = [each["client_id"] for each in rows]
    here = [ids[0][everybody[0]]]
    assert [client_id for client_id, _ in database.read(slow.connected)] == everybody
    assert dict(database.read(slow.connected))[everybody[0]] == {"msg_types": ["a"]}

    age = "UPDATE sse_instance SET seen_at = now() - interval '1 day' WHERE instance = :instance"
    sql(database, age, instance=slow.instance)
    assert [client_id for client_id, _ in database.read(other.connected)] == everybody[1:]
    database.transact(lambda connection: other.beat([], connection))
    state = "SELECT is_active, disconnected_at IS NULL FROM subscriber ORDER BY subscriber_id"
    assert sql(database, state) == [(False, False), (True, True)]

    database.transact(lambda connection: slow.beat(here, connection))
    assert [client_id for client_id, _ in database.read(other.connected)] == everybody
    assert sql(database, state) == [(True, True), (True, True)]

    database.transact(slow.vanish)
    assert [client_id for client_id, _ in database.read(other.connected)] == everybody[1:]
    assert sql(database, state) == [(False, False), (True, True)]


def test_a_row_is_made_once_and_a_name_that_is_taken_hinders_nobody(database: Database) -> None:
    store = VisitStore(uuid4(), LEASE)
    first, second = (row(store, UUID(f"0123456789abcdef0123456789abcde{end}")) for end in "01")
    made = database.transact(lambda connection: store.enter([first], connection))
    again = database.transact(lambda connection: store.enter([first, second], connection))
    assert again[first["client_id"]] == made[first["client_id"]]
    names = [name for (name,) in sql(database, "SELECT subscriber_name FROM subscriber ORDER BY subscriber_id")]
    assert names == ["sse_01234567", "sse_01234567-89ab-cdef-0123-456789abcde1"]


def test_counters_are_totals_and_never_too_large(database: Database) -> None:
    store = VisitStore(uuid4(), LEASE)
    (subscriber,) = database.transact(lambda connection: store.enter([row(store)], connection)).values()
    query = "SELECT messages_sent, messages_dropped, is_active, last_activity = connected_at FROM subscriber"
    for counts, expected in (
        (Counts(subscriber, 0, 0, None, None), (0, 0, True, True)),
        (Counts(subscriber, 7, 2, datetime.now(UTC), None), (7, 2, True, False)),
        (Counts(subscriber, 7, 2, None, None), (7, 2, True, False)),
        (Counts(subscriber, 2**40, 2**33, None, datetime.now(UTC)), (2**31 - 1, 2**31 - 1, False, False)),
    ):
        database.transact(lambda connection, one=counts: store.count([one], connection))  # type: ignore[misc]
        assert sql(database, query) == [expected]


def test_rows_of_streams_that_ended_are_kept_for_a_while_and_no_others_deleted(database: Database) -> None:
    store = VisitStore(uuid4(), LEASE)
    found = database.transact(lambda connection: store.enter([row(store) for _ in range(3)], connection))
    old, new, _ = found.values()
    agent = """INSERT INTO subscriber (subscriber_name, is_active, delivery_type, client_location, message_filters,
        messages_received, messages_sent, messages_dropped, disconnected_at)
        VALUES ('agent', false, 'sse', '', '{}', 0, 0, 0, now() - interval '1 year')"""
    sql(database, agent)
    now = datetime.now(UTC)
    ended = [Counts(old, 0, 0, None, now - timedelta(days=8)), Counts(new, 0, 0, None, now - timedelta(days=6))]
    database.transact(lambda connection: store.count(ended, connection))
    database.transact(lambda connection: store.forget(timedelta(days=7), connection))
    left = sql(database, "SELECT subscriber_id FROM subscriber WHERE subscriber_name <> 'agent' ORDER BY 1")
    assert [each for (each,) in left] == sorted(set(found.values()) - {old})
    assert sql(database, "SELECT count(*) FROM subscriber WHERE subscriber_name = 'agent'") == [(1,)]
    assert sql(database, "SELECT count(*) FROM sse_connection") == [(2,)]


async def test_of_150_messages_a_blocked_client_keeps_the_100_newest(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, tokens: Tokens, database: Database
) -> None:
    """Scenario 21 of swf-monitor.md."""
    app = make_app(nats_url=nats_server.url(), sse_counters_every="50ms")
    sent: list[bytes] = []
    writable, gone = asyncio.Event(), asyncio.Event()
    status = 0

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        if message.get("body") and b"event: stf_gen" in message["body"]:
            await writable.wait()
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    headers = [(name.lower().encode(), value.encode()) for name, value in tokens.header("stream:read").items()]
    scope = {"type": "http", "method": "GET", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}

    async def request() -> int:
        await app({**scope, "headers": headers, "scheme": "http", "client": ("10.1.1.1", 5)}, receive, send)
        return status

    async with lifespan(app):

        async def refused() -> bool:
            sent.clear()
            serving = asyncio.create_task(request())
            await eventually_async(lambda: serving.done() or any(b"connected" in piece for piece in sent))
            return not serving.done()

        await eventually_async(refused)
        # The first one blocks the writer; what is counted here comes after it.
        await asyncio.to_thread(publish, "stf_gen", n=-1)
        counted = "SELECT messages_sent, messages_dropped FROM subscriber"
        await eventually_async(lambda: sql(database, counted) == [(1, 0)])
        await asyncio.to_thread(publish.many, [{"msg_type": "stf_gen", "n": n} for n in range(150)])
        await eventually_async(lambda: sql(database, counted) == [(151, 50)])
        writable.set()
        await eventually_async(lambda: b'"n": 149' in b"".join(sent))
        lines = [line for line in b"".join(sent).split(b"\n") if line.startswith(b"data: ")]
        numbers = [data["n"] for line in lines if "n" in (data := json.loads(line[6:]))]
        assert numbers == [-1, *range(50, 150)]
        where = "SELECT client_ip, client_location, description FROM subscriber"
        assert sql(database, where) == [("10.1.1.1", "Internal", "SSE client from 10.1.1.1")]
        gone.set()
        await eventually_async(lambda: sql(database, "SELECT is_active FROM subscriber") == [(False,)])


def test_without_postgresql_messages_flow_and_the_row_comes_later(
    make_app: AppMaker,
    nats_server: NatsServer,
    publish: Publisher,
    follow: Follow,
    postgres_server: PostgresServer,
    tokens: Tokens,
) -> None:
    headers = tokens.header("stream:read")
    with serving(make_app(nats_url=nats_server.url(), sse_counters_every="100ms")) as served:
        status = f"{served.url}{PATH}status/"
        follow(served.url)
        postgres_server.kill()
        client = follow(served.url)
        publish("a", n=1)
        assert client.next().data["n"] == 1
        assert requests.get(status, headers=headers, timeout=10).status_code == 503
        postgres_server.start()

        def there() -> bool:
            reply = requests.get(status, headers=headers, timeout=10)
            return reply.status_code == 200 and client.client_id in reply.json()["client_ids"]

        eventually(there, 30)


def test_a_revoked_token_loses_its_stream_and_no_other(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, tokens: Tokens
) -> None:
    app = make_app(nats_url=nats_server.url(), sse_heartbeat="200ms")
    keyring = app.state.service.keyring
    with serving(app) as served:
        other = tokens.header("stream:read")
        one, two = follow(served.url, headers=other), follow(served.url)
        claims = jwt.decode(other["Authorization"].split()[1], options={"verify_signature": False})
        keyring.apply_revoked(claims["jti"], b"")
        one.until_end()
        two.event()
        assert requests.get(served.url + PATH, headers=other, timeout=10).status_code == 401


def test_who_deletes_a_subscriber_ends_no_stream(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, tokens: Tokens
) -> None:
    headers = tokens.header("stream:read", "stream:write")
    with serving(make_app(nats_url=nats_server.url())) as served:
        client = follow(served.url)
        name = f"sse_{client.client_id[:8]}"
        url = f"{served.url}/api/subscribers/"
        (found,) = requests.get(url, params={"subscriber_name": name}, timeout=10).json()
        assert requests.delete(f"{url}{found['subscriber_id']}/", headers=headers, timeout=10).status_code == 204
        publish("a", n=1)
        assert client.next().data["n"] == 1
        status = requests.get(f"{served.url}{PATH}status/", headers=headers, timeout=10).json()
        assert client.client_id in status["client_ids"]
