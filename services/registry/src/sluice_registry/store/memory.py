"""The ``ai_memory`` table."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select

from sluice_core.retention import deletion
from sluice_registry.tables import ai_memory

__all__ = ["MemoryStore"]

SHOWN = ("role", "content", "created_at", "session_id")
ADD = insert(ai_memory).returning(ai_memory.c.id)
FORGET = deletion(ai_memory.c.id, ai_memory.c.created_at)


class MemoryStore:
    """Records of dialogues. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, record: Mapping[str, Any]) -> int:
        """Store a record and return its id."""
        number: int = self._connection.execute(ADD, record).scalar_one()
        return number

    def newest(self, username: str, namespace: str | None, limit: int, size: int) -> Sequence[dict[str, Any]]:
        """Return the newest records of a user, the newest first.

        Parameters
        ----------
        namespace
            None: of any and of none.
        limit
            How many at most.
        size
            Bytes of their contents together at most; the newest one is returned whatever its size.
        """
        columns = ai_memory.c
        order = (columns.created_at.desc(), columns.id.desc())
        length = func.octet_length(columns.content)
        behind = (func.sum(length).over(order_by=order) - length).label("behind")
        found = select(*(columns[name] for name in SHOWN), columns.id, behind).where(columns.username == username)
        if namespace is not None:
            found = found.where(columns.namespace == namespace)
        rows = found.order_by(*order).limit(limit).subquery()
        fitting = select(*(rows.c[name] for name in SHOWN)).where(rows.c.behind < size)
        result = self._connection.execute(fitting.order_by(rows.c.created_at.desc(), rows.c.id.desc()))
        return [dict(row) for row in result.mappings()]

    def forget(self, age: timedelta, most: int) -> int:
        """Delete records that are older, by the database's clock, at most so many; return how many."""
        return self._connection.execute(FORGET, {"age": age, "most": most}).rowcount
