"""Campaigns as files: categories and tags of all kinds, in and out (contract 8)."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError
from sluice_pcs.events import Events
from sluice_pcs.kinds import KINDS, PHYSICS, Kind
from sluice_pcs.service.definitions import Definition, Definitions, complaints
from sluice_pcs.service.tags import Tags
from sluice_pcs.store.numbers import Numbers
from sluice_pcs.store.tags import CategoryStore

__all__ = ["FORMAT", "VERSION", "Transfer"]

Row = dict[str, Any]
FORMAT, VERSION = "pcs-campaign-seed", 1


class _Undo(Exception):
    """Carries the report of a dry run out of its transaction."""

    def __init__(self, report: "_Report") -> None:
        super().__init__()
        self.report = report


class _Report:
    """What an import did, or would do."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.unchanged: list[str] = []
        self.different: list[dict[str, str]] = []

    def differs(self, name: str, reason: str) -> None:
        self.different.append({"name": name, "reason": reason})

    def shown(self, *, dry_run: bool) -> dict[str, Any]:
        return {
            "dry_run": dry_run,
            "counts": {name: len(getattr(self, name)) for name in ("created", "unchanged", "different")},
            "created": self.created,
            "unchanged": self.unchanged,
            "different": self.different,
        }


class _Rules(NamedTuple):
    """What holds for all tags of one kind in one import."""

    defs: Sequence[Definition]
    digits: Collection[int]
    author: str
    status: str
    caller: Identity


