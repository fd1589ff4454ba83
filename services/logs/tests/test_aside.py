"""Records that wait in the stream while PostgreSQL is away, and those that programs send there."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats
import pytest
import requests
from nats.aio.client import Client

from sluice_core.bus import DLQ, LOGS, Bus
from sluice_core.bus.permissions import authorization
from sluice_core.dlq import REASON
from sluice_core.testing import NatsServer, StartNats, eventually, eventually_async
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.servers import PostgresServer
from sluice_core.testing.serving import Served, serving

from .records import URL, body, record

PASSWORD = "only-for-this-test"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def server(start_nats: StartNats) -> NatsServer:
    made = start_nats(authorization(dict.fromkeys(("registry", "logs", "programs", "admin"), PASSWORD)))
    registry = Bus(made.url("registry", PASSWORD), name="registry", keeps=(LOGS, DLQ))
    await registry.open()
    await registry.wait_connected(10)
    await registry.close()
    return made


@pytest.fixture
def served(make_app: AppMaker, server: NatsServer) -> Iterator[Served]:
    app = make_app(nats_url=server.url("logs", PASSWORD))
    with serving(app) as made:
        eventually(lambda: app.state.service.bus.connected)
        yield made


def post(served: Served, content: bytes, **given: Any) -> requests.Response:
    return requests.post(f"{served.url}{URL}", data=content, timeout=20, **given)


def messages(served: Served) -> list[str]:
    reply = requests.get(f"{served.url}{URL}", timeout=20)
    assert reply.status_code == 200
    return [each["message"] for each in sorted(reply.json(), key=lambda each: each["id"])]


@contextlib.contextmanager
def killed(server: Any) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        if not server.running:
            server.start()


def test_what_is_accepted_while_postgresql_is_away_is_stored_later_in_order_and_once(
    served: Served, postgres_server: PostgresServer
) -> None:
    json_type = {"Content-Type": "application/json"}
    assert post(served, body(message="before"), headers=json_type).status_code == 201
    with killed(postgres_server):
        answers = [post(served, body(message=str(n)), headers=json_type) for n in range(5)]
        assert [each.status_code for each in answers] == [201] * 5
        batch = post(served, b"\n".join(body(message=f"batch {n}") for n in range(3)), headers=NDJSON)
        assert batch.json() == {"accepted": 3, "rejected": []}
    expected = ["before", *map(str, range(5)), *(f"batch {n}" for n in range(3))]
    eventually(lambda: messages(served) == expected, 30)
    for each in answers:
        found = requests.get(f"{served.url}{URL}{each.json()['id']}/", timeout=20)
        assert found.json() == each.json()
    assert post(served, body(message="after"), headers=json_type).status_code == 201
    eventually(lambda: messages(served) == [*expected, "after"])


def test_both_away_is_503_with_retry_after(served: Served, postgres_server: PostgresServer, server: NatsServer) -> None:
    json_type = {"Content-Type": "application/json"}
    with killed(postgres_server), killed(server):
        reply = post(served, body(), headers=json_type)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    eventually(lambda: post(served, body(message="later"), headers=json_type).status_code == 201, 30)


@pytest.fixture
async def program(server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(server.url("programs", PASSWORD))
    yield client
    await client.close()


async def publish(program: Client, subject: str, data: Any) -> None:
    """Publish as a program does, and wait for the stream's answer."""
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    reply = await program.request(subject, content, timeout=10)
    assert "stream" in json.loads(reply.data), reply.data


async def listed(served: Served, expected: list[str]) -> list[dict[str, Any]]:
    async def look() -> bool:
        return await asyncio.to_thread(messages, served) == expected

    await eventually_async(look, 20)
    reply = await asyncio.to_thread(requests.get, f"{served.url}{URL}", timeout=20)
    found: list[dict[str, Any]] = reply.json()
    return found


async def test_a_program_sends_one_record_or_an_array_by_nats(served: Served, program: Client) -> None:
    await publish(program, "logs.in.daq=20sim.daq-1", record(message="one", app_name="somebody else"))
    await publish(program, "logs.in.daq=20sim.daq-1", [record(message="two"), record(message="three")])
    found = await listed(served, ["one", "two", "three"])
    assert {(each["app_name"], each["instance_name"]) for each in found} == {("daq sim", "daq-1")}


async def test_what_is_no_record_is_parked_with_its_reason_and_stops_nobody(
    served: Served, program: Client, server: NatsServer
) -> None:
    bad = [b"no json", b"7", b"[]", json.dumps([record(), record(level=3)]).encode(), b"[" * 100_000, b"\xff"]
    for content in bad:
        await publish(program, "logs.in.a.i", content)
    await publish(program, "logs.in.only-one", record())
    await publish(program, "logs.in.a.i", record(message="good"))
    await listed(served, ["good"])
    admin = await nats.connect(server.url("admin", PASSWORD))
    stream = admin.jetstream()

    async def parked() -> bool:
        return (await stream.stream_info("DLQ")).state.messages == len(bad) + 1

    await eventually_async(parked)
    reasons = [((await stream.get_msg("DLQ", seq=n + 1)).headers or {})[REASON] for n in range(len(bad) + 1)]
    assert all(reasons)
    assert any("level" in reason for reason in reasons)
    await admin.close()


async def test_a_program_cannot_send_what_the_door_has_accepted(served: Served, program: Client) -> None:
    with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
        await program.request("logs.accepted", b"x", timeout=1)
