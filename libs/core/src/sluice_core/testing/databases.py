"""Databases for tests: a fresh one in a few hundredths of a second."""

import contextlib
import itertools
import secrets
from collections.abc import Iterator

from sqlalchemy import Engine, create_engine, make_url

from sluice_core.database import migrate
from sluice_core.database.provision import create_database
from sluice_core.testing.servers import PostgresServer

__all__ = ["Databases"]

ROLE = "sluice_test"


class Databases:
    """Databases of one server, owned by a role without rights beyond them, as in production.

    Each is a copy of a template that is made, and migrated, once a session.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._admin: Engine | None = None
        self._password = secrets.token_urlsafe(12)
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """Make an empty database, give its URL, drop it at the end."""
        with self._copy("template_empty", None) as url:
            yield url

    @contextlib.contextmanager
    def fresh(self, package: str) -> Iterator[str]:
        """Make a migrated, empty database of the service `package`, give its URL, drop it at the end."""
        with self._copy(f"template_{package}", package) as url:
            yield url

    def close(self) -> None:
        """Let go of the server."""
        if self._admin is not None:
            self._admin.dispose()

    @contextlib.contextmanager
    def _copy(self, template: str, package: str | None) -> Iterator[str]:
        if not self._server.running:  # a test that killed it has failed before it could restart it
            self._server.start()
        if template not in self._templates:
            url = create_database(self._server.admin_url, template, ROLE, self._password)
            if package is not None:
                migrate(url, package)
            self._templates.add(template)
        name = f"test_{next(self._numbers)}"
        self._administrate(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{ROLE}"')
        copy = make_url(self._server.admin_url).set(username=ROLE, password=self._password, database=name)
        try:
            yield copy.render_as_string(hide_password=False)
        finally:
            self._administrate(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _administrate(self, statement: str) -> None:
        if self._admin is None:
            url = self._server.admin_url
            self._admin = create_engine(url, pool_size=1, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)
