"""The outbox: a change and its event never part, and events of one key keep their order."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import Connection, MetaData, event, func, select

from sluice_core import outbox
from sluice_core.bus import DLQ, Bus, Consumer, Message, Stream, consume
from sluice_core.database import Database, DatabaseAway, after_commit
from sluice_core.outbox import Event, Relay
from sluice_core.testing import NatsServer, PostgresServer, eventually_async

T = TypeVar("T")

THINGS = Stream(name="THINGS", subjects=("things.>",), max_bytes=100_000_000, max_age=3600.0)
METADATA = MetaData()
OUTBOX = outbox.outbox_table(METADATA)


@pytest.fixture
def database(empty_database: str) -> Iterator[Database]:
    made = Database(empty_database, pool_size=2)
    made.transact(METADATA.create_all)
    yield made
    made.close()


@pytest.fixture
def other_database(database: Database) -> Iterator[Database]:
    """The same database, as another replica sees it."""
    made = Database(database.engine.url.render_as_string(hide_password=False), pool_size=2)
    yield made
    made.close()


OpenBus = Callable[..., Awaitable[Bus]]


@pytest.fixture
async def open_bus(nats_server: NatsServer) -> AsyncIterator[OpenBus]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(stream: Stream = THINGS, *more: Stream) -> Bus:
            bus = Bus(nats_server.url(), name="test", keeps=[stream, DLQ, *more])
            await bus.open()
            stack.push_async_callback(bus.close)
            await bus.wait_connected(10)
            return bus

        yield make


@contextlib.asynccontextmanager
async def relaying(database: Database, bus: Bus) -> AsyncIterator[Relay]:
    relay = Relay(database, bus, OUTBOX)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def write(*events: tuple[str, int], data: Any = None) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        outbox.add_many(
            connection,
            OUTBOX,
            [Event(f"things.{key}", "thing.changed", {"n": n, "more": data}, key) for key, n in events],
        )

    return work


def count(database: Database) -> int:
    return database.read(lambda connection: connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one())


async def empty(database: Database) -> bool:
    return await asyncio.to_thread(count, database) == 0


async def stored(bus: Bus, stream: str = "THINGS") -> list[Message]:
    """Read a whole stream."""
    session = await bus.session(5)
    expected = (await session.api(f"STREAM.INFO.{stream}"))["state"]["messages"]
    found: list[Message] = []
    stop = asyncio.Event()

    async def handle(batch: list[Message]) -> None:
        found.extend(batch)
        if len(found) >= expected:
            stop.set()

    if expected:
        reader = Consumer(stream=stream, durable=f"look-{time.monotonic_ns()}")
        await asyncio.wait_for(consume(bus, reader, handle, stop), 10)
    return found


def by_key(messages: list[Message]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for message in messages:
        found.setdefault(message.subject.removeprefix("things."), []).append(json.loads(message.data)["data"]["n"])
    return found


async def test_an_event_has_an_id_a_type_a_version_and_a_time(database: Database, open_bus: OpenBus) -> None:
    bus = await open_bus()
    database.transact(
        lambda connection: outbox.add(
            connection, OUTBOX, subject="things.a", event_type="thing.made", data={"x": [1]}, key="a", version=2
        )
    )
    async with relaying(database, bus):
        await eventually_async(lambda: empty(database))
    (message,) = await stored(bus)
    body = json.loads(message.data)
    assert list(body) == ["id", "type", "v", "at", "data"]
    assert (body["type"], body["v"], body["data"]) == ("thing.made", 2, {"x": [1]})
    assert body["at"].endswith("Z")
    assert message.headers["Nats-Msg-Id"] == str(UUID(body["id"]))
    assert message.headers["Sluice-Schema"] == "thing.made;v=2"


async def test_a_change_that_is_rolled_back_says_nothing(database: Database, open_bus: OpenBus) -> None:
    def fail(connection: Connection) -> None:
        write(("a", 1))(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.transact(fail)
    assert count(database) == 0


def test_many_events_are_one_statement(database: Database) -> None:
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    database.transact(write(*((f"k{n}", n) for n in range(300))))
    database.transact(write())
    assert len(statements) == 1
    assert count(database) == 300


async def test_woken_after_the_commit_it_does_not_wait_for_the_next_look(database: Database, open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with relaying(database, bus) as relay:

        def work(connection: Connection) -> None:
            write(("a", 1))(connection)
            after_commit(connection, relay.wake)

        await database.run(database.transact, work)
        await eventually_async(lambda: empty(database))
        for _ in range(3):
            started = time.monotonic()
            await database.run(database.transact, work)
            await eventually_async(lambda: empty(database))
            assert time.monotonic() - started < 0.5


async def test_events_that_nobody_announced_are_found(database: Database, open_bus: OpenBus) -> None:
    bus = await open_bus()
    async with relaying(database, bus):
        await database.run(database.transact, write(("a", 1)))
        await eventually_async(lambda: empty(database), timeout=3)


class Forgetful(Database):
    """Loses the answer to its first commits, as when PostgreSQL dies in that moment."""

    lost = 0

    def transact(self, work: Callable[[Connection], T]) -> T:
        def undone(connection: Connection) -> T:
            result = work(connection)
            if self.lost < 3:
                self.lost += 1
                connection.rollback()
                raise DatabaseAway("during the commit")
            return result

        return super().transact(undone)


async def test_what_is_published_again_after_a_crash_is_stored_once(database: Database, open_bus: OpenBus) -> None:
    bus = await open_bus()
    database.transact(write(("a", 1), ("a", 2), ("b", 1)))
    forgetful = Forgetful(database.engine.url.render_as_string(hide_password=False), pool_size=1)
    async with relaying(forgetful, bus):
        await eventually_async(lambda: empty(database))
    assert forgetful.lost == 3
    assert by_key(await stored(bus)) == {"a": [1, 2], "b": [1]}
    forgetful.close()


async def test_killing_the_server_amid_the_relay_loses_doubles_and_reorders_nothing(
    database: Database, nats_server: NatsServer, open_bus: OpenBus
) -> None:
    bus = await open_bus()
    keys = [f"k{n}" for n in range(20)]
    total = 2000

    async def produce() -> None:
        for start in range(0, total, 50):
            numbers = range(start, start + 50)
            await database.run(database.transact, write(*((keys[n % 20], n) for n in numbers)))
            relay.wake()

    async with relaying(database, bus) as relay:
        producing = asyncio.create_task(produce())
        await eventually_async(lambda: bus.published >= 300)
        nats_server.kill()
        nats_server.start()
        await eventually_async(lambda: bus.published >= 1000)
        nats_server.kill()
        nats_server.start()
        await producing
        await eventually_async(lambda: empty(database), timeout=30)
    assert by_key(await stored(bus)) == {key: list(range(n, total, 20)) for n, key in enumerate(keys)}
    assert bus.connections == 3


async def test_two_relays_publish_each_event_once_and_in_order(
    database: Database, other_database: Database, open_bus: OpenBus
) -> None:
    one, two = await open_bus(), await open_bus()
    keys = [f"k{n}" for n in range(10)]
    async with relaying(database, one) as first, relaying(other_database, two) as second:
        for start in range(0, 1000, 20):
            await database.run(database.transact, write(*((keys[n % 10], n) for n in range(start, start + 20))))
            first.wake()
            second.wake()
        await eventually_async(lambda: empty(database), timeout=20)
    assert by_key(await stored(one)) == {key: list(range(n, 1000, 10)) for n, key in enumerate(keys)}
    assert one.published + two.published == 1000


async def test_a_relay_takes_over_from_one_that_died(
    database: Database, other_database: Database, open_bus: OpenBus
) -> None:
    dying, bus = await open_bus(), await open_bus()
    database.transact(write(*(("a", n) for n in range(1500))))
    async with relaying(database, dying):
        await eventually_async(lambda: dying.published > 10)
    async with relaying(other_database, bus):
        await eventually_async(lambda: empty(database), timeout=20)
    assert by_key(await stored(bus)) == {"a": list(range(1500))}


async def test_a_full_stream_holds_back_what_follows_in_its_key_even_if_that_would_fit(
    database: Database, open_bus: OpenBus
) -> None:
    bus = await open_bus(replace(THINGS, max_bytes=20_000))
    database.transact(write(*(("a", n) for n in range(10)), data="x" * 1000))
    database.transact(write(("a", 10), data="x" * 9000))
    database.transact(write(("a", 11), ("b", 0), ("a", 12), ("b", 1)))
    async with relaying(database, bus) as relay:
        await eventually_async(lambda: bus.refused >= 2)
        assert by_key(await stored(bus)) == {"a": list(range(10)), "b": [0, 1]}
        assert count(database) == 3
        assert relay.lag_seconds() > 0
        await (await bus.session()).api("STREAM.PURGE.THINGS")
        await eventually_async(lambda: empty(database))
    assert by_key(await stored(bus)) == {"a": [10, 11, 12]}


async def test_a_full_stream_holds_back_no_event_of_another_one(
    database: Database, open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 3)
    other = replace(THINGS, name="OTHERS", subjects=("others.>",))
    bus = await open_bus(replace(THINGS, max_bytes=5_000), other)
    database.transact(write(*((f"k{n}", n) for n in range(10)), data="x" * 6000))
    event = Event("others.a", "other.changed", {"n": 1}, "other")
    database.transact(lambda connection: outbox.add_many(connection, OUTBOX, [event]))
    async with relaying(database, bus) as relay:
        await eventually_async(lambda: bus.refused and count(database) == 10)
        assert len(await stored(bus, "OTHERS")) == 1
        assert relay.lag_seconds() > 0
        await (await bus.session()).api("STREAM.UPDATE.THINGS", replace(THINGS, max_bytes=500_000).config())
        await eventually_async(lambda: empty(database))


async def test_an_event_that_no_stream_can_take_is_parked_and_blocks_no_other(
    database: Database, open_bus: OpenBus
) -> None:
    bus = await open_bus()
    database.transact(write(("a", 1)))
    database.transact(write(("a", 2), data="x" * 8_400_000))
    database.transact(write(("a", 3)))
    async with relaying(database, bus):
        await eventually_async(lambda: empty(database))
    assert by_key(await stored(bus)) == {"a": [1, 3]}
    (letter,) = await stored(bus, "DLQ")
    assert letter.subject == "dlq.things.a"
    assert "bytes are more than" in letter.headers["Sluice-Dlq-Reason"]
    assert letter.headers["Sluice-Schema"] == "thing.changed;v=1"


async def test_while_nats_is_away_events_wait_and_no_connection_is_held(
    database: Database, nats_server: NatsServer, open_bus: OpenBus
) -> None:
    bus = await open_bus()
    async with relaying(database, bus) as relay:
        nats_server.kill()
        await eventually_async(lambda: not bus.connected)
        await database.run(database.transact, write(("a", 1), ("a", 2)))
        relay.wake()
        await eventually_async(lambda: relay.waiting == 2 and relay.lag_seconds() > 1)
        await eventually_async(lambda: database.in_use == 0)
        nats_server.start()
        await eventually_async(lambda: empty(database), timeout=20)
        await eventually_async(lambda: relay.waiting == 0 and relay.lag_seconds() == 0)
    assert by_key(await stored(bus)) == {"a": [1, 2]}


async def test_it_goes_on_when_postgresql_is_back(
    database: Database, postgres_server: PostgresServer, open_bus: OpenBus
) -> None:
    bus = await open_bus()
    async with relaying(database, bus) as relay:
        await database.run(database.transact, write(("a", 1)))
        await eventually_async(lambda: bus.published == 1)
        postgres_server.kill()
        relay.wake()
        with pytest.raises(DatabaseAway):
            await database.run(database.check)
        postgres_server.start()
        await database.run(database.transact, write(("a", 2)))
        await eventually_async(lambda: empty(database), timeout=20)
    assert by_key(await stored(bus)) == {"a": [1, 2]}


async def test_stopping_amid_a_batch_is_quick_and_what_is_stored_is_deleted(
    database: Database, open_bus: OpenBus
) -> None:
    bus = await open_bus()
    database.transact(write(*(("a", n) for n in range(500))))
    async with relaying(database, bus):
        await eventually_async(lambda: bus.published > 5)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    left = count(database)
    assert 0 < left < 500
    assert len(await stored(bus)) == 500 - left
    assert database.in_use == 0


async def test_a_batch_is_bounded_in_bytes(
    database: Database, open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH_BYTES", 5000)
    bus = await open_bus()
    database.transact(write(*(("a", n) for n in range(20)), data="x" * 2000))
    database.transact(write(("b", 0), data="x" * 9000))
    sizes: list[int] = []
    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda *args: sizes.append(len(args[3]["ids"])) if args[2].startswith("DELETE") else None,
    )
    async with relaying(database, bus):
        await eventually_async(lambda: empty(database))
    assert sizes == [3] * 7
    assert by_key(await stored(bus)) == {"a": list(range(20)), "b": [0]}
