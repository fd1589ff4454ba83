"""What each user may do, asked of a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from sluice_core.bus import (
    AGENTS,
    AUDIT,
    DLQ,
    HEARTBEATS,
    INBOUND,
    KEYS,
    LEASES,
    MESSAGES,
    OUTBOUND,
    REVOKED,
    TOKENS,
    Bucket,
    Bus,
    Consumer,
    Message,
    Stream,
    StreamRefused,
    consume,
    permissions,
)
from sluice_core.bus.permissions import ADMIN, PROGRAMS, SERVICES, authorization
from sluice_core.testing import NatsServer, StartNats, eventually_async

USERS = [*SERVICES, PROGRAMS, ADMIN]
OTHERS = [name for name in SERVICES if name != "registry"]
STREAMS, BUCKETS = (AGENTS, HEARTBEATS, AUDIT, DLQ), (KEYS, TOKENS, REVOKED)
ALL: list[Stream | Bucket] = [*STREAMS, *BUCKETS]
OF_MESSAGES: list[Stream | Bucket] = [MESSAGES, OUTBOUND, INBOUND, LEASES]
# Quotes, escapes, what looks like a variable, a number or the end of the block; a URL must carry it too.
NASTY = 'a"b\\c $PWD }#@:/?% é \t\n1k'

OpenAs = Callable[[str], Awaitable[Bus]]
Connect = Callable[[str], Awaitable[Client]]


@pytest.fixture
def server(start_nats: StartNats) -> NatsServer:
    return start_nats(authorization({name: f"{name}{NASTY}" for name in USERS}))


@pytest.fixture
async def open_as(server: NatsServer) -> AsyncIterator[OpenAs]:
    """Open the bus of a user; all streams and buckets are there."""
    buses = []

    async def make(name: str) -> Bus:
        bus = Bus(server.url(name, f"{name}{NASTY}"), name=name, keeps=ALL if name == "registry" else ())
        await bus.open()
        buses.append(bus)
        await bus.wait_connected(10)
        return bus

    await make("registry")
    yield make
    for bus in buses:
        await bus.close()


@pytest.fixture
async def connect(server: NatsServer) -> AsyncIterator[Connect]:
    """Connect a user with a plain client, as an attacker would."""
    clients = []

    async def make(name: str) -> Client:
        async def ignore(_: Exception) -> None:
            pass

        inbox = "_INBOX" if name in (PROGRAMS, ADMIN) else f"_INBOX.{name}"
        url = server.url().removeprefix("nats://")
        client = await nats.connect(
            url, user=name, password=f"{name}{NASTY}", inbox_prefix=inbox, allow_reconnect=False, error_cb=ignore
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


async def contents(bus: Bus) -> dict[str, int]:
    """Number of messages of each stream."""
    session = await bus.session(1)
    names = [declared.config()["name"] for declared in ALL]
    return {name: (await session.api(f"STREAM.INFO.{name}"))["state"]["messages"] for name in names}


async def test_every_user_gets_in_with_any_password(open_as: OpenAs) -> None:
    for name in [*SERVICES, ADMIN]:
        assert (await open_as(name)).connected


async def test_the_registry_can_do_its_work(open_as: OpenAs) -> None:
    bus = await open_as("registry")
    await bus.publish_stored("agents.state._.a", b"", msg_id="1")
    await bus.publish_stored("dlq.x", b"", msg_id="1")
    assert await bus.publish("agents.heartbeat._.a", b"")
    for bucket in BUCKETS:
        await bus.put(bucket.name, "k", b"v")
        await bus.delete(bucket.name, "k")
    await bus.ensure(STREAMS, BUCKETS)
    session = await bus.session()
    for request in ("CONSUMER.LIST.AGENTS", "STREAM.PURGE.AGENTS"):  # what keeping room in a stream needs
        await session.api(request)
    stop = asyncio.Event()
    got = []

    async def handle(batch: list[Message]) -> None:
        got.extend(batch)
        stop.set()

    stream = await open_as("stream")
    await stream.publish_stored("agents.in.heartbeat._.a", b"", msg_id="1")
    await asyncio.wait_for(consume(bus, Consumer(stream="HEARTBEATS", durable="registry"), handle, stop), 5)
    assert len(got) == 1


async def test_the_stream_service_can_do_its_work(server: NatsServer, open_as: OpenAs) -> None:
    registry = Bus(server.url("registry", f"registry{NASTY}"), name="registry", keeps=OF_MESSAGES)
    await registry.open()
    bus = await open_as("stream")
    await registry.wait_connected(10)
    for subject in ("messages.accepted._.x", "outbound.x", "messages.in.x", "agents.in.heartbeat._.a", "dlq.x"):
        await bus.publish_stored(subject, b"", msg_id="1")
    assert await bus.put("leases", "bridge", b"a", revision=0, ttl=10) == 1
    got: list[str] = []
    for stream, durable in permissions.SERVICES["stream"].consume:
        stop = asyncio.Event()

        async def handle(batch: list[Message], stop: asyncio.Event = stop) -> None:
            got.extend(message.stream for message in batch)
            stop.set()

        await asyncio.wait_for(consume(bus, Consumer(stream=stream, durable=durable), handle, stop), 5)
    assert got == [stream for stream, _ in permissions.SERVICES["stream"].consume]
    await registry.close()


async def test_a_program_says_what_it_likes_and_nothing_of_it_counts_as_accepted(
    server: NatsServer, open_as: OpenAs, connect: Connect
) -> None:
    await open_as("registry")
    registry = Bus(server.url("registry", f"registry{NASTY}"), name="registry", keeps=OF_MESSAGES)
    await registry.open()
    await registry.wait_connected(10)
    client = await connect(PROGRAMS)
    for subject in ("messages.in.x", "messages.in.in.x", "messages.accepted.in.x", "outbound.in", "messages.x.in.y"):
        await client.publish(subject, b"forged")
    await client.flush()
    session = await registry.session()

    async def count(stream: str) -> int:
        found: int = (await session.api(f"STREAM.INFO.{stream}"))["state"]["messages"]
        return found

    await eventually_async(lambda: count("INBOUND"))
    assert [await count(stream) for stream in ("INBOUND", "MESSAGES", "OUTBOUND")] == [2, 0, 0]
    await registry.close()


@pytest.mark.parametrize("name", SERVICES)
async def test_every_service_follows_the_buckets_parks_and_leaves_its_records(open_as: OpenAs, name: str) -> None:
    registry, bus = await open_as("registry"), await open_as(name)
    seen: dict[str, bytes | None] = {}
    ready = asyncio.Event()
    watching = asyncio.create_task(bus.watch("keys", seen.__setitem__, ready.set))
    await asyncio.wait_for(ready.wait(), 5)
    await registry.put("keys", "k", b"1")
    await eventually_async(lambda: seen == {"k": b"1"})
    watching.cancel()
    await bus.publish_stored("dlq.a", b"", msg_id="1")
    await bus.publish_stored(f"audit.{name}", b"", msg_id="1")


@pytest.mark.parametrize("name", OTHERS)
async def test_another_service_cannot_write_keys_or_speak_for_the_registry(open_as: OpenAs, name: str) -> None:
    registry, bus = await open_as("registry"), await open_as(name)
    for bucket in BUCKETS:
        await registry.put(bucket.name, "k", b"1")
    before = await contents(registry)
    for bucket in BUCKETS:
        with pytest.raises(StreamRefused, match="not permitted"):
            await bus.put(bucket.name, "k", b"forged")
        with pytest.raises(StreamRefused, match="not permitted"):
            await bus.delete(bucket.name, "k")
    for subject in ("agents.state._.a", "agents.heartbeat._.a", "audit.registry", "audit.other"):
        with pytest.raises(StreamRefused, match="not permitted"):
            await bus.publish_stored(subject, b"", msg_id="1")
    assert await contents(registry) == before


FORBIDDEN = {
    "STREAM.PURGE.KV_revoked": "",
    "STREAM.DELETE.KV_revoked": "",
    "STREAM.MSG.DELETE.KV_revoked": '{"seq": 1}',
    "STREAM.UPDATE.KV_revoked": '{"name": "KV_revoked", "subjects": ["elsewhere"]}',
    "STREAM.SNAPSHOT.KV_keys": '{"deliver_subject": "_INBOX.x"}',
    "STREAM.RESTORE.KV_keys": "{}",
    "STREAM.CREATE.MINE": '{"name": "MINE", "subjects": ["m.>"], "republish": {"src": "m.>", "dest": "$KV.keys.>"}}',
    "STREAM.UPDATE.DLQ": '{"name": "DLQ", "subjects": ["dlq.>"]}',
    "STREAM.MSG.GET.DLQ": '{"seq": 1}',
    "DIRECT.GET.DLQ": '{"seq": 1}',
    "CONSUMER.CREATE.HEARTBEATS.registry": '{"stream_name": "HEARTBEATS", "config": {"name": "registry"}}',
    "CONSUMER.DELETE.HEARTBEATS.registry": "",
    "CONSUMER.MSG.NEXT.HEARTBEATS.registry": "",
}


@pytest.mark.parametrize("name", [*OTHERS, PROGRAMS])
async def test_what_is_not_granted_is_not_answered(open_as: OpenAs, connect: Connect, name: str) -> None:
    registry = await open_as("registry")
    await registry.put("revoked", "k", b"1")
    client = await connect(name)

    async def answer(request: str, body: str) -> bytes | None:
        try:
            return (await client.request(f"$JS.API.{request}", body.encode(), timeout=0.5)).data
        except nats.errors.Error:
            return None

    answers = await asyncio.gather(*(answer(request, body) for request, body in FORBIDDEN.items()))
    assert dict(zip(FORBIDDEN, answers, strict=True)) == dict.fromkeys(FORBIDDEN)
    assert (await contents(registry))["KV_revoked"] == 1


async def test_a_program_can_send_what_services_take_from_outside_and_gets_its_ack(
    open_as: OpenAs, connect: Connect
) -> None:
    registry, client = await open_as("registry"), await connect(PROGRAMS)
    await client.publish("agents.in.heartbeat.x.y", b"1")
    ack = await client.jetstream().publish("agents.in.heartbeat.x.z", b"2")
    assert (ack.stream, ack.seq) == ("HEARTBEATS", 2)
    assert await contents(registry) == {"AGENTS": 0, "HEARTBEATS": 2, "AUDIT": 0, "DLQ": 0, **no_keys()}


@pytest.mark.parametrize(
    "subject", ["agents.state._.a", "agents.heartbeat._.a", "dlq.x", "audit.logs", "$KV.keys.k", "a.b.in.c"]
)
async def test_a_program_can_send_nothing_else(open_as: OpenAs, connect: Connect, subject: str) -> None:
    registry, client = await open_as("registry"), await connect(PROGRAMS)
    heard = []

    async def hear(message: object) -> None:
        heard.append(message)

    listener = await connect(ADMIN)
    await listener.subscribe(">", cb=hear)
    await listener.flush()
    await client.publish(subject, b"forged")
    await client.flush()
    await listener.flush()
    assert not [message for message in heard if getattr(message, "data", b"") == b"forged"]
    assert set((await contents(registry)).values()) == {0}


@pytest.mark.parametrize("reply", ["$KV.revoked.jti", "agents.state._.a", "dlq.x", "$JS.API.STREAM.PURGE.KV_keys"])
async def test_a_program_cannot_have_the_server_write_for_it(open_as: OpenAs, connect: Connect, reply: str) -> None:
    registry, client = await open_as("registry"), await connect(PROGRAMS)
    await registry.put("keys", "k", b"1")
    await client.publish("agents.in.heartbeat.x.y", b"1", reply=reply)
    await client.flush()
    await eventually_async(lambda: arrived(registry))
    assert await contents(registry) == {"AGENTS": 0, "HEARTBEATS": 1, "AUDIT": 0, "DLQ": 0, **no_keys(), "KV_keys": 1}


async def arrived(bus: Bus) -> bool:
    return (await contents(bus))["HEARTBEATS"] == 1


def no_keys() -> dict[str, int]:
    return {bucket.stream: 0 for bucket in BUCKETS}


@pytest.mark.parametrize("name", [*OTHERS, PROGRAMS])
async def test_a_service_cannot_have_the_server_forge_a_key(open_as: OpenAs, connect: Connect, name: str) -> None:
    """It would need a stored message of its own, and a request whose answer is that message."""
    registry, client = await open_as("registry"), await connect(name)
    await registry.publish_stored("dlq.key", b"forged", msg_id="1")
    await client.publish("$JS.API.DIRECT.GET.DLQ", b'{"seq": 1}', reply="$KV.keys.forged")
    await client.publish("$JS.API.STREAM.MSG.GET.DLQ", b'{"seq": 1}', reply="$KV.keys.forged")
    await client.flush()
    assert (await contents(registry))["KV_keys"] == 0


@pytest.mark.parametrize("name", [*OTHERS, PROGRAMS])
async def test_nobody_hears_the_answers_to_another(open_as: OpenAs, connect: Connect, name: str) -> None:
    registry, client = await open_as("registry"), await connect(name)
    heard = []

    async def hear(message: object) -> None:
        heard.append(message)

    for subject in (">", "_INBOX.>", "_INBOX.registry.>", "$KV.>", "agents.>"):
        await client.subscribe(subject, cb=hear)
    await client.flush()
    await registry.put("keys", "k", b"1")
    await registry.publish_stored("agents.state._.a", b"", msg_id="1")
    await client.flush()
    assert heard == []


async def test_without_a_user_nobody_gets_in(server: NatsServer) -> None:
    bus = Bus(server.url(), name="test")
    await bus.open()
    await eventually_async(lambda: "Authorization Violation" in bus.problem)
    await bus.close()


def test_a_user_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="no permissions are known for ghost"):
        authorization({"ghost": "x"})


def test_a_password_that_looks_like_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="bcrypt"):
        authorization({"logs": "$2a$04$abcdefghijklmnopqrstuv"})


@given(st.text().filter(lambda text: not text.startswith("$2")))
def test_no_password_ends_its_quotes(password: str) -> None:
    rendered = authorization({"logs": password})
    line = next(line for line in rendered.splitlines() if "user:" in line)
    assert line.count('"') == authorization({"logs": ""}).count('"') - rendered.replace(line, "").count('"')


def test_what_services_believe_is_written_and_streams_are_made_by_the_registry_alone() -> None:
    for name, grant in permissions.SERVICES.items():
        assert bool(set(BUCKETS) & set(grant.write)) == (name == "registry")
        assert bool(grant.keep) == (name == "registry")
