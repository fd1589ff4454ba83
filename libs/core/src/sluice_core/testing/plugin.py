"""The pytest fixtures of all packages: real servers, fresh databases."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from sluice_core.testing import servers
from sluice_core.testing.databases import Databases
from sluice_core.testing.servers import NatsServer, PostgresServer, StartNats

__all__: list[str] = []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of the session; a test that kills it starts it again."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> Iterator[Databases]:
    """Databases as context managers, for fixtures that live longer than a test."""
    made = Databases(postgres_server)
    yield made
    made.close()


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """URL of an empty database, the test's own."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def fresh_database(databases: Databases) -> Iterator[Callable[[str], str]]:
    """Make a migrated database of a package (``fresh_database("sluice_logs")``), the test's own; return its URL."""
    with contextlib.ExitStack() as stack:
        yield lambda package: stack.enter_context(databases.fresh(package))


@pytest.fixture
def start_nats() -> Iterator[StartNats]:
    """Start a nats-server with an ``authorization`` block; the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda authorization="": stack.enter_context(servers.nats(authorization))


@pytest.fixture
def nats_server(start_nats: StartNats) -> NatsServer:
    """A nats-server that lets everybody do everything; the test's own."""
    return start_nats()
