"""What a service declares: resources whose file reads like the contract's table, and single endpoints."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from sluice_core.auth import Identity
from sluice_core.rest.fields import Field, ForeignKey

if TYPE_CHECKING:
    from sluice_core.rest.request import Reply, Request

__all__ = ["BODY_LIMIT", "Attempt", "Change", "Endpoint", "Filter", "Lookup", "Resource"]

# Bytes of one record (decision 3).
BODY_LIMIT = 4 * 2**20

Row = dict[str, Any]
Columns = ReadOnlyColumnCollection[str, Any]


@dataclass(frozen=True)
class Filter:
    """A query parameter that narrows a list.

    Attributes
    ----------
    name
        The parameter.
    kind
        What its text is read as; a kind of field, or one with limits of its own.
    clause
        Condition from the table's columns and the value.
    """

    name: str
    kind: type[Field] | Field
    clause: Callable[[Columns, Any], ColumnElement[bool]]

    @cached_property
    def field(self) -> Field:
        """The kind as a field of the filter's name."""
        return self.kind if isinstance(self.kind, Field) else self.kind(self.name)


@dataclass(frozen=True)
class Lookup:
    """An order of its own for the list when a query says which rows are looked for.

    Attributes
    ----------
    filters
        Names of filters, all of which the query must have.
    order
        What the rows are ordered by, from the table's columns; the answer is one array of at most 10,000.
    """

    filters: tuple[str, ...]
    order: Callable[[Columns], Sequence[ColumnElement[Any]]]


@dataclass(frozen=True)
class Change:
    """What a write did to one row; the rows are as on the wire, before encoding.

    Attributes
    ----------
    kind
        What happened.
    before, after
        None where there was, or is, no row.
    by
        Who wrote; None where nobody was asked for.
    """

    kind: Literal["created", "updated", "deleted"]
    before: Row | None
    after: Row | None
    by: Identity | None = None


