"""The ``counter`` table: numbers that rise by one, and go back when their transaction does."""

from sqlalchemy import Connection, bindparam, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import insert

from sluice_pcs.tables import counter

__all__ = ["Numbers"]

_NEW = insert(counter).values(name=bindparam("name"), next=2)
TAKE = _NEW.on_conflict_do_update(index_elements=["name"], set_={"next": counter.c.next + 1}).returning(
    counter.c.next - 1
)
# Counters never go back, so numbers of deleted tags stay used.
RAISE = (
    insert(counter)
    .values(name=bindparam("name"), next=bindparam("least"))
    .on_conflict_do_update(
        index_elements=["name"], set_={"next": func.greatest(counter.c.next, literal_column("excluded.next"))}
    )
    .returning(counter.c.next)
)
PEEK = select(counter.c.next).where(counter.c.name == bindparam("name"))
FREE = text(
    """
    SELECT min(number) FROM generate_series(:first, :last) AS number
    WHERE NOT EXISTS (SELECT FROM physics_tag WHERE physics_tag.tag_number = number)
    AND NOT EXISTS (SELECT FROM tag_change WHERE tag_change.kind = 'p' AND tag_change.tag_number = number)
    """
)


class Numbers:
    """Numbers of tags. Never commits; others who want a number of the same kind wait for the transaction to end.

    Parameters
    ----------
    connection
        In the transaction that stores what gets the number.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, name: str) -> int:
        """Return the next number, 1 at first."""
        number: int = self._connection.execute(TAKE, {"name": name}).scalar_one()
        return number

    def at_least(self, name: str, least: int = 1) -> int:
        """Let the next number be no smaller than this; return it, locked."""
        number: int = self._connection.execute(RAISE, {"name": name, "least": least}).scalar_one()
        return number

    def next(self, name: str) -> int:
        """Return the number that would come next, without locking it."""
        number: int | None = self._connection.execute(PEEK, {"name": name}).scalar()
        return number or 1

    def free(self, first: int, last: int) -> int | None:
        """Return the smallest number between two that no physics tag ever had; None when there is none."""
        number: int | None = self._connection.execute(FREE, {"first": first, "last": last}).scalar()
        return number
