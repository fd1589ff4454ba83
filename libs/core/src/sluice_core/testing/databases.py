"""Databases for tests: a fresh one in a few hundredths of a second."""

import contextlib
import itertools
import secrets
from collections.abc import Iterator

from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from sluice_core.database import migrate
from sluice_core.database.provision import create_database
from sluice_core.testing.servers import PostgresServer

__all__ = ["Databases"]

ROLE = "sluice_test"


class Databases:
    """Databases of one server, owned by a role without rights beyond them, as in production."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._password = secrets.token_urlsafe(12)
        self._numbers = itertools.count(1)
        self._templates: dict[str, str] = {}

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """Make an empty database, give its URL, drop it at the end."""
        name = f"test_{next(self._numbers)}"
        url = create_database(self._admin_url, name, ROLE, self._password)
        try:
            yield url
        finally:
            self._drop(name)

    @contextlib.contextmanager
    def fresh(self, package: str) -> Iterator[str]:
        """Make a migrated, empty database of the service `package`, give its URL, drop it at the end.

        The migrations of a package run once a session, into the template of all its databases.
        """
        template = self._templates.get(package)
        if template is None:
            template = f"template_{package}"
            migrate(create_database(self._admin_url, template, ROLE, self._password), package)
            self._templates[package] = template
        name = f"test_{next(self._numbers)}"
        self._administrate(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{ROLE}"')
        url = make_url(self._admin_url).set(username=ROLE, password=self._password, database=name)
        try:
            yield url.render_as_string(hide_password=False)
        finally:
            self._drop(name)

    @property
    def _admin_url(self) -> str:
        if not self._server.running:  # a test that killed it has failed before it could restart it
            self._server.start()
        return self._server.admin_url

    def _drop(self, name: str) -> None:
        self._administrate(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _administrate(self, statement: str) -> None:
        engine = create_engine(self._admin_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
