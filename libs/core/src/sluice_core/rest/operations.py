"""Create, read, replace, change and delete one row: what the door asks for, in one worker thread each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from sluice_core.audit import note
from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import tags, validate
from sluice_core.rest.errors import ApiError, Invalid, denied, not_found
from sluice_core.rest.fields import FieldError, Integer, Text
from sluice_core.rest.resource import Attempt, Change, Resource, Row
from sluice_core.rest.store import ResourceStore

__all__ = ["Operations"]

Parse = Callable[[], Any]


@dataclass
class _Given:
    """What a client sent, and the columns it came to."""

    data: Mapping[str, Any]
    values: dict[str, Any]


class Operations:
    """What can be done to the rows of one resource; every method blocks."""

    def __init__(self, resource: Resource, database: Database, zone: tzinfo) -> None:
        self.resource = resource
        self.store = ResourceStore(resource)
        self._database = database
        self._zone = zone

    def create(
        self,
        parse: Parse,
        caller: Identity | None = None,
        also: Callable[[Connection, Row], None] | None = None,
    ) -> Row:
        """Store a new row.

        Parameters
        ----------
        parse
            Returns the body.
        caller
            Whose namespaces the row must lie in.
        also
            What else is done in the transaction, with the new row.

        Raises
        ------
        ApiError
            The body cannot be parsed, or is not valid, or a unique value is taken; 403: another namespace.
        """
        data = validate.mapping(parse())
        parsed, errors = validate.created(self.resource, data, self._zone)
        if errors and self.resource.admit is None and self.resource.prepare is None:
            found = self._database.read(lambda c: self.store.objections(c, parsed, data, together=False))
            raise Invalid(self._sorted({**found, **errors}))
        given = _Given(data, parsed)

        def work(connection: Connection) -> Row:
            attempt = Attempt("created", caller, None, data)
            self._admit(connection, attempt)
            given.values = self._prepare(connection, attempt, parsed, errors)
            row = self.store.insert(connection, given.values)
            self._insist_on_namespace(caller, row)
            self._insist_on_relations(row, given.values, data)
            self._changed(connection, Change("created", None, row, caller))
            if also is not None:
                also(connection, row)
            return row

        return self._write(work, given)

    def read(self, text: str) -> Row:
        """Return one row by the key in the path.

        Raises
        ------
        ApiError
            404: there is none, or the text cannot be a key.
        """
        key = self.key(text)
        row = self._database.read(lambda connection: self.store.get(connection, key))
        if row is None:
            raise self._absent(text)
        return row

    def change(self, text: str, parse: Parse, caller: Identity | None = None, *, partial: bool, match: str = "") -> Row:
        """Write the given keys of one row and no others.

        Parameters
        ----------
        text
            The key in the path.
        parse
            Returns the body; called once the row is found (contract 18.10).
        caller
            Whose namespaces the row must lie in, before and after.
        partial
            PATCH; PUT insists on all required keys.
        match
            The header ``If-Match``.

        Raises
        ------
        ApiError
            404, or 400 and 403 as `create`; 412: the row is not what ``match`` names.
        """
        key = self.key(text)
        given = _Given({}, {})

        def work(connection: Connection) -> Row:
            before = self.store.get(connection, key, lock=True)
            if before is None:
                raise self._absent(text)
            note().key = text
            self._insist_on_namespace(caller, before)
            tags.insist(match, before)
            data = given.data = validate.mapping(parse())
            attempt = Attempt("updated", caller, before, data)
            self._admit(connection, attempt)
            values, errors = validate.changed(self.resource, data, self._zone, partial=partial)
            own = self.resource.field(self.resource.key)
            if own.column in values and values.pop(own.column) != before[own.name]:
                errors.setdefault(own.name, []).append("This field is the key of the row and cannot be changed.")
            values = given.values = self._prepare(connection, attempt, values, errors, key)
            row = self.store.update(connection, key, values)
            assert row is not None
            self._insist_on_namespace(caller, row)
            self._insist_on_relations(row, values, data)
            self._changed(connection, Change("updated", before, row, caller))
            return row

        return self._write(work, given, key)

    def delete(self, text: str, caller: Identity | None = None, *, match: str = "") -> None:
        """Remove one row.

        Parameters
        ----------
        caller
            Whose namespaces the row must lie in.
        match
            The header ``If-Match``.

        Raises
        ------
        ApiError
            404: there is none; 403: it is in another namespace; 409: another row refers to it; 412: it is not what
            ``match`` names.
        """
        key = self.key(text)

        def work(connection: Connection) -> None:
            if self.resource.admit is not None:
                if (before := self.store.get(connection, key, lock=True)) is None:
                    raise not_found(self.resource.model)
                self._admit(connection, Attempt("deleted", caller, before, {}))
            row = self.store.delete(connection, key)
            if row is None:
                raise self._absent(text)
            note().key = text
            self._insist_on_namespace(caller, row)
            tags.insist(match, row)
            self._changed(connection, Change("deleted", row, None, caller))

        try:
            self._database.transact(work)
        except IntegrityError as exc:
            raise ApiError(409, {"detail": f"This {self.resource.label} is in use."}) from exc

    def key(self, text: str) -> Any:
        """Turn a segment of the path into a key.

        Raises
        ------
        ApiError
            404, as no row can have that key (contract 2.6, 18.6).
        """
        if (resolve := self.resource.resolve) is not None:
            return self._database.read(lambda connection: resolve(connection, text))
        field = self.resource.field(self.resource.key)
        try:
            key = field.convert(text, self._zone)
        except FieldError as exc:
            readable = isinstance(field, Text) or str(exc.args[0]).startswith("Ensure this")
            raise not_found(self.resource.model if readable else None) from None
        if isinstance(field, Text) and key != text:
            # Texts are stored without white space around them, so no row has this key.
            raise not_found(self.resource.model)
        if isinstance(field, Integer) and "." in text:
            # Values may be spelled 12.0, but a row has one address.
            raise not_found()
        return key

    def _write(self, work: Callable[[Connection], Row], given: _Given, key: Any = None) -> Row:
        for last in (False, True):
            try:
                return self._database.transact(work)
            except IntegrityError as exc:
                found = self._database.read(lambda c: self.store.objections(c, given.values, given.data, key))
                # What stood in the way may be gone again, and then the same write goes through.
                if found or last:
                    raise Invalid(found or {"non_field_errors": ["The row conflicts with another one."]}) from exc
            except DBAPIError as exc:
                if str(getattr(exc.orig, "pgcode", "")).startswith(("22", "54")):
                    raise Invalid({"non_field_errors": ["A value cannot be stored."]}) from exc
                raise
        raise AssertionError("unreachable")  # pragma: no cover

    def _admit(self, connection: Connection, attempt: Attempt) -> None:
        if self.resource.admit is not None:
            self.resource.admit(connection, attempt)

    def _prepare(
        self,
        connection: Connection,
        attempt: Attempt,
        values: Mapping[str, Any],
        errors: Mapping[str, list[str]],
        key: Any = None,
    ) -> dict[str, Any]:
        """Return the columns to be written, or say everything that is wrong with them."""
        attempt.values = dict(values)
        attempt.errors = {name: list(messages) for name, messages in errors.items()}
        if self.resource.prepare is not None:
            self.resource.prepare(connection, attempt)
        if attempt.errors:
            found = self.store.objections(connection, attempt.values, attempt.data, key, together=False)
            raise Invalid(self._sorted({**found, **attempt.errors}))
        return attempt.values

    def _insist_on_relations(self, row: Row, values: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Refuse what no constraint refuses: a name that leads nowhere, in a column that may be null."""
        errors = {
            field.name: [field.absent(data.get(field.name))]
            for column, field in self.store.slugs.items()
            if values.get(column) is not None and row[field.name] is None
        }
        if errors:
            raise Invalid(errors)

    def _insist_on_namespace(self, caller: Identity | None, row: Row) -> None:
        name = self.resource.namespace
        if name is not None and caller is not None and not caller.within(row[name]):
            raise denied()

    def _absent(self, text: str) -> ApiError:
        like = self.resource.key_like
        if like is not None and not re.fullmatch(like, text):
            name = self.resource.key.replace("_", " ")
            return ApiError(400, {"detail": f"There is no {self.resource.label} with this {name}, nor can there be."})
        return not_found(self.resource.model)

    def _changed(self, connection: Connection, change: Change) -> None:
        if self.resource.on_change is not None:
            self.resource.on_change(connection, change)

    def _sorted(self, errors: dict[str, list[str]]) -> dict[str, list[str]]:
        known = [*self.resource.by_name, "non_field_errors"]
        return {name: errors[name] for name in known if name in errors}