class Transfer:
    """Reads and writes campaigns, each in one transaction."""

    def __init__(self, database: Database, tags: Tags, definitions: Definitions, events: Events) -> None:
        self._database = database
        self._tags = tags
        self._definitions = definitions
        self._events = events

    async def take(
        self, campaign: Mapping[str, Any], caller: Identity, *, created_by: str | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Store what a campaign has and we do not; what we have stays as it is.

        Categories are known by their digits, physics tags by category and parameters, other tags by their numbers.
        A physics tag whose number is taken by another one gets the next number.

        Parameters
        ----------
        campaign
            As a file of format 1, checked.
        created_by
            Creator of what is new, where the file names none for it; None: the file's ``seed_author``.
        dry_run
            Only say what would happen.

        Returns
        -------
        dict
            ``created``, ``unchanged`` and ``different``, with ``counts``.

        Raises
        ------
        ApiError
            400: parameters are missing, or of a wrong type; 409: a category is full.
        """
        author = created_by or campaign.get("seed_author") or caller.subject

        def work(connection: Connection) -> _Report:
            report = _Report()
            numbers = Numbers(connection)
            for kind in KINDS:
                # Whoever makes tags, or imports others, waits.
                numbers.at_least(kind.name)
            digits = self._categories(connection, report, campaign["categories"], author)
            for kind in KINDS:
                defs = self._definitions.of(connection, kind)
                rules = _Rules(defs, digits, author, campaign["initial_status"], caller)
                for tag in campaign["tags"].get(kind.letter, ()):
                    self._tag(connection, report, kind, tag, rules)
                modulo = 1000 if kind == PHYSICS else None
                highest = self._tags.stores[kind.letter].highest(connection, modulo)
                numbers.at_least(kind.name, highest + 1)
            if dry_run:
                raise _Undo(report)
            return report

        try:
            report: _Report = await self._database.run(self._database.transact, work)
        except _Undo as exc:
            report = exc.report
        return report.shown(dry_run=dry_run)

    async def give(self, name: str = "") -> dict[str, Any]:
        """Return everything as one campaign that `take` takes.

        Parameters
        ----------
        name
            Of the campaign.
        """
        found: Row = await self._database.run(self._database.transact, lambda connection: self._give(connection, name))
        return found

    def _categories(
        self, connection: Connection, report: _Report, given: Sequence[Mapping[str, Any]], author: str
    ) -> Collection[int]:
        """Store new categories; return the digits of all."""
        store = CategoryStore(connection)
        store.hold()
        known = {row["digit"]: row for row in store.all()}
        names = {row["name"]: row["digit"] for row in known.values()}
        for each in given:
            digit, title = each["digit"], f"category {each['digit']}"
            new = {"digit": digit, "name": each["name"], "description": each.get("description", "")}
            if (row := known.get(digit)) is not None:
                if all(row[name] == value for name, value in new.items()):
                    report.unchanged.append(title)
                else:
                    report.differs(title, f"it is {row['name']!r} here")
            elif new["name"] in names:
                report.differs(title, f"{new['name']!r} is category {names[new['name']]} here")
            else:
                row = store.add({**new, "created_by": author})
                known[digit], names[row["name"]] = row, digit
                self._events.say(connection, "category", "created", str(digit), row)
                report.created.append(title)
        return known.keys()

    def _tag(
        self,
        connection: Connection,
        report: _Report,
        kind: Kind,
        given: Mapping[str, Any],
        rules: "_Rules",
    ) -> None:
        store, number, parameters = self._tags.stores[kind.letter], given["number"], given["parameters"]
        digit = given.get("category_digit")
        label = kind.label(number)
        if kind == PHYSICS:
            if digit not in rules.digits:
                raise ApiError(400, {f"tags.{label}": [f"Category {digit} does not exist."]})
            found = store.like(connection, parameters, digit)
            taken = store.get(connection, number) is not None or store.was_given(connection, number)
            if taken or number // 1000 != digit or number % 1000 == 0:
                number = None
        else:
            found = store.get(connection, number)
            if found is None and store.was_given(connection, number):
                return report.differs(label, "it was deleted here")
        if found is not None:
            label = found["tag_label"]
            changed = [name for name in ("parameters", "description") if found[name] != given[name]]
            if changed:
                return report.differs(label, f"another {' and '.join(changed)} here")
            report.unchanged.append(label)
            return None
        if errors := complaints(rules.defs, parameters, digit):
            raise ApiError(400, {f"tags.{label}": errors})
        if number is None:
            number = self._tags.number(connection, kind, digit)
        row = store.insert(
            connection,
            {
                "tag_number": number,
                "tag_label": kind.label(number),
                **({"category": digit} if kind == PHYSICS else {}),
                "status": "draft",
                "description": given["description"],
                "parameters": parameters,
                "created_by": given.get("created_by") or rules.author,
            },
        )
        self._tags.tell(connection, kind, "created", None, row, rules.caller)
        if (given.get("status") or rules.status) == "locked":
            self._tags.tell(connection, kind, "locked", row, store.lock(connection, number), rules.caller)
        report.created.append(row["tag_label"])
        return None

    def _give(self, connection: Connection, name: str) -> dict[str, Any]:
        categories = CategoryStore(connection).all()
        tags = {kind.letter: self._tags.stores[kind.letter].all(connection) for kind in KINDS}
        every = [row for rows in tags.values() for row in rows]
        # Most have one creator: it is said once.
        authors = Counter(row["created_by"] for row in every).most_common(1)
        author = authors[0][0] if authors else ""
        numbers = Numbers(connection)
        return {
            "format": FORMAT,
            "format_version": VERSION,
            "campaign": {"name": name},
            "seed_author": author,
            "initial_status": "draft",
            "expected_counts": {
                "categories": len(categories),
                **{kind.name: len(tags[kind.letter]) for kind in KINDS},
                "total": len(categories) + len(every),
            },
            "counters_after_seed": {f"pcs_next_{kind.name}": numbers.next(kind.name) for kind in KINDS},
            "categories": [{field: row[field] for field in ("digit", "name", "description")} for row in categories],
            "tags": {kind.letter: [_shown(kind, row, author) for row in tags[kind.letter]] for kind in KINDS},
            "parameter_schemas": {
                kind.letter: {
                    "prefix": kind.letter,
                    "display_name": kind.title,
                    "fields": self._definitions.of(connection, kind),
                }
                for kind in KINDS
            },
        }


def _shown(kind: Kind, row: Row, author: str) -> Row:
    found = {"label": row["tag_label"], "number": row["tag_number"]}
    if kind == PHYSICS:
        found |= {"suffix": row["tag_number"] % 1000, "category_digit": row["category"]}
    found |= {"description": row["description"], "parameters": row["parameters"]}
    if row["created_by"] != author:
        found["created_by"] = row["created_by"]
    if row["status"] != "draft":
        found["status"] = row["status"]
    return found
