"""Rows leave their table at an age: some at a time, from time to time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, Delete, bindparam, delete, func, select

from sluice_core.database import Database, DatabaseAway

__all__ = ["BATCH", "deletion", "regularly"]

BATCH = 1000
"""Rows of one deletion, so that none holds its locks for long."""
EVERY = timedelta(minutes=10)


def deletion(key: Column[Any], at: Column[Any]) -> Delete:
    """Return the statement that deletes the oldest rows beyond the parameter ``age``, at most ``most`` of them.

    Parameters
    ----------
    key
        Primary key.
    at
        When a row began to age; compared with the database's clock.
    """
    # What another replica is deleting is left to it.
    old = select(key).where(at < func.now() - bindparam("age")).order_by(at).limit(bindparam("most"))
    return delete(key.table).where(key.in_(old.with_for_update(skip_locked=True)))


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
