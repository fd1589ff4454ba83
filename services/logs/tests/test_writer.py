"""Each record is answered after its commit, is stored once, and suffers for no other."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, timedelta
from typing import Any

import pytest
from sqlalchemy import make_url, text

from sluice_core.database import Database
from sluice_core.testing import eventually_async
from sluice_core.testing.schema import clear
from sluice_logs.days import Days
from sluice_logs.records import Reader, Record
from sluice_logs.tables import BLOCK, metadata
from sluice_logs.writer import Ids, Line, LineFull, Writer

from .records import body

READER = Reader(UTC)


def sound(message: str = "fine", **given: Any) -> Record:
    return READER.read(body(message=message, **given))


def bad() -> Record:
    """Return a record that PostgreSQL refuses: no validation of ours lets one through that is known."""
    record = sound("bad")
    assert b"\tbad\t" in record.columns
    return Record(record.columns.replace(b"\tbad\t", b"\t\\000\t"), record.shown)


class Stream:
    """Where records go while PostgreSQL is away."""

    def __init__(self) -> None:
        self.kept: list[list[Line]] = []
        self.full = False

    async def keep(self, lines: Sequence[Line]) -> None:
        if self.full:
            raise LineFull("full")
        self.kept.append(list(lines))


class World:
    """A writer that runs, its database, and the stream behind it."""

    def __init__(self, url: str, **given: Any) -> None:
        self.database = Database(url, pool_size=2)
        self.stream = Stream()
        days = Days(self.database, timedelta(0))
        self.writer = Writer(self.database, days, later=self.stream.keep, **given)

    def stored(self, column: str = "message") -> list[Any]:
        statement = text(f"SELECT {column} FROM log_record ORDER BY id")
        return list(self.database.read(lambda c: c.execute(statement).scalars()))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        await self.writer.open()
        task = asyncio.create_task(self.writer.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.database.close()


@pytest.fixture
async def world(service_database: str) -> AsyncIterator[World]:
    clear(service_database, metadata)
    async with World(service_database).running() as made:
        yield made


async def test_what_arrives_while_a_transaction_runs_is_stored_by_the_next_one(world: World) -> None:
    found = await asyncio.gather(*(world.writer.write([sound(str(n))]) for n in range(300)))
    assert [each.refused for each in found] == [frozenset()] * 300
    assert world.stored() == [str(n) for n in range(300)]
    assert world.stored("id") == [each.first for each in found]
    assert len(set(world.stored("xmin::text"))) <= 2
    assert world.writer.waiting == 0


async def test_clients_that_come_again_at_once_share_transactions(world: World) -> None:
    async def client(name: int) -> None:
        for number in range(20):
            await world.writer.write([sound(f"{name} {number}")])

    await asyncio.gather(*map(client, range(8)))
    assert len(world.stored()) == 160
    # Alone, each would have 20 of its own; gathered, all have a few more than these.
    assert world.writer.batches < 80


async def test_one_record_among_500_that_cannot_be_stored_fails_alone(world: World) -> None:
    records = [[bad()] if n == 321 else [sound(str(n))] for n in range(500)]
    found = await asyncio.gather(*map(world.writer.write, records))
    assert [n for n, each in enumerate(found) if each.refused] == [321]
    assert world.stored() == [str(n) for n in range(500) if n != 321]


async def test_records_that_belong_together_fail_together_and_no_others_with_them(world: World) -> None:
    together, apart = await asyncio.gather(
        world.writer.write([sound("a"), bad(), sound("c")], together=True),
        world.writer.write([bad(), sound("e")]),
    )
    assert (together.refused, apart.refused) == (frozenset({1}), frozenset({0}))
    assert world.stored() == ["e"]


async def test_a_line_that_is_full_refuses_and_stores_nothing(service_database: str) -> None:
    clear(service_database, metadata)
    async with World(service_database, waiting=10_000).running() as world:
        waiting = [asyncio.create_task(world.writer.write([sound("x" * 3000)])) for _ in range(5)]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [each for each in done if isinstance(each, LineFull)]
        assert refused
        assert len(world.stored()) == 5 - len(refused)
        await world.writer.write([sound()])


# Commits whose answer is lost, and PostgreSQL away


# What PostgreSQL answers when records are committed: by themselves, or those of them that were missing.
COMMITTED = (b"INSERT 0 1\0Z", b"COMMIT\0")


class Cut:
    """A proxy before PostgreSQL that loses the answers to some commits, as a broken connection does."""

    def __init__(self, url: str) -> None:
        self._to = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.lose = 0
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        there = self._to.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        return there.render_as_string(hide_password=False)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._to.host, self._to.port))
                self._ends += (client, server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.lose and data.startswith(b"C") and any(each in data for each in COMMITTED):
                    self.lose -= 1
                    self.lost += 1
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cut(service_database: str) -> Iterator[Cut]:
    clear(service_database, metadata)
    made = Cut(service_database)
    yield made
    made.close()


async def test_a_commit_whose_answer_was_lost_is_repeated_and_doubles_nothing(cut: Cut) -> None:
    async with World(cut.url).running() as world:
        await world.writer.write([sound("before")])
        cut.lose = 1
        found = await asyncio.gather(*(world.writer.write([sound(str(n))]) for n in range(50)))
        assert cut.lost == 1
        assert world.stored() == ["before", *map(str, range(50))]
        assert world.stored("id")[1:] == [each.first for each in found]
        assert world.stream.kept == []


async def test_a_record_is_counted_once_however_often_it_is_written(cut: Cut) -> None:
    async with World(cut.url).running() as world:
        cut.lose = 1
        await world.writer.write([sound("a\tb\\c", app_name="a\\t\t\n\r\\"), sound("b")])
        count = text("SELECT app_name, sum(records)::int FROM log_count GROUP BY 1 ORDER BY 1")
        found = world.database.read(lambda c: [tuple(row) for row in c.execute(count)])
        assert found == [("a\\t\t\n\r\\", 1), ("base_agent", 1)]


async def test_when_the_answer_is_lost_twice_the_stream_has_the_records_under_the_same_ids(cut: Cut) -> None:
    async with World(cut.url).running() as world:
        cut.lose = 2
        found = await world.writer.write([sound("a"), sound("b")])
        ((a, b),) = world.stream.kept
        assert (a.key, b.key) == (found.first, found.first + 1)
        # They were committed, and are not stored again when they come back.
        await world.writer.write_inputs([("1@x", [a, b])])
        assert world.stored("id") == [a.key, b.key]


async def test_a_message_of_the_stream_is_stored_once_however_often_it_comes(world: World) -> None:
    lines = await world.writer.number([sound("a"), sound("b")])
    others = await world.writer.number([sound("a"), sound("b")])
    await world.writer.write_inputs([("7@t", lines)])
    await world.writer.write_inputs([("7@t", others), ("8@t", [])])
    assert world.stored("id") == [line.key for line in lines]


async def test_both_away_refuses_and_nothing_is_pretended(cut: Cut) -> None:
    async with World(cut.url).running() as world:
        cut.lose, world.stream.full = 1000, True
        with pytest.raises(LineFull):
            await world.writer.write([sound()])
        await eventually_async(lambda: _empty(world.writer))


async def _empty(writer: Writer) -> bool:
    return writer.waiting == 0


async def test_ids_in_reserve_never_come_twice_and_end_with_a_refusal() -> None:
    ids = Ids()
    ids.add(1)
    assert not ids.low
    assert [ids.take(1), ids.take(5), ids.take(1)] == [1, 2, 7]
    ids.take(BLOCK - 10)
    assert ids.low
    with pytest.raises(LineFull):
        ids.take(100)
