"""The bus: a connection that comes back, best effort and stored publishes."""

import asyncio
import logging
import socket
import time

import pytest
from structlog.testing import capture_logs

from sluice_core.bus import DLQ, LEASES, Bus, BusAway, Stream, StreamRefused
from sluice_core.bus.client import IN_FLIGHT, parse
from sluice_core.testing import NatsServer, StartNats, eventually_async

from .conftest import OpenBus

WORK = Stream(name="WORK", subjects=("work.>",), max_bytes=10_000_000, max_age=3600.0)
SMALL = Stream(name="SMALL", subjects=("small.>",), max_bytes=5_000, max_age=3600.0)


async def count(bus: Bus, stream: str) -> int:
    session = await bus.session(1)
    messages: int = (await session.api(f"STREAM.INFO.{stream}"))["state"]["messages"]
    return messages


async def test_it_opens_at_once_and_connects_when_the_server_comes(nats_server: NatsServer) -> None:
    nats_server.kill()
    bus = Bus(nats_server.url(), name="test")
    started = time.monotonic()
    await bus.open()
    assert time.monotonic() - started < 0.1
    with pytest.raises(BusAway):
        await bus.wait_connected(0.3)
    assert not bus.connected
    assert bus.check()[1]
    nats_server.start()
    await bus.wait_connected(10)
    assert bus.check() == (True, "")
    await bus.close()
    assert not bus.connected


