"""Schema versions: migrate under a lock, refuse to run on an old schema.

The newest version is the name of the last file in ``migrations/versions`` (``0002_retention.py`` is version 0002). So a
database that is current needs no Alembic, which is a tenth of what a service takes to start.
"""

import zlib
from importlib import import_module
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from sluice_core.database.engine import Database

__all__ = ["SchemaOutdated", "migrate", "require_current"]

OLDEST_POSTGRESQL = 150000


class SchemaOutdated(Exception):
    """The database is not at the version that the program was written for."""


def migrate(url: str, package: str) -> None:
    """Bring a service's database to the newest version.

    Replicas may call it at the same time: an advisory lock lets one migrate while the others wait.

    Parameters
    ----------
    url
        SQLAlchemy URL of the service's database.
    package
        Import name of the service; its migrations lie in ``<package>/migrations``.

    Raises
    ------
    SchemaOutdated
        PostgreSQL is older than version 15.
    RuntimeError
        A migration is not named after its version.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    with engine.connect() as connection:
        version = connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
        if version < OLDEST_POSTGRESQL:
            raise SchemaOutdated(f"PostgreSQL {version // 10000} is too old; Sluice needs version 15 or newer")
        lock = {"key": zlib.crc32(f"migrate {package}".encode())}
        connection.execute(text("SELECT pg_advisory_lock(:key)"), lock)
        connection.commit()
        try:
            if _current(connection) != _newest(package):
                _upgrade(connection, package)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), lock)
            connection.commit()


def require_current(database: Database, package: str) -> None:
    """Refuse a database that is older or newer than the code.

    Raises
    ------
    SchemaOutdated
        The versions differ; the text says what to type.
    DatabaseAway
        PostgreSQL cannot be reached.
    """
    wanted = _newest(package)
    found = database.read(_current)
    if found != wanted:
        service = package.removeprefix("sluice_")
        raise SchemaOutdated(
            f"the {service} database is at version {found or 'none'}, this program needs {wanted}: "
            f"run `sluice migrate --service {service}` of this release"
        )


def _migrations(package: str) -> Path:
    return Path(import_module(package).__file__ or "").parent / "migrations"


def _newest(package: str) -> str | None:
    return max((file.name.partition("_")[0] for file in (_migrations(package) / "versions").glob("*.py")), default=None)


def _current(connection: Connection) -> str | None:
    """Return the version of the database, or None when nothing was ever migrated."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(connection: Connection, package: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_migrations(package)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    connection.rollback()
    command.upgrade(config, "head")
    if (found := _current(connection)) != _newest(package):
        raise RuntimeError(f"{package}: the last migration is version {found}, and its file is not named so")
