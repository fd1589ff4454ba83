"""The servers that a benchmark needs, as production has them: commits and acknowledgements wait for their fsync."""

import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psycopg2
import psycopg2.extensions

from sluice_core.database import migrate
from sluice_core.database.provision import create_database
from sluice_core.logging import configure_logging
from sluice_embedded import Nats, Postgres
from tests.integration.platforms import Serve

__all__ = ["Baseline", "Platform", "end_properly", "started"]


class Baseline(Serve):
    """An application of `tests.load._baselines` as a process of its own, served as a service is."""

    def _command(self) -> list[str | Path]:
        return [sys.executable, "-m", "tests.load._baselines", self.service]


class Platform:
    """PostgreSQL and NATS of this run alone.

    Attributes
    ----------
    token
        An admin token that every registry of this run knows.
    nats_url
        Where NATS is.
    """

    def __init__(self, folder: Path, postgres: Postgres, nats: Nats) -> None:
        self._folder = folder
        self._postgres = postgres
        self.nats_url = nats.url()
        self.token = secrets.token_hex(20)

    def database(self, name: str, package: str) -> str:
        """Make a database of a service with a role of its own, and bring it to the newest version; return its URL."""
        url = create_database(self._postgres.admin_url, name, name, secrets.token_urlsafe(12))
        migrate(url, package)
        return url

    def connect(self, database: str) -> psycopg2.extensions.connection:
        """Connect as administrator; each statement is a transaction."""
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self._postgres.port,
            user="postgres",
            password=self._postgres.password,
            dbname=database,
        )
        connection.autocommit = True
        return connection

    def sql(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as administrator; rows, where it has some."""
        with closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def service(self, name: str, url: str, **environment: str) -> Serve:
        """Run a service; as a context manager.

        Parameters
        ----------
        name
            Such as ``registry``.
        url
            Of its database.
        environment
            More of its settings, without ``SLUICE_<NAME>_``.
        """
        settings = {f"SLUICE_{name}_{key}".upper(): value for key, value in environment.items()}
        return Serve(name, self._folder, database_url=url, nats_url=self.nats_url, **settings)

    def baseline(self, name: str, url: str = "") -> Baseline:
        """Run a baseline; as a context manager."""
        return Baseline(name, self._folder, database_url=url, nats_url=self.nats_url)


@contextmanager
def started() -> Iterator[Platform]:
    """Run the servers in a folder that is removed at the end."""
    end_properly()
    configure_logging("warning")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with Postgres(folder / "postgres") as postgres, Nats(folder / "nats") as nats:
            yield Platform(folder, postgres, nats)


def end_properly() -> None:
    """Let SIGTERM unwind the stack, so that all that was started ends with us."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit("terminated")
