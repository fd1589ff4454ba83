"""The fixtures and helpers that all tests lean on."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from sluice_core.testing import Databases, NatsServer, PostgresServer, StartNats, eventually, eventually_async
from sluice_core.testing.servers import images

MIGRATION = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE thing (name text)")
"""


def ask(url: str, query: str) -> object:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(query))
        return result.scalar() if result.returns_rows else None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An importable package with one migration."""
    name = f"things_{tmp_path.name}"
    versions = tmp_path / name / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (versions.parent / "env.py").write_text("from sluice_core.database.alembic_env import run\n\nrun()\n")
    (versions / "0001_things.py").write_text(MIGRATION)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_fresh_database_is_migrated_and_shared_with_nobody(
    fresh_database: Callable[[str], str], package: str
) -> None:
    first, second = fresh_database(package), fresh_database(package)
    ask(first, "INSERT INTO thing VALUES ('mine')")
    assert ask(first, "SELECT count(*) FROM thing") == 1
    assert ask(second, "SELECT count(*) FROM thing") == 0
    assert ask(second, "SELECT tableowner FROM pg_tables WHERE tablename = 'thing'") == ask(second, "SELECT user")


def test_a_second_fresh_database_takes_no_migration(databases: Databases, package: str) -> None:
    with databases.fresh(package):
        pass
    began = time.monotonic()
    with databases.fresh(package) as url:
        assert time.monotonic() - began < 1
    with pytest.raises(Exception, match="does not exist"):
        ask(url, "SELECT 1")


def test_tests_have_no_more_rights_than_a_service(empty_database: str) -> None:
    assert ask(empty_database, "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = user") is False


def test_databases_survive_a_kill_of_the_server(postgres_server: PostgresServer, empty_database: str) -> None:
    ask(empty_database, "CREATE TABLE kept AS SELECT 1")
    postgres_server.kill()
    postgres_server.start()
    assert ask(empty_database, "SELECT count(*) FROM kept") == 1


def test_a_server_that_a_failed_test_left_dead_is_started(
    postgres_server: PostgresServer, fresh_database: Callable[[str], str], package: str
) -> None:
    postgres_server.kill()
    assert ask(fresh_database(package), "SELECT count(*) FROM thing") == 0


async def test_nats_keeps_its_url_over_a_kill(nats_server: NatsServer) -> None:
    url = nats_server.url()
    nats_server.kill()
    assert not nats_server.running
    nats_server.start()
    client = await nats.connect(url)
    assert client.is_connected
    await client.close()


def test_nats_servers_are_the_tests_own(start_nats: StartNats) -> None:
    locked = start_nats('authorization { user: "one", password: "two" }')
    assert locked.url("one", "two") != start_nats().url("one", "two")


def test_images_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TEST_IMAGES", "postgres=host:5000/postgres:15,nats=nats:2")
    assert images() == {"postgres": "host:5000/postgres:15", "nats": "nats:2"}


@pytest.mark.parametrize("value", ["redis=x", "postgres", "postgres="])
def test_an_image_of_an_unknown_server_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SLUICE_TEST_IMAGES", value)
    with pytest.raises(ValueError, match="SLUICE_TEST_IMAGES"):
        images()


def test_eventually_returns_the_first_true_value() -> None:
    values = iter([0, None, 7])
    assert eventually(lambda: next(values)) == 7


def test_eventually_shows_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s; last seen: \[\]"):
        eventually(list, timeout=0)


def test_eventually_repeats_a_failed_assertion() -> None:
    def attempt() -> bool:
        assert not attempts, "the reason"
        return True

    attempts = ["one"]
    with pytest.raises(AssertionError, match="the reason"):
        eventually(attempt, timeout=0)
    attempts.clear()
    assert eventually(attempt)


async def test_eventually_awaits() -> None:
    values = iter([0, 7])

    async def attempt() -> int:
        return next(values)

    assert await eventually_async(attempt) == 7
    assert await eventually_async(lambda: "plain") == "plain"
