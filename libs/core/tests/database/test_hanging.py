"""A PostgreSQL that hangs: neither refuses nor answers."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from sluice_core.database import Database, DatabaseAway
from sluice_core.testing import eventually_async
from sluice_embedded import Postgres


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "postgres", settings={"fsync": "off"}) as server:
        yield server


def stand_still(server: Postgres, number: signal.Signals) -> None:
    """Send a signal to the server and to all its processes."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for pid in (server.pid, *map(int, children)):
        os.kill(pid, number)


async def test_whoever_waits_for_a_hanging_postgresql_is_told_within_two_seconds_until_it_answers_again(
    postgres: Postgres,
) -> None:
    database = Database(postgres.admin_url, pool_size=2)
    watching = asyncio.create_task(database.watch())
    await database.run(database.check)
    stand_still(postgres, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answers = await asyncio.gather(*(database.run(database.check) for _ in range(6)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [DatabaseAway] * 6
        assert time.monotonic() - began < 2
        with pytest.raises(DatabaseAway):
            await database.run(database.check)
    finally:
        stand_still(postgres, signal.SIGCONT)

    async def back() -> bool:
        try:
            await database.run(database.check)
        except DatabaseAway:
            return False
        return True

    await eventually_async(back)
    watching.cancel()
    database.close()


async def test_a_statement_that_takes_long_is_no_hanging_postgresql(postgres: Postgres) -> None:
    database = Database(postgres.admin_url, pool_size=2)
    watching = asyncio.create_task(database.watch())
    slow = text("SELECT 'done' FROM pg_sleep(2.5)")
    found = await database.run(database.read, lambda connection: connection.execute(slow).scalar_one())
    assert found == "done"
    watching.cancel()
    database.close()


def test_a_server_that_became_a_standby_is_away_and_asked_on_a_new_connection(postgres: Postgres) -> None:
    database = Database(postgres.admin_url, pool_size=1)

    def session() -> int:
        found: int = database.read(lambda c: c.execute(text("SELECT pg_backend_pid()")).scalar_one())
        return found

    before = session()

    def write(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION READ ONLY"))  # as each one of a standby is
        connection.execute(text("CREATE TABLE thing (n int)"))

    with pytest.raises(DatabaseAway):
        database.transact(write)
    assert session() != before
    database.close()
