"""The log table has room for the days that come, and lets go of those that are too old."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

import sluice_logs
from sluice_core.database import Database, migrate
from sluice_core.testing.apps import Start
from sluice_core.testing.schema import clear
from sluice_logs.days import AHEAD, Days
from sluice_logs.records import Reader
from sluice_logs.store import Partitions, RecordStore
from sluice_logs.tables import metadata

from .records import URL, body, record

NOW = datetime(2031, 3, 1, 0, 5, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def database(service_database: str) -> Iterator[Database]:
    clear(service_database, metadata)
    made = Database(service_database, pool_size=2)
    yield made
    made.close()


def days(database: Database) -> list[date]:
    return database.read(lambda c: Partitions(c).days())


def store(database: Database, key: int, day: date) -> None:
    line = Reader(UTC).read(body()).line(key, day)
    database.transact(lambda c: RecordStore(c).copy([line]))


def ids(database: Database) -> list[int]:
    return list(database.read(lambda c: c.exec_driver_sql("SELECT id FROM log_record ORDER BY id").scalars()))


def test_yesterday_today_and_a_week_ahead_have_room_and_making_them_again_changes_nothing(database: Database) -> None:
    made = Days(database, timedelta(0), now=lambda: NOW)
    made.make_ahead()
    made.make_ahead()
    assert set(days(database)) >= {TODAY + timedelta(days=n) for n in range(-1, AHEAD + 1)}
    store(database, 1, TODAY)
    assert ids(database) == [1]


def test_a_day_is_dropped_once_its_last_record_is_older_than_the_retention_and_not_before(database: Database) -> None:
    made = Days(database, timedelta(days=90), now=lambda: NOW)
    kept, old = TODAY - timedelta(days=90), TODAY - timedelta(days=91)
    made.make([kept, old])
    store(database, 1, old)
    store(database, 2, kept)
    made.tidy()
    assert ids(database) == [2]
    assert old not in days(database)
    assert kept in days(database)


def test_a_retention_of_hours_keeps_a_day_until_its_last_hour_is_old(database: Database) -> None:
    yesterday = TODAY - timedelta(days=1)
    made = Days(database, timedelta(hours=12), now=lambda: NOW)
    made.make([yesterday])
    store(database, 3, yesterday)
    made.tidy()
    assert ids(database) == [3]
    Days(database, timedelta(hours=12), now=lambda: NOW + timedelta(hours=12)).tidy()
    assert ids(database) == []


def test_no_retention_keeps_everything(database: Database) -> None:
    made = Days(database, timedelta(0), now=lambda: NOW)
    long_ago = TODAY - timedelta(days=4000)
    made.make([long_ago])
    store(database, 4, long_ago)
    made.tidy()
    assert ids(database) == [4]


def test_the_oldest_days_go_when_the_table_is_larger_than_it_may_be_and_today_stays(database: Database) -> None:
    past = [TODAY - timedelta(days=n) for n in range(3)]
    Days(database, timedelta(0), now=lambda: NOW).make(past)
    for key, day in enumerate(past):
        store(database, key, day)
    sizes = database.read(lambda c: Partitions(c).sizes())
    fits = sum(size for day, size in sizes if day > past[2])
    Days(database, timedelta(0), most_bytes=fits, now=lambda: NOW).tidy()
    assert ids(database) == [0, 1]
    Days(database, timedelta(0), most_bytes=1, now=lambda: NOW).tidy()
    assert ids(database) == [0]
    counted = database.read(lambda c: list(c.exec_driver_sql("SELECT received_on, records FROM log_count")))
    assert [tuple(each) for each in counted] == [(TODAY, 1)]


def test_messages_of_the_stream_are_forgotten_after_a_day(database: Database) -> None:
    assert database.transact(lambda c: RecordStore(c).new_inputs(["old", "new"])) == {"old", "new"}
    assert database.transact(lambda c: RecordStore(c).new_inputs(["old", "next"])) == {"next"}
    aged = sa.text("UPDATE log_input SET at = now() - interval '25 hours' WHERE message = 'old'")
    database.transact(lambda c: c.execute(aged))
    Days(database, timedelta(0)).tidy()
    assert database.transact(lambda c: RecordStore(c).new_inputs(["old", "new"])) == {"old"}


def test_a_day_without_room_is_made_by_the_first_record_that_arrives_in_it(start: Start) -> None:
    client = start()
    database = client.app.state.service.database  # type: ignore[attr-defined]
    today = datetime.now(UTC).date()
    database.transact(lambda c: Partitions(c).drop(today + timedelta(days=1)))
    assert today not in days(database)
    assert client.post(URL, json=record()).status_code == 201
    assert len(client.get(URL).json()) == 1


def test_records_from_before_there_were_days_are_kept_and_their_ids_are_given_to_nobody_else(
    empty_database: str,
) -> None:
    _upgrade(empty_database, "0001")
    engine = sa.create_engine(empty_database, poolclass=NullPool)
    columns = "app_name, instance_name, timestamp, level, levelname, message, module, funcname, lineno, process, thread"
    values = "'a', 'i', '2026-05-05', 20, 'INFO', 'old', 'm', 'f', 1, 2, 3"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO log_record ({columns}) SELECT {values} FROM generate_series(1, 3)")
    migrate(empty_database, "sluice_logs")
    database = Database(empty_database, pool_size=1)
    try:
        assert ids(database) == [1, 2, 3]
        first = database.transact(lambda c: RecordStore(c).reserve())
        assert first > 3
    finally:
        database.close()


def _upgrade(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(str(sluice_logs.__file__)).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with sa.create_engine(url, poolclass=NullPool).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
