"""Lists: all rows as a chain of key-ordered pages, or one page with cursors (contract 2.2, decision 7)."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection

from sluice_core.database import Database
from sluice_core.rest.errors import Invalid
from sluice_core.rest.fields import FieldError, Integer
from sluice_core.rest.resource import Lookup, Resource, Row
from sluice_core.rest.store import Page, ResourceStore

__all__ = ["Listing"]

# Rows of one page of a complete list, and bytes of their long values. Small enough that a reader who never drains its
# socket holds some 100 kB, and no more than one row beside that where each has megabytes.
PAGE = 500
PAGE_BYTES = 256 * 1024
# The same of a page by `?limit=`.
MOST = 10_000
MOST_BYTES = 8 * 2**20
# Pages of complete lists that are read at the same time: who writes must not stand in line behind all the readers that
# come at once.
AT_ONCE = 2
LIMIT = Integer("limit", minimum=1, maximum=MOST)

Where = list[ColumnElement[bool]]


class Piece(NamedTuple):
    """A page of a complete list, encoded by the thread that read it: rows are several times as large, and must not wait
    for a slow reader, nor a hundred of them for the event loop.

    Attributes
    ----------
    text
        Part of a JSON array, its beginning and separators included.
    following
        What the next piece is read with; None at the end.
    """

    text: bytes
    following: tuple[Where, list[Any]] | None


class Listing:
    """Reads of many rows of one resource."""

    def __init__(self, resource: Resource, store: ResourceStore, database: Database, zone: tzinfo) -> None:
        self.resource = resource
        self._store = store
        self._database = database
        self._zone = zone
        self._turns = asyncio.Semaphore(AT_ONCE)
        named = [resource.field(each) for each in resource.filters if isinstance(each, str)]
        self._unique = {each.name: each.column for each in named if each.unique or each.name == resource.key}

    def where(self, query: Mapping[str, str]) -> Where:
        """Turn query parameters into conditions; unknown ones and empty ones are ignored.

        Raises
        ------
        Invalid
            Values that their filters cannot read, by parameter.
        """
        errors: dict[str, list[str]] = {}
        conditions: Where = []
        for each in self.resource.filtering:
            raw = query.get(each.name)
            if not raw:
                continue
            try:
                value = each.field.filter_value(raw, self._zone)
                conditions.append(each.clause(self.resource.table.c, value))
            except FieldError as exc:
                errors[each.name] = list(exc.args)
        if errors:
            raise Invalid(errors)
        return conditions

    def exact(self, query: Mapping[str, str]) -> tuple[str, Any] | None:
        """Return column and value where a query has one filter, by which there is one row at the most."""
        given = [each for each in self.resource.filtering if query.get(each.name)]
        if len(given) != 1 or (column := self._unique.get(given[0].name)) is None:
            return None
        try:
            return column, given[0].field.filter_value(query[given[0].name], self._zone)
        except FieldError:
            return None  # `where` says what is wrong

    async def one(self, column: str, value: Any) -> bytes:
        """Return the list of the row that `exact` found to be looked for; it waits for no reader of longer ones."""
        return await self._database.run(self._one, column, value)

    async def first(self, where: Where, query: Mapping[str, str]) -> Piece:
        """Return what a list starts with; all of it where the query looks for certain rows."""
        lookup = self.resource.lookup
        if lookup is not None and all(query.get(name) for name in lookup.filters):
            return await self._read(self._found, where, lookup)
        return await self._read(self._first, where)

    async def chain(self, piece: Piece) -> AsyncIterator[bytes]:
        """Yield a JSON array piece by piece, each page read by itself.

        No connection is held between pages, so a reader may be as slow as it likes. The newest key of the start
        bounds the whole, so the end is reached however fast rows are added.

        Parameters
        ----------
        piece
            The beginning, as `first` returned it.
        """
        yield piece.text
        while piece.following is not None:
            piece = await self._read(self._next, *piece.following)
            yield piece.text
        yield b"]"

    def limited(self, query: Mapping[str, str], where: Where, url: str) -> bytes:
        """Return one page of ``?limit=``, encoded; blocks.

        Parameters
        ----------
        query
            With ``limit``, and whatever else the links to the other pages repeat.
        url
            Of the list.

        Raises
        ------
        Invalid
            A bad ``limit`` or ``cursor``, or an ``offset``.
        """
        if "offset" in query:
            raise Invalid({"offset": ["Pages are not numbered: follow `next`."]})
        try:
            limit = LIMIT.convert(query["limit"], self._zone)
        except FieldError as exc:
            raise Invalid({"limit": list(exc.args)}) from None
        backwards, position = self._read_cursor(query.get("cursor", ""))
        counted = self.resource.count or query.get("count", "").lower() == "true"

        def work(connection: Connection) -> tuple[int | None, Page]:
            count = self._store.count(connection, where) if counted else None
            page = self._store.page(connection, where, limit, MOST_BYTES, after=position, backwards=backwards)
            return count, page

        count, (rows, more, hidden) = self._database.read(work)
        if backwards:
            rows.reverse()
        onwards, back = (True, more) if backwards else (more, position is not None)
        after = f"{url}?{self._cursor(query, 'n', self._position(rows[-1], hidden))}" if rows and onwards else None
        before = f"{url}?{self._cursor(query, 'p', self._position(rows[0], hidden))}" if rows and back else None
        return msgspec.json.encode({"count": count, "next": after, "previous": before, "results": rows})

    async def _read(self, read: Callable[..., Piece], *args: Any) -> Piece:
        async with self._turns:
            return await self._database.run(read, *args)

    def _one(self, column: str, value: Any) -> bytes:
        row = self._database.read(lambda connection: self._store.having(connection, column, value))
        return msgspec.json.encode([] if row is None else [row])

    def _first(self, where: Where) -> Piece:
        def work(connection: Connection) -> Piece:
            page = self._store.page(connection, where, PAGE, PAGE_BYTES)
            bounded = [*where, self._store.up_to_newest(connection)] if page.more else where
            return self._piece(b"[", bounded, page)

        return self._database.read(work)

    def _found(self, where: Where, lookup: Lookup) -> Piece:
        order = lookup.order(self.resource.table.c)
        rows = self._database.read(lambda connection: self._store.rows(connection, where, order, MOST))
        return Piece(msgspec.json.encode(rows)[:-1], None)

    def _next(self, where: Where, position: list[Any]) -> Piece:
        def work(connection: Connection) -> Page:
            return self._store.page(connection, where, PAGE, PAGE_BYTES, after=position)

        page = self._database.read(work)
        return self._piece(b"," if page.rows else b"", where, page)

    def _piece(self, opening: bytes, where: Where, page: Page) -> Piece:
        text = opening + msgspec.json.encode(page.rows)[1:-1]
        return Piece(text, (where, self._position(page.rows[-1], page.hidden)) if page.more else None)

    def _position(self, row: Row, hidden: Mapping[Any, tuple[Any, ...]]) -> list[Any]:
        others = iter(hidden.get(row[self.resource.key], ()))
        return [row[field.name] if field.name in row else next(others) for field, _ in self.resource.sorting]

    def _cursor(self, query: Mapping[str, str], direction: str, position: Sequence[Any]) -> str:
        place = [str(each) if isinstance(each, UUID | datetime) else each for each in position]
        cursor = base64.urlsafe_b64encode(json.dumps([direction, *place]).encode()).decode()
        return urlencode({**query, "cursor": cursor})

    def _read_cursor(self, cursor: str) -> tuple[bool, list[Any] | None]:
        if not cursor:
            return False, None
        fields = [field for field, _ in self.resource.sorting]
        try:
            direction, *position = json.loads(base64.urlsafe_b64decode(cursor.encode()))
            values = [field.convert(each, self._zone) for field, each in zip(fields, position, strict=True)]
        except (ValueError, TypeError, FieldError, RecursionError):
            raise Invalid({"cursor": ["Follow `next` and `previous` as they were given."]}) from None
        return direction == "p", values
