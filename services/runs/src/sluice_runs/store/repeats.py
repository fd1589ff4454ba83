"""Requests with an ``Idempotency-Key`` (decision 16). Never commits; whoever opened the connection does."""

from datetime import timedelta

from sqlalchemy import Connection, delete, func, insert, select

from sluice_runs.tables import repeat

__all__ = ["find", "forget", "remember"]

_c = repeat.c


def find(connection: Connection, caller: str, path: str, key: str) -> str | None:
    """Return the key of the row that this very request has made or changed."""
    found = select(_c.row_key).where(_c.caller == caller, _c.path == path, _c.key == key)
    return connection.execute(found).scalar()


def remember(connection: Connection, caller: str, path: str, key: str, row_key: str) -> None:
    """Note what a request does, in its transaction.

    Raises
    ------
    sqlalchemy.exc.IntegrityError
        It is done already, or at the same time.
    """
    connection.execute(insert(repeat).values(caller=caller, path=path, key=key, row_key=row_key))


def forget(connection: Connection, age: timedelta) -> None:
    """Forget requests that are older; nobody sends them again."""
    connection.execute(delete(repeat).where(_c.at < func.now() - age))
