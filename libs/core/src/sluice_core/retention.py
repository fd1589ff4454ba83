"""Rows leave their table at an age: some at a time, from time to time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, Delete, bindparam, delete, func, select, tuple_

from sluice_core.database import Database, DatabaseAway

__all__ = ["BATCH", "deletion", "regularly"]

BATCH = 1000
"""Rows of one deletion, so that none holds its locks for long."""
EVERY = timedelta(minutes=10)


def deletion(key: Column[Any] | tuple[Column[Any], ...], at: Column[Any]) -> Delete:
    """Return the statement that deletes the oldest rows beyond the parameter ``age``, at most ``most`` of them.

    Parameters
    ----------
    key
        Primary key; all of its columns.
    at
        When a row began to age; compared with the database's clock.
    """
    columns = key if isinstance(key, tuple) else (key,)
    # What another replica is deleting is left to it.
    old = select(*columns).where(at < func.now() - bindparam("age")).order_by(at).limit(bindparam("most"))
    return delete(at.table).where(tuple_(*columns).in_(old.with_for_update(skip_locked=True)))


async def regularly(database: Database, forget: Callable[[], int]) -> None:
    """Delete what is too old from time to time, for ever; a long-lived task.

    Parameters
    ----------
    forget
        Deletes up to `BATCH` rows and returns how many; blocks.
    """
    while True:
        with suppress(DatabaseAway):
            while await database.run(forget) == BATCH:
                pass
        await asyncio.sleep(EVERY.total_seconds())
