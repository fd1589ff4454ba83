"""The table ``audit``."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from sluice_core.database import recordset
from sluice_core.retention import deletion
from sluice_registry.tables import audit

__all__ = ["AuditStore", "Row"]

Row = dict[str, Any]

SHOWN = tuple(column.label("user") if column.name == "username" else column for column in audit.c)
ADD = (
    insert(audit)
    .from_select([each.name for each in audit.c], select(recordset(audit.c)))
    .on_conflict_do_nothing(index_elements=["id"])
)
PLACE = (audit.c.at, audit.c.id)
FORGET = deletion(audit.c.id, audit.c.at)


class AuditStore:
    """Audit records. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, rows: Sequence[Row]) -> None:
        """Store records but those that are there."""
        self._connection.execute(ADD, {"rows": rows})

    def newest(
        self,
        after: UUID | None,
        limit: int,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **equal: str | None,
    ) -> Sequence[Row] | None:
        """Return the newest records, or those older than the one with the id ``after``; None when there is no such.

        Parameters
        ----------
        since, until
            The first instant, and the first one that is too late.
        equal
            Values of columns; None: any.
        """
        wanted = {name: value for name, value in equal.items() if value is not None}
        statement = select(*SHOWN).where(*(audit.c[name] == value for name, value in wanted.items()))
        if since is not None:
            statement = statement.where(audit.c.at >= since)
        if until is not None:
            statement = statement.where(audit.c.at < until)
        if after is not None:
            found = self._connection.execute(select(*PLACE).where(audit.c.id == after)).one_or_none()
            if found is None:
                return None
            statement = statement.where(tuple_(*PLACE) < tuple_(*found))
        statement = statement.order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def forget(self, age: timedelta, most: int) -> int:
        """Delete records that are older, by the database's clock, at most so many; return how many."""
        return self._connection.execute(FORGET, {"age": age, "most": most}).rowcount
