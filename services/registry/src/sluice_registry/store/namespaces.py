"""The ``namespace`` table."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from sluice_registry.tables import namespace

__all__ = ["NamespaceStore"]

Row = dict[str, Any]


class NamespaceStore:
    """Namespaces by name. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, name: str, owner: str, description: str) -> Row | None:
        """Store a namespace and return it; None when there is one of this name, which stays as it is."""
        statement = insert(namespace).values(name=name, owner=owner, description=description)
        return self._one(statement.on_conflict_do_nothing(index_elements=["name"]).returning(*namespace.c))

    def get(self, name: str) -> Row | None:
        """Return a namespace."""
        return self._one(select(namespace).where(namespace.c.name == name))

    def change(self, name: str, values: Mapping[str, Any]) -> Row | None:
        """Write some columns of a namespace and return it; None when there is none."""
        statement = update(namespace).where(namespace.c.name == name)
        return self._one(statement.values(**values, updated_at=func.now()).returning(*namespace.c))

    def after(self, name: str, limit: int) -> Sequence[Row]:
        """Return namespaces in the order of their names, from the first one behind ``name`` on."""
        statement = select(namespace).where(namespace.c.name > name).order_by(namespace.c.name).limit(limit)
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def _one(self, statement: Any) -> Row | None:
        row = self._connection.execute(statement).mappings().one_or_none()
        return None if row is None else dict(row)
