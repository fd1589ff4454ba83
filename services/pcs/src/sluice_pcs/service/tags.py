"""Tags: numbers, the rules of drafts, the lock, history (contract 3, 5.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt, Change, Invalid, Resource
from sluice_core.rest.errors import not_found
from sluice_core.rest.fields import printable
from sluice_core.rest.operations import Operations
from sluice_pcs.events import Events
from sluice_pcs.kinds import BY_LETTER, PHYSICS, Kind
from sluice_pcs.service.definitions import Definitions, complaints
from sluice_pcs.service.rights import claim, insist_on_own
from sluice_pcs.store.numbers import Numbers
from sluice_pcs.store.tags import CategoryStore, TagStore

__all__ = ["Tags"]

Row = dict[str, Any]
REQUIRED = "This field is required."
# Suffixes beyond it would be in the range of the next category (decision 23).
LARGEST_SUFFIX = 999


class Tags:
    """Tags of all kinds.

    Parameters
    ----------
    resources
        As declared, by letter; `resource` returns them with their rules.
    """

    def __init__(
        self,
        database: Database,
        resources: Mapping[str, Resource],
        definitions: Definitions,
        events: Events,
        zone: Any,
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._events = events
        self.stores = {letter: TagStore(letter, resource) for letter, resource in resources.items()}
        self.resources = {letter: self._ruled(BY_LETTER[letter], each) for letter, each in resources.items()}
        self._create = {letter: Operations(each, database, zone) for letter, each in self.resources.items()}
        self._create_unique = {
            letter: Operations(
                replace(each, prepare=partial(self._prepare, BY_LETTER[letter], unique=True)), database, zone
            )
            for letter, each in self.resources.items()
        }

    def _ruled(self, kind: Kind, resource: Resource) -> Resource:
        return replace(
            resource,
            admit=partial(self._admit, kind),
            prepare=partial(self._prepare, kind),
            on_change=partial(self._changed, kind),
        )

    # Doors

    async def create(self, kind: Kind, parse: Any, caller: Identity | None, *, unique: bool = False) -> Row:
        """Store a draft.

        Parameters
        ----------
        parse
            Returns the body.
        unique
            Refuse it when a tag with the same parameters exists.

        Raises
        ------
        ApiError
            400; 409: there is one already, or no number is left.
        """
        operations = (self._create_unique if unique else self._create)[kind.letter]
        return await self._database.run(operations.create, parse, caller)

    async def copy(self, kind: Kind, number: int, given: Mapping[str, Any], caller: Identity) -> Row:
        """Store a draft with what another tag has, whoever made that.

        Parameters
        ----------
        given
            Fields that shall be otherwise.

        Raises
        ------
        ApiError
            404, and as `create`.
        """
        source = await self.get(kind, number)
        kept: Row = {name: source[name] for name in ("category", "description", "parameters") if name in source}
        body: Row = {**kept, **given, "created_by": caller.subject}
        return await self.create(kind, lambda: body, caller)

    async def get(self, kind: Kind, number: int) -> Row:
        """Return a tag.

        Raises
        ------
        ApiError
            404.
        """
        row: Row | None = await self._database.run(
            self._database.read, lambda connection: self.stores[kind.letter].get(connection, number)
        )
        if row is None:
            raise not_found(kind.model)
        return row

    async def lock(self, kind: Kind, number: int, caller: Identity | None) -> Row:
        """Make a draft unchangeable for ever.

        Raises
        ------
        ApiError
            404; 403: somebody else's; 400: locked already, or parameters are missing (decision 21).
        """

        def work(connection: Connection) -> Row:
            before = self._found(connection, kind, number)
            insist_on_own(caller, before["created_by"], "lock", "this tag")
            if before["status"] == "locked":
                raise ApiError(400, {"detail": f"Tag {before['tag_label']} is already locked."})
            defs = self._definitions.of(connection, kind)
            if errors := complaints(defs, before["parameters"], before.get("category")):
                raise Invalid({"parameters": errors})
            after = self.stores[kind.letter].lock(connection, number)
            self.tell(connection, kind, "locked", before, after, caller)
            return after

        return await self._database.run(self._database.transact, work)

    async def delete(self, kind: Kind, number: int, caller: Identity | None) -> Row:
        """Remove a draft; its number is not given again.

        Raises
        ------
        ApiError
            404; 400: it is locked; 403: somebody else's; 409: a data set of a time without locks uses it.
        """

        def work(connection: Connection) -> Row:
            row = self._found(connection, kind, number)
            if row["status"] == "locked":
                raise ApiError(400, {"detail": f"Tag {row['tag_label']} is locked and cannot be deleted."})
            insist_on_own(caller, row["created_by"], "delete", "this tag")
            if not self.stores[kind.letter].delete(connection, number):
                raise ApiError(409, {"detail": f"Tag {row['tag_label']} is used by a dataset."})
            self.tell(connection, kind, "deleted", row, None, caller)
            return row

        return await self._database.run(self._database.transact, work)

    async def history(self, kind: Kind, number: int, after: int, limit: int) -> Sequence[Row]:
        """Return who did what to a tag, oldest first.

        Raises
        ------
        ApiError
            404: no tag ever had this number.
        """
        store = self.stores[kind.letter]
        found: Sequence[Row] = await self._database.run(
            self._database.read, lambda connection: store.changes(connection, number, after, limit)
        )
        if not found and not after:
            raise not_found(kind.model)
        return found

    async def diff(self, kind: Kind, one: int, other: int) -> dict[str, Any]:
        """Return in what two tags of a kind differ.

        Raises
        ------
        ApiError
            404.
        """
        left, right = await self.get(kind, one), await self.get(kind, other)
        fields = [name for name in ("category", "description", "status") if left.get(name) != right.get(name)]
        mine, theirs = left["parameters"], right["parameters"]
        names = [*mine, *(name for name in theirs if name not in mine)]
        return {
            "left": left["tag_label"],
            "right": right["tag_label"],
            "fields": {name: {"left": left[name], "right": right[name]} for name in fields},
            "parameters": {
                name: {
                    **({"left": mine[name]} if name in mine else {}),
                    **({"right": theirs[name]} if name in theirs else {}),
                }
                for name in names
                if (name in mine) != (name in theirs) or mine[name] != theirs[name]
            },
        }

    # Rules of the resources

    def _admit(self, kind: Kind, connection: Connection, attempt: Attempt) -> None:
        if attempt.before is None:
            if kind == PHYSICS:
                _insist_on_category(connection, attempt.data.get("category"))
            return
        label, creator = attempt.before["tag_label"], attempt.before["created_by"]
        if attempt.before["status"] == "locked":
            raise ApiError(400, {"detail": f"Tag {label} is locked and cannot be modified."})
        insist_on_own(attempt.by, creator, "edit", "this tag")
        if "status" in attempt.data:
            raise ApiError(400, {"detail": "Use the /lock/ endpoint to change status."})

    def _prepare(self, kind: Kind, connection: Connection, attempt: Attempt, *, unique: bool = False) -> None:
        claim(connection, attempt)
        values: Row = attempt.values
        before: Row = attempt.before or {}
        if "parameters" not in attempt.errors and (not before or "parameters" in values or "category" in values):
            defs = self._definitions.of(connection, kind)
            parameters: Row = {**before, **values}["parameters"]
            if errors := complaints(defs, parameters, values.get("category", before.get("category"))):
                attempt.errors["parameters"] = errors
        if before or attempt.errors:
            return
        number = self.number(connection, kind, values.get("category"))
        # Whoever has the number is alone with its kind until the end.
        same = self.stores[kind.letter].like(connection, values["parameters"]) if unique else None
        if same is not None:
            label = same["tag_label"]
            raise ApiError(409, {"detail": f"Tag {label} has these parameters already.", "tag_label": label})
        values.update(tag_number=number, tag_label=kind.label(number))

    def number(self, connection: Connection, kind: Kind, category: int | None) -> int:
        """Return the number of a new tag (contract 3.1).

        Raises
        ------
        ApiError
            409: the category is full.
        """
        numbers = Numbers(connection)
        if category is None:
            return numbers.take(kind.name)
        suffix = numbers.at_least(kind.name)
        if suffix <= LARGEST_SUFFIX:
            return category * 1000 + numbers.take(kind.name)
        free = numbers.free(category * 1000 + 1, category * 1000 + LARGEST_SUFFIX)
        if free is None:
            raise ApiError(409, {"detail": f"Category {category} is full."})
        return free

    def _changed(self, kind: Kind, connection: Connection, change: Change) -> None:
        self.tell(connection, kind, change.kind, change.before, change.after, change.by)

    def tell(
        self,
        connection: Connection,
        kind: Kind,
        verb: str,
        before: Row | None,
        after: Row | None,
        by: Identity | None,
    ) -> None:
        """Add a change to the history of its tag, and say it to everybody."""
        row = after or before
        assert row is not None
        name = by.subject if by is not None else row["created_by"]
        self.stores[kind.letter].record(connection, verb, name, before, after)
        self._events.say(connection, "tag", verb, row["tag_label"], row)

    def _found(self, connection: Connection, kind: Kind, number: int) -> Row:
        row = self.stores[kind.letter].get(connection, number, lock=True)
        if row is None:
            raise not_found(kind.model)
        return row


def _insist_on_category(connection: Connection, given: Any) -> None:
    """Refuse a physics tag without a category that exists, before anything else is looked at (contract 5.3)."""
    if not given:
        raise Invalid({"category": [REQUIRED]})
    if not isinstance(given, str | int):
        given = type(given).__name__
    try:
        digit = int(given) if not isinstance(given, bool) else None
    except ValueError:
        digit = None
    if digit is None or not 1 <= digit <= 9 or not CategoryStore(connection).exists(digit):
        shown = printable(given[:100]) if isinstance(given, str) else given
        raise Invalid({"category": [f"Category {shown} does not exist."]})
