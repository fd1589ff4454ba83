"""Tags beside what their resources do: history, definitions, and those with the same parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_pcs.tables import param_def, physics_category, tag_change

__all__ = ["CategoryStore", "DefinitionStore", "TagStore"]

Row = dict[str, Any]
_FOUND = [tag_change.c[name] for name in ("id", "action", "by", "at", "before", "after")]


class TagStore:
    """The tags of one kind. Never commits.

    Parameters
    ----------
    letter
        Of the kind.
    resource
        Their resource.
    """

    def __init__(self, letter: str, resource: Resource) -> None:
        self._letter = letter
        self._table = resource.table
        self._rows = ResourceStore(resource)

    def get(self, connection: Connection, number: int, *, lock: bool = False) -> Row | None:
        """Return a tag; with ``lock`` nobody else changes it until the transaction ends."""
        return self._rows.get(connection, number, lock=lock)

    def insert(self, connection: Connection, values: Mapping[str, Any]) -> Row:
        """Store a new tag."""
        return self._rows.insert(connection, values)

    def lock(self, connection: Connection, number: int) -> Row:
        """Make a draft unchangeable for ever."""
        row = self._rows.update(connection, number, {"status": "locked"})
        assert row is not None
        return row

    def delete(self, connection: Connection, number: int) -> bool:
        """Remove a draft; False when a data set refers to it."""
        try:
            with connection.begin_nested():
                self._rows.delete(connection, number)
        except IntegrityError:
            return False
        return True

    def like(self, connection: Connection, parameters: Mapping[str, Any], category: int | None = None) -> Row | None:
        """Return the first tag with exactly these parameters, in a category if one is given."""
        columns = self._table.c
        alike = columns.parameters.contains(parameters)  # which an index answers
        same = select(self._table).where(alike, columns.parameters == parameters)
        if category is not None:
            same = same.where(columns.category == category)
        found = connection.execute(same.order_by(columns.tag_number).limit(1)).mappings().first()
        return None if found is None else dict(found)

    def all(self, connection: Connection) -> list[Row]:
        """Return all tags of the kind by number."""
        found = connection.execute(select(self._table).order_by(self._table.c.tag_number))
        return [dict(row) for row in found.mappings()]

    def was_given(self, connection: Connection, number: int) -> bool:
        """Whether a tag has, or had, this number."""
        query = select(tag_change.c.id).where(tag_change.c.kind == self._letter, tag_change.c.tag_number == number)
        return connection.execute(query.limit(1)).first() is not None

    def highest(self, connection: Connection, modulo: int | None = None) -> int:
        """Return the highest number that was ever given, or the highest remainder; 0 without any."""
        found = []
        for table, where in ((self._table, []), (tag_change, [tag_change.c.kind == self._letter])):
            number = table.c.tag_number if modulo is None else table.c.tag_number % modulo
            found.append(connection.execute(select(func.max(number)).where(*where)).scalar() or 0)
        return max(found)

    def record(self, connection: Connection, action: str, by: str, before: Row | None, after: Row | None) -> None:
        """Add to the history of a tag."""
        row = after or before
        assert row is not None
        connection.execute(
            insert(tag_change),
            {
                "kind": self._letter,
                "tag_number": row["tag_number"],
                "action": action,
                "by": by,
                "before": before,
                "after": after,
            },
        )

    def changes(self, connection: Connection, number: int, after: int, limit: int) -> Sequence[Row]:
        """Return the history of a tag, oldest first, from behind a change on; also of one that is deleted."""
        where = (tag_change.c.kind == self._letter, tag_change.c.tag_number == number, tag_change.c.id > after)
        found = connection.execute(select(*_FOUND).where(*where).order_by(tag_change.c.id).limit(limit))
        return [dict(row) for row in found.mappings()]


class CategoryStore:
    """The ``physics_category`` table. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hold(self) -> None:
        """Let nobody else make or change a category until the transaction ends."""
        self._connection.execute(text("LOCK TABLE physics_category IN SHARE ROW EXCLUSIVE MODE"))

    def exists(self, digit: int) -> bool:
        """Whether there is such a category."""
        query = select(physics_category.c.digit).where(physics_category.c.digit == digit)
        return self._connection.execute(query).first() is not None

    def all(self) -> list[Row]:
        """Return all categories by digit."""
        found = self._connection.execute(select(physics_category).order_by(physics_category.c.digit))
        return [dict(row) for row in found.mappings()]

    def add(self, values: Mapping[str, Any]) -> Row:
        """Store a category and return it."""
        statement = insert(physics_category).values(dict(values)).returning(*physics_category.c)
        return dict(self._connection.execute(statement).mappings().one())


class DefinitionStore:
    """The ``param_def`` table. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, letter: str) -> list[Row] | None:
        """Return the definitions of a kind; None where nobody has changed the built-in ones."""
        query = select(param_def.c.defs).where(param_def.c.kind == letter)
        found: list[Row] | None = self._connection.execute(query).scalar()
        return found

    def put(self, letter: str, defs: list[Row], by: str) -> None:
        """Replace the definitions of a kind."""
        new = {"defs": defs, "updated_by": by, "updated_at": func.now()}
        statement = upsert(param_def).values(kind=letter, **new)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["kind"], set_=new))
