"""What tests do with a service's tables as a whole."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

__all__ = ["clear", "schema_differences"]


def clear(url: str, metadata: MetaData) -> None:
    """Delete all rows, which takes a fraction of the time of a new database."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


def schema_differences(url: str, metadata: MetaData) -> list[Any]:
    """Return what a migrated database has otherwise than a service's tables: types, defaults, indexes, constraints.

    Parameters
    ----------
    url
        Of the migrated database.
    metadata
        Of the tables.

    Returns
    -------
    list
        In Alembic's words; empty when they agree.
    """
    with create_engine(url, poolclass=NullPool).connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
