"""The table ``dead_letter``."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, false, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from sluice_stream.tables import dead_letter

__all__ = ["LetterStore", "Row"]

Row = dict[str, Any]

ADD = insert(dead_letter).on_conflict_do_nothing(index_elements=["id"])
PLACE = (dead_letter.c.at, dead_letter.c.id)
LISTED = tuple(dead_letter.c[name] for name in ("id", "at", "stream", "subject", "reason", "size"))


class LetterStore:
    """Dead letters. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, rows: Sequence[Row]) -> None:
        """Store letters but those that are there."""
        self._connection.execute(ADD, rows)

    def newest(self, after: UUID | None, limit: int, **narrowed: Any) -> Sequence[Row] | None:
        """Return the newest letters without their data, or those older than ``after``; None when there is no such.

        Parameters
        ----------
        narrowed
            ``stream``: its name; ``reason``: words in it; ``older``, ``younger``: ages; None: any.
        """
        statement = select(*LISTED).where(*_conditions(**narrowed))
        if after is not None:
            found = self._connection.execute(select(*PLACE).where(dead_letter.c.id == after)).one_or_none()
            if found is None:
                return None
            statement = statement.where(tuple_(*PLACE) < tuple_(*found))
        statement = statement.order_by(*(column.desc() for column in PLACE)).limit(limit)
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def get(self, key: UUID) -> Row | None:
        """Return one letter whole."""
        found = self._connection.execute(select(dead_letter).where(dead_letter.c.id == key)).mappings().one_or_none()
        return None if found is None else dict(found)

    def oldest(self, limit: int, **narrowed: Any) -> Sequence[UUID]:
        """Return the ids of the oldest letters, narrowed as in `newest`."""
        statement = select(dead_letter.c.id).where(*_conditions(**narrowed)).order_by(*PLACE).limit(limit)
        return self._connection.execute(statement).scalars().all()

    def delete(self, key: UUID) -> bool:
        """Delete one letter; return whether it was there."""
        return self._connection.execute(delete(dead_letter).where(dead_letter.c.id == key)).rowcount > 0

    def forget(self, age: timedelta, kept: int, most: int) -> int:
        """Delete letters that are older or beyond the number kept, at most so many at once; return how many."""
        old = select(dead_letter.c.id).where(dead_letter.c.at < func.now() - age)
        beyond = select(dead_letter.c.id).order_by(*(column.desc() for column in PLACE)).offset(kept)
        doomed = (old if age else old.where(false())).union(beyond).limit(most)
        return self._connection.execute(delete(dead_letter).where(dead_letter.c.id.in_(doomed))).rowcount


def _conditions(
    stream: str | None = None,
    reason: str | None = None,
    older: timedelta | None = None,
    younger: timedelta | None = None,
) -> list[ColumnElement[bool]]:
    found = []
    if stream is not None:
        found.append(dead_letter.c.stream == stream)
    if reason is not None:
        found.append(dead_letter.c.reason.icontains(reason, autoescape=True))
    if older is not None:
        found.append(dead_letter.c.at < func.now() - older)
    if younger is not None:
        found.append(dead_letter.c.at >= func.now() - younger)
    return found
