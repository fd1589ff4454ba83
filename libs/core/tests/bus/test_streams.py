"""Declared streams, buckets and consumers."""

from dataclasses import replace

import nats
import pytest

from sluice_core.bus import (
    AGENTS,
    AUDIT,
    DLQ,
    HEARTBEATS,
    KEYS,
    REVOKED,
    TOKENS,
    Bucket,
    Bus,
    Stream,
    StreamDiffers,
)
from sluice_core.testing import NatsServer, eventually_async

from .conftest import OpenBus

STREAM = Stream(name="S", subjects=("s.>",), max_bytes=1_000_000, max_age=3600.0)


async def test_what_the_platform_declares_can_be_made_and_made_again(open_bus: OpenBus) -> None:
    bus = await open_bus()
    for _ in range(2):
        await bus.ensure([AGENTS, HEARTBEATS, AUDIT, DLQ], [KEYS, TOKENS, REVOKED])
    session = await bus.session()
    for declared in (AGENTS, HEARTBEATS, AUDIT, DLQ, KEYS, TOKENS, REVOKED):
        wanted = declared.config()
        found = (await session.api(f"STREAM.INFO.{wanted['name']}"))["config"]
        assert {key: found.get(key) or None for key in wanted} == {key: value or None for key, value in wanted.items()}


@pytest.mark.parametrize(("max_age", "window"), [(3600.0, 600), (180.0, 180)])
def test_ids_are_remembered_for_ten_minutes_or_as_long_as_messages_last(max_age: float, window: int) -> None:
    assert replace(STREAM, max_age=max_age).config()["duplicate_window"] == window * 1_000_000_000


async def test_a_changed_declaration_changes_the_stream_and_nothing_else(open_bus: OpenBus) -> None:
    bus = await open_bus()
    await bus.ensure([STREAM])
    session = await bus.session()
    config = (await session.api("STREAM.INFO.S"))["config"]
    await session.api("STREAM.UPDATE.S", {**config, "description": "an operator's words"})
    await bus.publish_stored("s.a", b"kept", msg_id="1")
    await bus.ensure([replace(STREAM, max_bytes=2_000_000, subjects=("s.>", "t.>"), discard="old")])
    info = await session.api("STREAM.INFO.S")
    assert info["config"]["max_bytes"] == 2_000_000
    assert info["config"]["subjects"] == ["s.>", "t.>"]
    assert info["config"]["description"] == "an operator's words"
    assert info["state"]["messages"] == 1


@pytest.mark.parametrize("change", [{"storage": "memory"}, {"retention": "workqueue"}])
async def test_a_stream_that_cannot_become_what_is_declared_is_named_and_kept(
    open_bus: OpenBus, change: dict[str, str]
) -> None:
    bus = await open_bus()
    await bus.ensure([STREAM])
    await bus.publish_stored("s.a", b"kept", msg_id="1")
    (key, value) = next(iter(change.items()))
    with pytest.raises(StreamDiffers, match=f"stream S exists, but {key} is .* instead of {value}"):
        await bus.ensure([replace(STREAM, **change)])  # type: ignore[arg-type]
    assert (await (await bus.session()).api("STREAM.INFO.S"))["state"]["messages"] == 1


async def test_a_subject_that_another_stream_takes_is_named(open_bus: OpenBus) -> None:
    bus = await open_bus()
    await bus.ensure([STREAM])
    with pytest.raises(StreamDiffers, match="stream OTHER: subjects overlap"):
        await bus.ensure([replace(STREAM, name="OTHER")])


async def test_a_bus_that_cannot_keep_its_streams_says_why_and_is_not_connected(
    nats_server: NatsServer, open_bus: OpenBus
) -> None:
    await (await open_bus()).ensure([STREAM])
    bus = Bus(nats_server.url(), name="test", keeps=[replace(STREAM, storage="memory")])
    await bus.open()
    await eventually_async(lambda: "storage is file instead of memory" in bus.problem)
    assert not bus.connected
    await bus.close()


async def test_only_the_newest_heartbeat_of_an_agent_waits(open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[HEARTBEATS])
    for number in range(5):
        for name in ("a", "b"):
            await bus.publish_stored(f"agents.in.heartbeat._.{name}", b"", msg_id=f"{name}{number}")
    state = (await (await bus.session()).api("STREAM.INFO.HEARTBEATS"))["state"]
    assert state["messages"] == 2


async def test_a_bucket_is_one_to_other_clients(nats_server: NatsServer, open_bus: OpenBus) -> None:
    bus = await open_bus(keeps=[Bucket(name="things", max_bytes=100_000)])
    await bus.put("things", "one", b"1")
    await bus.put("things", "two", b"2")
    await bus.delete("things", "two")
    client = await nats.connect(nats_server.url())
    bucket = await client.jetstream().key_value("things")
    value = (await bucket.get("one")).value
    keys = await bucket.keys()
    await client.close()
    assert (value, keys) == (b"1", ["one"])
