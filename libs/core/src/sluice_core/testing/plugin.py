"""The pytest fixtures of all packages: real servers, fresh databases."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice_core.testing import servers
from sluice_core.testing.databases import Databases
from sluice_core.testing.servers import NatsServer, PostgresServer, StartNats

__all__: list[str] = []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of the session; a test that kills it starts it again."""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which would keep it
        server = servers.postgres(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> Databases:
    """Databases as context managers, for fixtures that live longer than a test."""
    return Databases(postgres_server)


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

        def start(authorization: str = "") -> NatsServer:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            server = servers.nats(Path(folder), authorization)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def nats_server(start_nats: StartNats) -> NatsServer:
    """A nats-server that lets everybody do everything; the test's own."""
    return start_nats()
