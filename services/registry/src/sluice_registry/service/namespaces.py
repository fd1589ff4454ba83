"""Namespaces: who owns them, and what they are for (contract 4.3)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from sluice_core.database import Database
from sluice_registry.errors import NamespaceUnknown
from sluice_registry.store.namespaces import NamespaceStore, Row

__all__ = ["Ensured", "Namespaces"]


class Ensured(NamedTuple):
    """A namespace that is there now, and whether it is new."""

    row: Row
    created: bool


class Namespaces:
    """What can be done with namespaces; every method raises `DatabaseAway` when PostgreSQL cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, name: str, owner: str, description: str) -> Ensured:
        """Return a namespace, made anew when there is none of this name; one that exists stays as it is."""

        def work(connection: Connection) -> Ensured:
            store = NamespaceStore(connection)
            if row := store.add(name, owner, description):
                return Ensured(row, True)
            row = store.get(name)
            assert row is not None, "namespaces are never deleted"
            return Ensured(row, False)

        return await self._database.run(lambda: self._database.transact(work))

    async def get(self, name: str) -> Row:
        """Return a namespace.

        Raises
        ------
        NamespaceUnknown
            There is none of this name.
        """
        row = await self._database.run(
            lambda: self._database.read(lambda connection: NamespaceStore(connection).get(name))
        )
        return _found(row, name)

    async def change(self, name: str, values: Mapping[str, Any]) -> Row:
        """Write some of ``owner``, ``description`` and ``metadata``, and leave the rest alone.

        Raises
        ------
        NamespaceUnknown
            There is none of this name.
        """
        row = await self._database.run(
            lambda: self._database.transact(lambda connection: NamespaceStore(connection).change(name, values))
        )
        return _found(row, name)

    async def after(self, name: str, limit: int) -> Sequence[Row]:
        """Return namespaces in the order of their names, from the first one behind ``name`` on."""
        return await self._database.run(
            lambda: self._database.read(lambda connection: NamespaceStore(connection).after(name, limit))
        )


def _found(row: Row | None, name: str) -> Row:
    if row is None:
        raise NamespaceUnknown(f"There is no namespace {name!r}.")
    return row
