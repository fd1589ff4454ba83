"""Schema versions: migrate under a lock, refuse to run on an old schema."""

import zlib
from importlib import import_module
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
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
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        version = connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
        if version < OLDEST_POSTGRESQL:
            raise SchemaOutdated(f"PostgreSQL {version // 10000} is too old; Sluice needs version 15 or newer")
        lock = {"key": zlib.crc32(f"migrate {package}".encode())}
        connection.execute(text("SELECT pg_advisory_lock(:key)"), lock)
        connection.commit()
        try:
            config = _config(package)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
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
    wanted = ScriptDirectory.from_config(_config(package)).get_current_head()
    found = database.read(lambda connection: MigrationContext.configure(connection).get_current_revision())
    if found != wanted:
        service = package.removeprefix("sluice_")
        raise SchemaOutdated(
            f"the {service} database is at version {found or 'none'}, this program needs {wanted}: "
            f"run `sluice migrate --service {service}` of this release"
        )


def _config(package: str) -> Config:
    home = Path(import_module(package).__file__ or "").parent
    config = Config()
    config.set_main_option("script_location", str(home / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
