"""One door over the test-only resources, on a real PostgreSQL that the tests of a module share."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from starlette.types import Receive, Scope, Send

from sluice_core.auth import Identity, Refused
from sluice_core.database import Database
from sluice_core.rest import Door, Endpoint
from sluice_core.testing import Databases

from . import widgets
from .wire import Caller, Loop

NEW_YORK = "America/New_York"
NUMBERS = itertools.count(1)
CALLERS = {
    "ada": Identity("ada", frozenset({"widgets:write"}), "1"),
    "bob": Identity("bob", frozenset(), "2"),
    "root": Identity("root", frozenset({"admin"}), "3"),
    "nina": Identity("nina", frozenset({"widgets:write"}), "4", frozenset({"n1", "n2"})),
}


class Doorman:
    """Knows the callers above; what a real one makes of headers has tests of its own."""

    async def identify(self, scope: Scope, *, only: str | None = None) -> Identity | None:
        credential = None if only == "session" else dict(scope["headers"]).get(b"authorization")
        if credential is None:
            return None
        try:
            return CALLERS[credential.decode().removeprefix("Token ")]
        except KeyError:
            raise Refused("Invalid token.") from None


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """Whatever the door stands before."""
    await send({"type": "http.response.start", "status": 418, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{scope['method']} {scope['path']}".encode()})


@dataclass(frozen=True)
class World:
    """A door, who may call it, and the database behind it for the things a client cannot do."""

    api: Caller
    database: Database
    engine: sa.Engine

    @property
    def anonymous(self) -> Caller:
        return self.api.with_token(None)

    def sql(self, statement: str | sa.Executable, **values: Any) -> Any:
        """Run a statement on a connection of the test's own; return its rows."""
        with self.engine.begin() as connection:
            if isinstance(statement, str):
                statement = sa.text(statement)
            result = connection.execute(statement, values)
            return result.all() if result.returns_rows else None

    def part(self, name: str | None = None) -> int:
        """Store a part; return its key."""
        name = name or f"part {next(NUMBERS)}"
        key: int = self.sql(widgets.part.insert().returning(widgets.part.c.id), part_name=name)[0][0]
        return key

    def crate(self) -> UUID:
        """Store a crate; return its key."""
        key = uuid4()
        self.sql(widgets.crate.insert(), crate_id=key, colour="red")
        return key

    def body(self, **given: Any) -> dict[str, Any]:
        """Return a body with the required keys of a widget; ``given`` wins, its part is stored when absent."""
        required = {
            "widget_name": f"widget {next(NUMBERS)}",
            "owner": "ada",
            "kind": "bolt",
            "amount": 3,
            "started_at": "2026-05-05T10:00:00Z",
            "payload": {"a": 1},
        }
        if "part" not in given:
            given["part"] = self.part()
        return required | given

    def widget(self, **given: Any) -> dict[str, Any]:
        """Create a widget over HTTP; return it as it was answered."""
        answer = self.api.post("/api/widgets/", json=self.body(**given))
        assert answer.status == 201, answer
        created: dict[str, Any] = answer.json()
        return created

    def count(self, table: sa.Table = widgets.widget) -> int:
        rows: int = self.sql(sa.select(sa.func.count()).select_from(table))[0][0]
        return rows


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(databases: Databases) -> Iterator[str]:
    with databases.empty() as made:
        yield made


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(url)
    widgets.metadata.create_all(made)
    yield made
    made.dispose()


@contextmanager
def opened(
    loop: Loop,
    url: str,
    engine: sa.Engine,
    *,
    zone: str = "UTC",
    anonymous_read: bool = True,
    root_path: str = "",
    endpoints: Sequence[Endpoint] = (),
) -> Iterator[World]:
    database = Database(url, pool_size=4, timezone=zone, application_name="rest-tests")
    door = Door(
        inner,
        database=database,
        resources=widgets.RESOURCES,
        endpoints=endpoints,
        authenticator=Doorman(),
        zone=ZoneInfo(zone),
        anonymous_read=anonymous_read,
    )
    caller = Caller(loop, door, token="ada", root_path=root_path)
    try:
        yield World(caller, database, engine)
    finally:
        database.close()


@pytest.fixture(scope="module")
def world(loop: Loop, url: str, engine: sa.Engine) -> Iterator[World]:
    """The door as it stands by default: UTC, reads open."""
    with opened(loop, url, engine) as made:
        yield made


@pytest.fixture(scope="module")
def closed_world(loop: Loop, url: str, engine: sa.Engine) -> Iterator[World]:
    """The door where reads are not open."""
    with opened(loop, url, engine, anonymous_read=False) as made:
        yield made


@pytest.fixture(scope="module")
def new_york(loop: Loop, url: str, engine: sa.Engine) -> Iterator[World]:
    """The door of a server in another time zone."""
    with opened(loop, url, engine, zone=NEW_YORK) as made:
        yield made


@pytest.fixture
def api(world: World) -> Caller:
    return world.api


@pytest.fixture
def anonymous(world: World) -> Caller:
    return world.anonymous


@pytest.fixture(autouse=True)
def empty(engine: sa.Engine) -> None:
    """Every test starts with no rows."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "; ".join(f"DELETE FROM {table}" for table in reversed(widgets.metadata.sorted_tables))
        )