@dataclass
class Attempt:
    """A write that is about to be made, in its transaction.

    Attributes
    ----------
    kind
        What shall happen.
    by
        Who writes; None where nobody was asked for.
    before
        The row, which nobody else changes meanwhile; None for a new one.
    data
        What the client sent.
    values
        Columns to be written; a hook may add to them. Empty before they are parsed.
    errors
        Messages of the fields that are wrong; a hook may add to them, and then nothing is written.
    """

    kind: Literal["created", "updated", "deleted"]
    by: Identity | None
    before: Row | None
    data: Mapping[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Resource:
    """One resource of the API: list, create, read, replace, change, delete, describe (contract 2).

    Attributes
    ----------
    name
        Its place in the path.
    model
        Class name in ``No {model} matches the given query.``
    label
        Its name in ``{label} with this {field} already exists.``
    table
        Where the rows are; constraints and cascades are the table's.
    fields
        In the order of the contract's table, which is the order on the wire.
    key
        Name of the field that the path holds.
    key_like
        What keys look like, a regular expression: one that is absent and looks otherwise is 400 at once, since clients
        try again for minutes after a 404 (decision 17).
    write
        Scope for every method that changes something.
    create
        Scope for POST where it differs.
    create_open
        POST needs no credential and looks at none; but a session has to prove that a page of ours asks (contract 5.3).
    create_audited
        Whether each POST is an audit record; calls of a high rate are one only when they are refused.
    namespace
        Name of the field that says which namespace a row belongs to. A caller with namespaces writes only rows that lie
        in one of them, before and after; rows of a resource without such a field belong to none, and the scope decides.
    read_open
        Whether reads need no credential; None: as the deployment says (decision 1).
    unique_together
        Groups of fields of which no two rows share all values.
    order
        Fields that a list is ordered by, ``-`` for descending; the key always comes last.
    hidden
        Columns that are not sent, by which a list may be ordered too.
    filters
        Names of fields (compared for equality) and further filters.
    lookup
        Which rows come first when some filters are given together.
    tagged
        One row is answered with an ``ETag``, and writes of it heed ``If-Match``.
    count
        Whether ``?limit=`` answers count unasked (decision 7: not for logs).
    on_list, on_detail
        Methods that change something and that the list and a row of it have; the others are 405.
    admit
        Called in the transaction of each write, before its values are looked at; raises what refuses the write.
    prepare
        Called in the transaction of each write of a new or changed row once its values are parsed, also when some are
        wrong; it may change and add to the columns about to be written, and to what is wrong. See `Attempt`.
    resolve
        Finds the key of a row by what the path says, where that is not the key itself.
    on_change
        Called in the transaction of each write.
    prefix
        What stands before the name.
    description
        A sentence for OPTIONS and OpenAPI.
    """

    name: str = field(kw_only=False)
    model: str
    label: str
    table: Table
    fields: tuple[Field, ...]
    key: str
    write: str
    key_like: str | None = None
    create: str | None = None
    create_open: bool = False
    create_audited: bool = True
    namespace: str | None = None
    read_open: bool | None = None
    unique_together: tuple[tuple[str, ...], ...] = ()
    order: tuple[str, ...] = ()
    hidden: tuple[Field, ...] = ()
    filters: tuple[str | Filter, ...] = ()
    lookup: Lookup | None = None
    tagged: bool = False
    count: bool = True
    on_list: tuple[str, ...] = ("POST",)
    on_detail: tuple[str, ...] = ("PUT", "PATCH", "DELETE")
    admit: Callable[[Connection, Attempt], None] | None = None
    prepare: Callable[[Connection, Attempt], None] | None = None
    resolve: Callable[[Connection, str], Any] | None = None
    on_change: Callable[[Connection, Change], None] | None = None
    prefix: str = "/api"
    description: str = ""
    body_limit: int = BODY_LIMIT

    @property
    def path(self) -> str:
        """URL of the list, without the deployment's prefix."""
        return f"{self.prefix}/{self.name}/"

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """The fields by their names."""
        return {each.name: each for each in self.fields}

    def field(self, name: str) -> Field:
        """Return a field by its name."""
        return self.by_name[name]

    @cached_property
    def writable(self) -> tuple[Field, ...]:
        """What clients may set."""
        return tuple(each for each in self.fields if each.writable)

    @cached_property
    def plan(self) -> tuple[tuple[Field, str, str, bool], ...]:
        """Each field with its name and column, and whether clients may set it: worked out once, as batches are long."""
        return tuple((each, each.name, each.column, each.writable) for each in self.fields)

    @cached_property
    def sorting(self) -> tuple[tuple[Field, bool], ...]:
        """Fields of the order and whether each descends; the last one is the key, so the order is total."""
        known = {**{each.name: each for each in self.hidden}, **self.by_name}
        named = [(known[each.removeprefix("-")], each.startswith("-")) for each in self.order]
        if any(each.null for each, _ in named):
            # A page begins after the values of the last row, and nothing comes after null.
            raise ValueError(f"{self.name}: a list cannot be ordered by a field that may be null")
        if not named or named[-1][0].name != self.key:
            named.append((self.field(self.key), bool(named) and named[-1][1]))
        return tuple(named)

    @cached_property
    def filtering(self) -> tuple[Filter, ...]:
        """All filters, those by the name of a field spelled out."""
        return tuple(each if isinstance(each, Filter) else self._equality(each) for each in self.filters)

    def _equality(self, name: str) -> Filter:
        found = self.field(name)
        if isinstance(found, ForeignKey) and found.slug:
            raise ValueError(f"{self.name}: a filter by {name} needs a clause of its own")
        return Filter(name, found, lambda columns, value: columns[found.column] == value)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One path that is no resource.

    Attributes
    ----------
    path
        Ends with a slash; ``{name}`` stands for one segment.
    methods
        Handler of each method.
    auth
        ``session``: a missing or bad credential is 403; ``token``: 401 with a challenge, and only a token is one;
        ``open``: none is needed, a bad one is refused; ``read``: ``open`` or ``session``, as the reads of resources are
        (decision 1); ``browser``: only a session is looked at, which must prove that its browser meant it; ``stream``:
        a missing or bad credential is the 401 of the event stream, and ``Accept`` is not looked at (contract 5.2, 6.1);
        ``ignored``: credentials are not looked at.
    negotiated
        Whether ``Accept`` must allow JSON; an endless stream is what it is.
    scope
        What the caller must hold.
    audited
        Whether each call that may change something is an audit record; calls of a high rate, and questions that are
        asked by POST, are one only when they are refused.
    openapi
        Operation object of each method, in lower case.
    body_limit
        Bytes.
    """

    path: str = field(kw_only=False)
    methods: Mapping[str, "Callable[[Request], Awaitable[Reply]]"] = field(kw_only=False)
    auth: Literal["session", "token", "open", "read", "browser", "stream", "ignored"]
    negotiated: bool = True
    scope: str | None = None
    audited: bool = True
    openapi: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    body_limit: int = BODY_LIMIT

    @cached_property
    def allow(self) -> str:
        """The ``Allow`` header."""
        methods: Sequence[str] = [*self.methods, *(["HEAD"] if "GET" in self.methods else []), "OPTIONS"]
        return ", ".join(methods)
