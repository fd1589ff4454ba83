"""The service's application; its database is empty at the start of each test, locked tags included."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from starlette.testclient import TestClient

from sluice_core.testing.apps import AppMaker
from sluice_core.testing.tokens import Tokens
from sluice_pcs.tables import tags


@pytest.fixture(scope="session")
def package() -> str:
    return "sluice_pcs"


def unlock(url: str) -> None:
    """Forget all tags: what no statement of the service can do, the owner of the tables can."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for each in ("task_output", "attempt", "prod_task", "dataset", "physics_config"):
            connection.execute(text(f"DELETE FROM {each}"))
        for table in tags.values():
            connection.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER keep_locked"))
            connection.execute(text(f"DELETE FROM {table.name}"))
            connection.execute(text(f"ALTER TABLE {table.name} ENABLE TRIGGER keep_locked"))


@pytest.fixture
def make_app(package: str, service_database: str, tokens: Tokens) -> AppMaker:
    unlock(service_database)
    return AppMaker(package, service_database, tokens)


@pytest.fixture
def ada(client: TestClient, tokens: Tokens) -> TestClient:
    """A client with the rights of somebody who works on configurations."""
    client.headers.update(tokens.header("pcs:write", "pcs:lock"))
    return client
