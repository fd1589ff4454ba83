"""The ``counter`` table."""

from sqlalchemy import Connection, bindparam, func
from sqlalchemy.dialects.postgresql import insert

from sluice_registry.tables import counter

__all__ = ["CounterStore"]

_NEW = insert(counter).values(name=bindparam("name"), next=bindparam("first") + 1, last_taken_at=func.now())
TAKE = _NEW.on_conflict_do_update(
    index_elements=["name"], set_={"next": counter.c.next + 1, "last_taken_at": func.now()}
).returning(counter.c.next - 1)


class CounterStore:
    """Counters by name. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, name: str, first: int) -> int:
        """Return the next number; ``first`` where none was taken yet. Others wait until the transaction ends."""
        number: int = self._connection.execute(TAKE, {"name": name, "first": first}).scalar_one()
        return number
