"""New runs, files and slices: one that may be a repetition, or many at once (decision 16; issue parts 4 and 5)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, ForeignKey, Invalid, Resource
from sluice_core.rest import validate as validation
from sluice_core.rest.operations import Operations
from sluice_runs.service.completing import settle, slice_names
from sluice_runs.service.events import Events
from sluice_runs.store import batches, repeats
from sluice_runs.store.files import parents
from sluice_runs.store.origins import origin

__all__ = ["MOST", "NATURAL", "Batch", "Creation"]

MOST = 10_000
"""Rows of one batch."""
# Keys that one event names.
TOLD = 1000

NATURAL: Mapping[str, tuple[str, ...]] = {
    "run": ("run_number",),
    "stf": ("stf_filename",),
    "tf": ("tf_filename",),
    "slice": ("tf_filename", "slice_id"),
}
"""What tells rows of each kind apart, for those who make them."""

Row = dict[str, Any]
Errors = Mapping[str, list[str]]


class Batch(NamedTuple):
    """What became of many rows."""

    accepted: int
    rejected: list[dict[str, Any]]


class _Read(NamedTuple):
    """One item of a batch that has no bad values."""

    place: int
    given: Mapping[str, Any]
    values: dict[str, Any]


class _Item(NamedTuple):
    """One row that can be stored, if its unique values are free.

    ``group`` is the run that its event is about: its number for slices, its key for files.
    """

    read: _Read
    values: dict[str, Any]
    group: int


class Creation:
    """Makes rows of one resource; its methods block.

    Parameters
    ----------
    kind
        Of the rows, as in `sluice_runs.resources.RESOURCES`.
    resource
        With its ``on_change``.
    accept_repeat
        Whether a row that equals the one which is there is answered with it.
    """

    def __init__(
        self, kind: str, resource: Resource, database: Database, zone: tzinfo, events: Events, *, accept_repeat: bool
    ) -> None:
        self.resource = resource
        self._kind = kind
        self._natural = NATURAL[kind]
        self._names = _taking(self._natural)
        self._do = Operations(resource, database, zone)
        self._database = database
        self._zone = zone
        self._events = events
        self._accept_repeat = accept_repeat

    def one(self, parse: Callable[[], Any], caller: Identity, key: str = "") -> tuple[Row, bool]:
        """Store a new row, unless it is there already.

        Parameters
        ----------
        parse
            Returns the body.
        key
            The header ``Idempotency-Key``.

        Returns
        -------
        tuple
            The row, and whether it is new.

        Raises
        ------
        ApiError
            As `Operations.create`.
        """
        path = self.resource.path

        def remember(connection: Connection, row: Row) -> None:
            repeats.remember(connection, caller.subject, path, key, str(row[self.resource.key]))

        if key and (known := self._known(caller, key)) is not None:
            return known, False
        data = parse()
        try:
            return self._do.create(lambda: data, caller, remember if key else None), True
        except Invalid:
            # The same request may have been stored while this one was looked at.
            known = (self._known(caller, key) if key else None) or self._equal(data)
            if known is None:
                raise
            return known, False

    def many(self, parse: Callable[[], Any], *, together: bool = False) -> Batch:
        """Store many new rows in one transaction.

        Parameters
        ----------
        parse
            Returns the body, an array.
        together
            Store all or none.

        Raises
        ------
        ApiError
            The body is no array (400), or too long (413).
        """
        data = parse()
        if not isinstance(data, list):
            raise Invalid({"non_field_errors": ["A batch is an array of objects."]})
        if len(data) > MOST:
            raise ApiError(413, {"detail": f"A batch has no more than {MOST} rows."})
        rejected: dict[int, Errors] = {}
        items: list[_Read] = []
        for index, each in enumerate(data):
            try:
                values, errors = validation.created(self.resource, validation.mapping(each), self._zone)
            except Invalid as exc:
                rejected[index] = exc.errors
                continue
            if errors:
                rejected[index] = errors
            else:
                items.append(_Read(index, each, values))
        if not items or (together and rejected):
            return _batch(0, rejected)

        def work(connection: Connection) -> Batch:
            found = dict(rejected)
            accepted = self._store(connection, items, found)
            if together and found:
                connection.rollback()
                accepted = 0
            return _batch(accepted, found)

        try:
            return self._database.transact(work)
        except DBAPIError as exc:
            if str(getattr(exc.orig, "pgcode", "")).startswith(("22", "54")):
                raise Invalid({"non_field_errors": ["A value cannot be stored."]}) from exc
            raise

    def _known(self, caller: Identity, key: str) -> Row | None:
        def work(connection: Connection) -> Row | None:
            row_key = repeats.find(connection, caller.subject, self.resource.path, key)
            if row_key is None:
                return None
            return self._do.store.get(connection, self._do.key(row_key))

        return self._database.read(work)

    def _equal(self, data: Any) -> Row | None:
        """Return the row that is there already, if it is equal in all that is given."""
        if not self._accept_repeat or not isinstance(data, dict):
            return None
        values, errors = validation.created(self.resource, data, self._zone)
        if errors:
            return None

        def work(connection: Connection) -> Row | None:
            if self._kind == "slice" and self._name([values], connection)[0]:
                return None
            return next(
                (row for row in self._rows(connection, [self._names(values)]) if self._same(row, values, data)), None
            )

        return self._database.read(work)

    def _rows(self, connection: Connection, keys: Sequence[tuple[Any, ...]]) -> list[Row]:
        columns = [self.resource.table.c[name] for name in self._natural]
        order = [self.resource.table.c[self.resource.key]]
        return self._do.store.rows(connection, [batches.matching(columns, keys)], order, len(keys))

    def _same(self, row: Row, values: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        return all(
            _alike(row[field.name], values[field.column]) for field in self.resource.writable if field.name in given
        )

    def _name(self, values: Sequence[dict[str, Any]], connection: Connection) -> list[Errors]:
        """Complete the names of slices; return the errors of each."""
        known = parents(connection, {each["fastmon_file"] for each in values if each["fastmon_file"] is not None})
        return [slice_names(None, each, known) for each in values]

    def _store(self, connection: Connection, items: Sequence[_Read], rejected: dict[int, Errors]) -> int:
        first: dict[tuple[Any, ...], _Item] = {}
        others: list[_Item] = []
        for item in self._ready(connection, items, rejected):
            if first.setdefault(self._names(item.values), item) is not item:
                others.append(item)
        rows = [item.values for item in first.values()]
        # A key that PostgreSQL gives comes back; others are known.
        key = self.resource.key
        given = not rows or key in rows[0]
        answer = self._natural if given else (*self._natural, key)
        made = batches.insert_missing(connection, self.resource.table, rows, answer)
        inserted = {names: first[names].values[key] for names in made} if given else {row[:-1]: row[-1] for row in made}
        others += [item for names, item in first.items() if names not in inserted]
        accepted = len(inserted) + self._repeated(connection, others, rejected)
        self._tell(connection, [(first[names].group, own) for names, own in inserted.items()])
        return accepted

    def _ready(self, connection: Connection, items: Sequence[_Read], rejected: dict[int, Errors]) -> list[_Item]:
        """Look relations up, complete the values, and leave out what leads nowhere."""
        # A transaction may run twice, so what was read stays as it is.
        copies = [(item, dict(item.values)) for item in items]
        ready: list[_Item] = []
        if self._kind == "slice":
            wrong = self._name([values for _, values in copies], connection)
            for (item, values), errors in zip(copies, wrong, strict=True):
                if errors:
                    rejected[item.place] = errors
                else:
                    ready.append(_Item(item, values, values["run_number"]))
            return ready
        relation = self.resource.field("run" if self._kind == "stf" else "stf_file")
        assert isinstance(relation, ForeignKey)
        wanted = {item.values[relation.column] for item in items}
        there = batches.runs(connection, wanted) if self._kind == "stf" else batches.stfs(connection, wanted)
        for item, values in copies:
            target = there.get(values[relation.column])
            if target is None:
                rejected[item.place] = {relation.name: [relation.absent(item.given[relation.name])]}
                continue
            values[relation.column] = target.key
            if self._kind == "stf":
                values["settled_at"] = None
                settle(None, values)
            ready.append(_Item(item, values, target.run_id))
        return ready

    def _repeated(self, connection: Connection, items: Sequence[_Item], rejected: dict[int, Errors]) -> int:
        """Judge items whose unique values are taken; return how many equal the row that is there."""
        keys = list({self._names(item.values) for item in items})
        rows = {self._names(row): row for row in self._rows(connection, keys)} if keys else {}
        accepted = 0
        for item in items:
            row = rows.get(self._names(item.values))
            if self._accept_repeat and row is not None and self._same(row, item.read.values, item.read.given):
                accepted += 1
            else:
                rejected[item.read.place] = self._taken()
        return accepted

    def _taken(self) -> Errors:
        if len(self._natural) > 1:
            return {"non_field_errors": [f"The fields {', '.join(self._natural)} must make a unique set."]}
        (name,) = self._natural
        return {name: [f"{self.resource.label} with this {name.replace('_', ' ')} already exists."]}

    def _tell(self, connection: Connection, inserted: Sequence[tuple[Any, Any]]) -> None:
        """Say what is new: an event for each thousand rows of a run."""
        groups: dict[Any, list[str]] = {}
        for group, own in inserted:
            groups.setdefault(group, []).append(str(own))
        for group, keys in groups.items():
            # TF files are grouped by their run, as STF files are.
            kind, row = ("slice", {"run_number": group}) if self._kind == "slice" else ("stf", {"run": group})
            where = origin(connection, kind, row)
            for at in range(0, len(keys), TOLD):
                some = keys[at : at + TOLD]
                content = {"count": len(some), "keys": some}
                self._events.say(connection, self._kind, "batch", where, content, key=f"batch {group}")


def _taking(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return what takes these values out of a row; as fast as there is, since batches are long."""
    if len(names) > 1:
        return itemgetter(*names)
    (name,) = names
    return lambda values: (values[name],)


def _batch(accepted: int, rejected: Mapping[int, Errors]) -> Batch:
    return Batch(accepted, [{"index": index, "errors": errors} for index, errors in sorted(rejected.items())])


def _alike(one: Any, other: Any) -> bool:
    """Whether two stored values are equal, where true is not 1; to Python it is."""
    if one != other:
        return False
    if not isinstance(one, dict | list | bool) and not isinstance(other, bool):
        return True
    in_order = msgspec.json.Encoder(order="deterministic").encode
    return in_order(one) == in_order(other)