async def test_a_stored_message_is_there_once_however_often_it_is_sent(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    first = await bus.publish_stored("work.a", b"1", msg_id="one")
    again = await bus.publish_stored("work.a", b"1", msg_id="one")
    assert (first.stream, first.sequence, first.duplicate) == ("WORK", 1, False)
    assert (again.sequence, again.duplicate) == (1, True)
    assert await count(bus, "WORK") == 1


async def test_a_full_stream_refuses_and_takes_more_when_there_is_room(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[SMALL])
    for number in range(4):
        await bus.publish_stored("small.a", bytes(1000), msg_id=str(number))
    with pytest.raises(StreamRefused, match="maximum bytes") as refusal:
        await bus.publish_stored("small.a", bytes(1000), msg_id="too many")
    assert not refusal.value.permanent
    assert bus.refused == 1
    await (await bus.session()).api("STREAM.PURGE.SMALL")
    await bus.publish_stored("small.a", bytes(1000), msg_id="later")


async def test_a_message_too_large_is_refused_for_ever_and_ends_no_connection(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    for subject, size in (("work.a", 8 * 1024 * 1024 - 10), ("work." + "a" * 4000, 1)):
        with pytest.raises(StreamRefused) as refusal:
            await bus.publish_stored(subject, bytes(size), msg_id="large")
        assert refusal.value.permanent
        assert not await bus.publish(subject, bytes(size), headers={"A": "b" * 20})
    await bus.publish_stored("work.a", bytes(8 * 1024 * 1024 - 100), msg_id="just fits")
    assert bus.connections == 1


async def test_a_subject_without_a_stream_is_away(open_bus: OpenBus) -> None:
    bus = await open_bus()
    with pytest.raises(BusAway, match="no stream takes nowhere"):
        await bus.publish_stored("nowhere", b"", msg_id="1")


async def test_when_the_server_dies_what_waits_for_it_fails_at_once(nats_server: NatsServer, open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[WORK])
    sending = [asyncio.create_task(bus.publish_stored("work.a", bytes(1000), msg_id=str(n))) for n in range(2000)]
    await eventually_async(lambda: bus.pending == IN_FLIGHT)
    started = time.monotonic()
    nats_server.kill()
    done = await asyncio.gather(*sending, return_exceptions=True)
    assert time.monotonic() - started < 3
    assert any(isinstance(one, BusAway) for one in done)
    assert all(isinstance(one, BusAway) for one in done if isinstance(one, BaseException))
    assert bus.pending == 0
    await eventually_async(lambda: not bus.connected)
    with pytest.raises(BusAway):
        await bus.publish_stored("work.a", b"", msg_id="x", timeout=60)


async def test_each_message_is_stored_once_when_the_server_is_killed_amid_publishes(
    nats_server: NatsServer, open_bus: OpenBus
) -> None:
    bus = await open_bus(keeps=[WORK])

    async def send(number: int) -> None:
        while True:
            try:
                await bus.publish_stored("work.a", b"%d" % number, msg_id=f"event-{number}")
                return
            except BusAway:
                await bus.wait_connected(20)

    sending = [asyncio.create_task(send(number)) for number in range(3000)]
    await eventually_async(lambda: bus.published >= 500)
    nats_server.kill()
    nats_server.start()
    await eventually_async(lambda: bus.published >= 1500)
    nats_server.kill()
    nats_server.start()
    await asyncio.gather(*sending)
    assert bus.connections == 3
    assert await count(bus, "WORK") == 3000


async def test_best_effort_never_waits_and_counts_what_it_drops(nats_server: NatsServer, open_bus: OpenBus) -> None:
    bus = await open_bus()
    assert await bus.publish("a.b", b"1", headers={"x": "y"})
    started = time.monotonic()
    sent = [await bus.publish("a.b", bytes(1000)) for _ in range(2000)]
    assert time.monotonic() - started < 1
    assert all(sent)
    assert (bus.published, bus.dropped) == (2001, 0)
    nats_server.kill()
    await eventually_async(lambda: not bus.connected)
    assert not await bus.publish("a.b", b"1")
    assert bus.dropped == 1


async def test_best_effort_drops_when_the_server_takes_nothing(open_bus: OpenBus) -> None:
    bus = await open_bus()
    # Without a turn of the loop nothing gets to the socket: the buffer fills as with a server that hangs.
    sent = [await bus.publish("a.b", bytes(1_000_000)) for _ in range(40)]
    assert sent[0]
    assert not sent[-1]
    assert bus.dropped == sent.count(False)
    await eventually_async(lambda: bus.publish("a.b", b""))
    assert bus.connections == 1


async def test_streams_that_the_server_lost_are_made_anew(nats_server: NatsServer, open_bus: OpenBus) -> None:
    memory = Stream(name="BEATS", subjects=("beats.>",), max_bytes=1_000_000, max_age=60.0, storage="memory")
    bus = await open_bus(keeps=[memory, DLQ])
    await bus.publish_stored("beats.a", b"", msg_id="1")
    nats_server.kill()
    nats_server.start()
    await eventually_async(lambda: bus.connections == 2)
    assert (await bus.publish_stored("beats.a", b"", msg_id="1")).sequence == 1


async def test_wrong_credentials_are_named_and_never_shown(
    start_nats: StartNats, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_nats('authorization { user: "one", password: "right" }')
    caplog.set_level(logging.DEBUG)
    bus = Bus(server.url("one", "s3cret/+"), name="test")
    with capture_logs() as logs:
        await bus.open()
        with pytest.raises(BusAway, match=r"(?i)authorization"):
            await bus.wait_connected(1)
        await bus.close()
    assert "s3cret" not in f"{logs}{caplog.text}{bus.problem}{parse(server.url('one', 's3cret'))}"
    assert any("Authorization" in str(line.get("reason")) for line in logs)


async def test_a_server_without_jetstream_is_no_bus(start_nats: StartNats) -> None:
    server = start_nats('accounts { PLAIN { users: [{ user: "one", password: "two" }] } }')
    bus = Bus(server.url("one", "two"), name="test")
    await bus.open()
    with pytest.raises(BusAway, match=r"JetStream|\$JS"):
        await bus.wait_connected(1)
    await bus.close()


async def test_an_endpoint_that_says_nothing_does_not_hold_the_bus(open_bus: OpenBus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bus = Bus(f"nats://127.0.0.1:{silent.getsockname()[1]}", name="test")
        await bus.open()
        with pytest.raises(BusAway):
            await bus.publish_stored("a", b"", msg_id="1")
        started = time.monotonic()
        await bus.close()
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("url", ["", "host", "http://host", "nats://", "nats://:4222"])
def test_a_url_that_is_none_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(ValueError, match="NATS URL"):
        Bus(url, name="test")


def test_credentials_are_unquoted_and_taken_from_the_first_address() -> None:
    server = parse("nats://one:a%2Fb%40c@h1:4222, tls://h2:4223")
    assert (server.addresses, server.user, server.password) == (["nats://h1:4222", "tls://h2:4223"], "one", "a/b@c")
    assert server.inbox == "_INBOX.one"


async def test_a_key_is_taken_by_one_renewed_by_its_holder_and_free_once_it_has_expired(open_bus: OpenBus) -> None:
    one, other = await open_bus(keeps=[LEASES]), await open_bus()
    first = await one.put("leases", "k", b"one", revision=0, ttl=1)
    with pytest.raises(StreamRefused, match="wrong last sequence"):
        await other.put("leases", "k", b"other", revision=0, ttl=1)
    renewed = await one.put("leases", "k", b"one", revision=first, ttl=1)
    assert renewed > first
    with pytest.raises(StreamRefused, match="wrong last sequence"):
        await one.put("leases", "k", b"one", revision=first, ttl=1)

    async def free() -> int:
        try:
            return await other.put("leases", "k", b"other", revision=0, ttl=1)
        except StreamRefused:
            return 0

    assert await eventually_async(free) > renewed
