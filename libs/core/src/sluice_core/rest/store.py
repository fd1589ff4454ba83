"""The only place of the rest layer with SQL: one resource's rows."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import Text as SqlText
from sqlalchemy import literal as sql_literal

from sluice_core.rest.fields import DateTime, Derived, Field, ForeignKey, Json, Text, whole_minutes
from sluice_core.rest.resource import Resource, Row

__all__ = ["Page", "ResourceStore"]

Errors = dict[str, list[str]]
# By then the last country had given up local mean time.
WHOLE_OFFSETS = 1973
# Bytes of a value that a page holds in any case. What is longer is counted first, as it may have megabytes.
SHORT = 1000


class Page(NamedTuple):
    """Rows in a resource's order, whether more come after them, and by key what orders them beside their fields."""

    rows: list[Row]
    more: bool
    hidden: dict[Any, tuple[Any, ...]]


class ResourceStore:
    """Statements of one resource, built once.

    Never commits; whoever opened the connection does.
    """

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        table = resource.table
        self._key: ColumnElement[Any] = table.c[resource.field(resource.key).column]
        self.names = tuple(each.name for each in resource.fields)
        # A relation that is sent by another field than the key is looked up in the same statement.
        self._columns = [self._read(each).label(each.name) for each in resource.fields]
        self._moments = tuple(each.name for each in resource.fields if isinstance(each, DateTime))
        self._auto = {each.column: each.auto for each in resource.fields if each.auto}
        self.slugs = {
            each.column: each
            for each in resource.fields
            if isinstance(each, ForeignKey) and each.slug and each.writable
        }
        long = {each.name: table.c[each.column] for each in resource.fields if _unbounded(each)}
        self._long = tuple(long)
        self._sized = [
            case((_is_long(long[column.name]), null()), else_=long[column.name]).label(column.name)
            if column.name in long
            else column
            for column in self._columns
        ]
        self._hidden = [table.c[each.column] for each, _ in resource.sorting if each.name not in resource.by_name]
        self._sized += (each.label(f"_{each.name}") for each in self._hidden)
        lengths = (case((_is_long(each), func.octet_length(each.cast(SqlText))), else_=0) for each in long.values())
        self._sized.append(sum(lengths, start=sql_literal(0)).label("_bytes"))
        self._whole = select(self._key, *long.values()).where(self._key.in_(bindparam("_keys", expanding=True)))
        self._get = select(*self._columns).where(self._key == bindparam("_key"))
        self._lock = self._get.with_for_update(of=table)
        self._delete = delete(table).where(self._key == bindparam("_key")).returning(*self._columns)
        self._having = lru_cache(8)(self._build_having)
        self._insert = lru_cache(8)(self._build_insert)
        self._update = lru_cache(256)(self._build_update)

    def get(self, connection: Connection, key: Any, *, lock: bool = False) -> Row | None:
        """Return one row; with ``lock`` nobody else changes it until the transaction ends."""
        return self._one(connection, self._lock if lock else self._get, {"_key": key})

    def having(self, connection: Connection, column: str, value: Any) -> Row | None:
        """Return the row with a value of a column that no two rows share."""
        return self._one(connection, self._having(column), {"_value": value})

    def insert(self, connection: Connection, values: Mapping[str, Any]) -> Row:
        """Store a new row and return it.

        Raises
        ------
        sqlalchemy.exc.IntegrityError
            A unique value is taken, or a relation leads nowhere.
        """
        row = self._one(connection, self._insert(tuple(values)), values)
        assert row is not None
        return row

    def update(self, connection: Connection, key: Any, values: Mapping[str, Any]) -> Row | None:
        """Write the given columns, no others, and return the row; None if it is gone."""
        statement = self._update(tuple(values))
        if statement is None:
            return self.get(connection, key)
        return self._one(connection, statement, {**values, "_key": key})

    def delete(self, connection: Connection, key: Any) -> Row | None:
        """Remove one row, and what the table's constraints remove with it; return what it was."""
        return self._one(connection, self._delete, {"_key": key})

    def page(
        self,
        connection: Connection,
        where: Sequence[ColumnElement[bool]],
        limit: int,
        most_bytes: int,
        *,
        after: Sequence[Any] | None = None,
        backwards: bool = False,
    ) -> Page:
        """Return rows in the resource's order.

        Parameters
        ----------
        where
            Conditions.
        limit
            How many at the most.
        most_bytes
            Of long values, such as messages of megabytes; the row with which there are so many is the last one.
        after
            Values of the order's fields; rows beyond them.
        backwards
            Go against the order: the rows nearest to ``after`` on its other side, nearest first.
        """
        order = [(self.resource.table.c[each.column], down != backwards) for each, down in self.resource.sorting]
        statement = select(*self._sized).where(*where)
        if after is not None:
            statement = statement.where(_beyond(order, after))
        statement = statement.order_by(*(column.desc() if down else column.asc() for column, down in order))
        # One more, to see whether there is one.
        found = connection.execute(statement.limit(limit + 1)).all()
        rows: list[Row] = []
        incomplete: dict[Any, Row] = {}
        hidden: dict[Any, tuple[Any, ...]] = {}
        size = 0
        for values in found[:limit]:
            row = self._row(values)
            rows.append(row)
            if self._hidden:
                hidden[row[self.resource.key]] = tuple(values[len(self.names) : -1])
            if length := values[-1]:
                incomplete[row[self.resource.key]] = row
                size += length
                if size >= most_bytes:
                    break
        more = len(found) > len(rows)
        if incomplete:
            for key, *long in connection.execute(self._whole, {"_keys": list(incomplete)}):
                incomplete.pop(key).update(zip(self._long, long, strict=True))
            if incomplete:
                # Deleted meanwhile, so it is no part of the list.
                rows = [row for row in rows if row[self.resource.key] not in incomplete]
                if more and not rows:
                    return self.page(connection, where, limit, most_bytes, after=after, backwards=backwards)
        return Page(rows, more, hidden)

    def rows(
        self,
        connection: Connection,
        where: Sequence[ColumnElement[bool]],
        order: Sequence[ColumnElement[Any]],
        limit: int,
    ) -> list[Row]:
        """Return rows in any order, ``limit`` at the most."""
        statement = select(*self._columns).where(*where).order_by(*order).limit(limit)
        return [self._row(values) for values in connection.execute(statement)]

    def up_to_newest(self, connection: Connection) -> ColumnElement[bool]:
        """Return the condition that leaves out rows with a key beyond the newest one of now."""
        newest = connection.execute(select(self._key).order_by(self._key.desc()).limit(1)).scalar()
        return self._key <= newest

    def count(self, connection: Connection, where: Sequence[ColumnElement[bool]]) -> int:
        """Count the rows that satisfy the conditions."""
        return connection.execute(select(func.count()).select_from(self.resource.table).where(*where)).scalar_one()

    def objections(
        self,
        connection: Connection,
        values: Mapping[str, Any],
        given: Mapping[str, Any],
        key: Any = None,
        *,
        together: bool = True,
    ) -> Errors:
        """Say which of the values the rows of this and other tables forbid (contract 2.6).

        Parameters
        ----------
        values
            Columns about to be written.
        given
            What the client sent, for the messages.
        key
            The row about to be changed, which does not stand in its own way.
        together
            Look at what is unique together as well; of no use while some values are wrong.
        """
        table, resource = self.resource.table, self.resource
        others = [] if key is None else [self._key != key]
        errors: Errors = {}
        for each in resource.fields:
            value = values.get(each.column)
            if value is None:
                continue
            taken = [table.c[each.column] == value, *others]
            if each.unique and self._exists(connection, table, taken):
                name = each.name.replace("_", " ")
                errors[each.name] = [f"{resource.label} with this {name} already exists."]
            elif isinstance(each, ForeignKey) and each.writable:
                target = each.to.table
                if not self._exists(connection, target, [target.c[each.target.column] == value]):
                    errors[each.name] = [each.absent(given.get(each.name, value))]
        if errors or not together:
            return errors
        for group in resource.unique_together:
            row = {} if key is None else self._stored(connection, key)
            members = [
                (
                    self._slug_of(each) if isinstance(each, ForeignKey) and each.slug else table.c[each.column],
                    values.get(each.column, row.get(each.name)),
                )
                for each in map(resource.field, group)
            ]
            if any(value is None for _, value in members):
                continue
            same = [column == value for column, value in members]
            if self._exists(connection, table, [*same, *others]):
                text = f"The fields {', '.join(group)} must make a unique set."
                errors.setdefault("non_field_errors", []).append(text)
        return errors

    def _stored(self, connection: Connection, key: Any) -> Row:
        return self.get(connection, key) or {}

    def _exists(self, connection: Connection, table: Table, where: Sequence[ColumnElement[bool]]) -> bool:
        query = select(sql_literal(1)).select_from(table).where(*where).limit(1)
        return connection.execute(query).first() is not None

    def _one(self, connection: Connection, statement: Executable, values: Mapping[str, Any]) -> Row | None:
        row = connection.execute(statement, values).first()
        return None if row is None else self._row(row)

    def _row(self, values: Sequence[Any]) -> Row:
        # What comes after the fields is no part of the row.
        row = dict(zip(self.names, values, strict=False))
        for name in self._moments:
            if row[name] is not None and row[name].year < WHOLE_OFFSETS:
                row[name] = whole_minutes(row[name])
        return row

    def _read(self, field: Field) -> ColumnElement[Any]:
        if isinstance(field, Derived):
            return literal_column(field.sql)
        if isinstance(field, ForeignKey) and field.slug:
            return self._slug_of(field)
        return self.resource.table.c[field.column]

    def _slug_of(self, field: ForeignKey) -> ColumnElement[Any]:
        target = field.to.table.alias()
        key = target.c[field.to.field(field.to.key).column]
        # Spelled out, as SQLAlchemy correlates nothing in the RETURNING of an INSERT.
        own: ColumnElement[Any] = literal_column(str(self.resource.table.c[field.column].compile()))
        return select(target.c[field.target.column]).where(key == own).scalar_subquery()

    def _bound(self, columns: Sequence[str]) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        for column in columns:
            if field := self.slugs.get(column):
                target = field.to.table
                key = target.c[field.to.field(field.to.key).column]
                slug = target.c[field.target.column]
                bound[column] = select(key).where(slug == bindparam(column)).scalar_subquery()
            else:
                bound[column] = bindparam(column, type_=self.resource.table.c[column].type)
        return bound

    def _build_having(self, column: str) -> Executable:
        own = self.resource.table.c[column]
        return select(*self._columns).where(own == bindparam("_value", type_=own.type))

    def _build_insert(self, columns: tuple[str, ...]) -> Executable:
        values = {**self._bound(columns), **dict.fromkeys(self._auto, func.now())}
        return insert(self.resource.table).values(values).returning(*self._columns)

    def _build_update(self, columns: tuple[str, ...]) -> Executable | None:
        now = {column: func.now() for column, when in self._auto.items() if when == "update"}
        values = {**self._bound(columns), **now}
        if not values:
            return None
        statement = update(self.resource.table).where(self._key == bindparam("_key"))
        return statement.values(values).returning(*self._columns)


def _unbounded(field: Field) -> bool:
    """Whether a single value may be as long as a request body."""
    return isinstance(field, Json) or (isinstance(field, Text) and field.max_length is None)


def _is_long(column: ColumnElement[Any]) -> ColumnElement[bool]:
    if isinstance(column.type, SqlText):
        return func.octet_length(column) > SHORT
    # As stored, which costs no look at the value; what is compressed can become a hundred times as long.
    return or_(func.pg_column_size(column) > SHORT, func.pg_column_compression(column).is_not(None))


def _beyond(order: Sequence[tuple[ColumnElement[Any], bool]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition for rows that come after the given ones."""
    columns = [column for column, _ in order]
    bound = [bindparam(None, value, type_=column.type) for column, value in zip(columns, values, strict=True)]
    if len({down for _, down in order}) == 1:
        # One row comparison, which an index over these columns answers.
        left, right = tuple_(*columns), tuple_(*bound)
        return left < right if order[0][1] else left > right
    return or_(
        *(
            and_(
                *(earlier == value for earlier, value in zip(columns[:at], bound[:at], strict=True)),
                column < bound[at] if down else column > bound[at],
            )
            for at, (column, down) in enumerate(order)
        )
    )
