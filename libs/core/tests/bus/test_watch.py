"""Following a bucket."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import pytest

from sluice_core.bus import Bucket, Bus
from sluice_core.testing import NatsServer, eventually_async

from .conftest import OpenBus

THINGS = Bucket(name="things", max_bytes=1_000_000)


class Seen:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.calls: list[tuple[str, bytes | None]] = []
        self.readings: list[dict[str, bytes]] = []

    def change(self, key: str, value: bytes | None) -> None:
        self.calls.append((key, value))
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    def ready(self) -> None:
        self.readings.append(dict(self.values))


class Watch(Protocol):
    """The fixture `watch`."""

    def __call__(self, bus: Bus, *, keep_lost: bool = False) -> Seen:
        """Watch the bucket until the test ends."""
        ...


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    tasks = []

    def start(bus: Bus, *, keep_lost: bool = False) -> Seen:
        seen = Seen()
        tasks.append(asyncio.create_task(bus.watch("things", seen.change, seen.ready, keep_lost=keep_lost)))
        return seen

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_ready_comes_after_every_value_that_was_there(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus(keeps=[THINGS])
    expected = {f"key-{number}": b"%d" % number for number in range(1200)}
    await asyncio.gather(*(bus.put("things", key, value) for key, value in expected.items()))
    await bus.put("things", "gone", b"1")
    await bus.delete("things", "gone")
    seen = watch(bus)
    await eventually_async(lambda: seen.readings)
    assert len(seen.readings) == 1
    assert seen.readings[0].items() ^ expected.items() == set()


async def test_an_empty_bucket_is_ready_at_once(open_bus: OpenBus, watch: Watch) -> None:
    seen = watch(await open_bus(keeps=[THINGS]))
    await eventually_async(lambda: seen.readings, timeout=1)
    assert seen.calls == []


async def test_changes_and_deletions_are_told_as_they_happen(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus(keeps=[THINGS])
    seen = watch(bus)
    await eventually_async(lambda: seen.readings)
    for key, value in (("a", b"1"), ("a", b"2"), ("a", None), ("empty", b"")):
        if value is None:
            await bus.delete("things", key)
        else:
            await bus.put("things", key, value)
        await eventually_async(partial(told, seen, key, value))
    assert len(seen.calls) == 4


def told(seen: Seen, key: str, value: bytes | None) -> bool:
    return seen.calls[-1:] == [(key, value)]


async def test_of_quick_changes_the_last_one_is_told(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus(keeps=[THINGS])
    seen = watch(bus)
    await eventually_async(lambda: seen.readings)
    for number in range(300):
        await bus.put("things", f"k{number % 3}", b"%d" % number)
    await eventually_async(lambda: seen.values == {"k0": b"297", "k1": b"298", "k2": b"299"})


async def test_nothing_is_missed_while_the_server_restarts(
    nats_server: NatsServer, open_bus: OpenBus, watch: Watch
) -> None:
    bus = await open_bus(keeps=[THINGS])
    other = await open_bus(keeps=[THINGS])
    await bus.put("things", "stays", b"1")
    await bus.put("things", "goes", b"1")
    seen = watch(bus)
    await eventually_async(lambda: seen.readings)
    nats_server.kill()
    nats_server.start()
    # The other one is back and writes, perhaps before the watcher is.
    await eventually_async(lambda: other.connections == 2)
    await other.delete("things", "goes")
    await other.put("things", "new", b"1")
    await eventually_async(lambda: len(seen.readings) == 2 and seen.values == {"stays": b"1", "new": b"1"})
    assert ("goes", None) in seen.calls
    await other.put("things", "later", b"1")
    await eventually_async(lambda: seen.values.get("later") == b"1")


async def test_what_a_server_without_data_has_lost_is_told_as_deleted(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus(keeps=[THINGS])
    await bus.put("things", "a", b"1")
    seen = watch(bus)
    await eventually_async(lambda: seen.readings)
    session = await bus.session()
    await session.api("STREAM.DELETE.KV_things")
    await bus.ensure(buckets=[THINGS])
    await bus.put("things", "b", b"2")
    await eventually_async(lambda: seen.values == {"b": b"2"})
    assert seen.calls == [("a", b"1"), ("a", None), ("b", b"2")] or seen.calls == [
        ("a", b"1"),
        ("b", b"2"),
        ("a", None),
    ]


async def test_what_was_lost_may_be_kept_until_it_is_told_again(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus(keeps=[THINGS])
    for key in ("a", "b"):
        await bus.put("things", key, b"1")
    seen = watch(bus, keep_lost=True)
    await eventually_async(lambda: seen.readings)
    session = await bus.session()
    await session.api("STREAM.DELETE.KV_things")
    await bus.ensure(buckets=[THINGS])
    await eventually_async(lambda: len(seen.readings) == 2)
    await bus.put("things", "a", b"2")
    await eventually_async(lambda: seen.values == {"a": b"2", "b": b"1"})
    # What is taken out is taken out.
    await bus.delete("things", "a")
    await eventually_async(lambda: seen.values == {"b": b"1"})


async def test_while_the_bucket_is_away_the_last_known_values_hold(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus()
    await bus.ensure(buckets=[THINGS])
    await bus.put("things", "a", b"1")
    seen = watch(bus)
    await eventually_async(lambda: seen.readings)
    session = await bus.session()
    await session.api("STREAM.DELETE.KV_things")
    with pytest.raises(AssertionError, match="not within"):
        await eventually_async(lambda: seen.values != {"a": b"1"} or len(seen.readings) > 1, timeout=0.5)


async def test_it_waits_for_a_bucket_that_is_not_there_yet(open_bus: OpenBus, watch: Watch) -> None:
    bus = await open_bus()
    seen = watch(bus)
    await bus.ensure(buckets=[THINGS])
    await eventually_async(lambda: seen.readings)


async def test_keys_that_vanish_during_the_first_reading_do_not_delay_it_for_ever(
    open_bus: OpenBus, watch: Watch
) -> None:
    bus = await open_bus(keeps=[THINGS])
    for number in range(50):
        await bus.put("things", f"k{number}", b"1")
    session = await bus.session()
    seen = watch(bus)
    await session.api("STREAM.PURGE.KV_things")
    await eventually_async(lambda: seen.readings)


@pytest.mark.parametrize("key", ["", "a.b", "*", ">", "a b", "é"])
async def test_a_key_that_is_no_token_is_refused(open_bus: OpenBus, key: str) -> None:
    bus = await open_bus()
    with pytest.raises(ValueError, match="token"):
        await bus.put("things", key, b"")
    with pytest.raises(ValueError, match="token"):
        await bus.delete("things", key)
