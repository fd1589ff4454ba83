"""The pytest fixtures of all packages: real servers, fresh databases, services in the test's own process."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

from sluice_core.testing import servers
from sluice_core.testing.databases import Databases
from sluice_core.testing.servers import NatsServer, PostgresServer, StartNats

# What services are made of takes a second to import, which tests of other packages need not wait for.
if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from sluice_core.testing.activemq import ActiveMq, Broker
    from sluice_core.testing.apps import AppMaker, Start
    from sluice_core.testing.tokens import Tokens

__all__: list[str] = []

T = TypeVar("T")


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


@pytest.fixture(scope="session")
def broker() -> "Iterator[Broker]":
    """An ActiveMQ that tests share: each takes destinations and client ids of its own."""
    from sluice_core.testing import activemq

    with activemq.here() as found:
        yield _there(found)


@pytest.fixture(scope="session")
def own_broker() -> "Iterator[ActiveMq]":
    """An ActiveMQ with TLS that tests may kill; one that does starts it again."""
    from sluice_core.testing import activemq

    with activemq.own() as found:
        # Nobody kills a broker that is not his.
        yield _there(found, elsewhere=activemq.is_elsewhere())


def _there(found: "T | None", *, elsewhere: bool = False) -> "T":
    if found is None:
        from sluice_core.testing import activemq

        required = os.environ.get(activemq.REQUIRED) and not elsewhere
        (pytest.fail if required else pytest.skip)(activemq.ABSENT)
    return found


@pytest.fixture(scope="session")
def tokens() -> "Tokens":
    """Tokens that the applications of `make_app` take."""
    from sluice_core.testing.tokens import Tokens

    return Tokens()


@pytest.fixture(scope="module")
def package() -> str:
    """Import name of the service under test; its ``conftest.py`` says which."""
    raise LookupError("conftest.py has no fixture `package`")


@pytest.fixture(scope="module")
def service_database(databases: Databases, package: str) -> Iterator[str]:
    """URL of the migrated database of the service under test, which the tests of a module share."""
    with databases.fresh(package) as url:
        yield url


@pytest.fixture
def make_app(package: str, service_database: str, tokens: "Tokens") -> "AppMaker":
    """Make an application of the service under test with settings of the test's choice; its database is empty."""
    from sluice_core.testing.apps import AppMaker

    return AppMaker(package, service_database, tokens)


@pytest.fixture
def start(make_app: "AppMaker") -> Iterator["Start"]:
    """Run an application of the service under test with settings of the test's choice."""
    from starlette.testclient import TestClient

    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(TestClient(make_app(**settings), follow_redirects=False))


@pytest.fixture
def client(start: "Start") -> "TestClient":
    """Client of the service under test with the default settings."""
    return start()
