"""What production managers do to many data sets at once, and data sets that come from outside (contract 10.2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt, Resource
from sluice_core.rest.operations import Operations
from sluice_pcs.events import Events
from sluice_pcs.kinds import KINDS
from sluice_pcs.service.datasets import Datasets
from sluice_pcs.service.rights import insist_on_own
from sluice_pcs.store.editions import EditionStore

__all__ = ["Intake", "Requestors"]

Row = dict[str, Any]
Change = Callable[[Row], tuple[Row, Row] | None]


class _Known(Exception):
    """Somebody else has taken in the same place meanwhile."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class Intake:
    """Bulk changes, each with a comment and a history in the metadata; and data sets known by where their files are."""

    def __init__(self, database: Database, datasets: Datasets, events: Events, zone: tzinfo) -> None:
        self._database = database
        self._store = datasets.store
        self._rules = datasets.resource.prepare
        self._operations = Operations(replace(datasets.resource, prepare=self._prepare), database, zone)
        self._events = events

    async def propagate(
        self, names: Sequence[str], state: str, comment: str, replaced_by: str, caller: Identity
    ) -> dict[str, Any]:
        """Say whether data sets go on in the next campaign.

        Raises
        ------
        ApiError
            403: one is somebody else's; 400: one has metadata that are no object.
        """

        def change(row: Row) -> tuple[Row, Row] | None:
            if (row["propagation"], row["replaced_by"]) == (state, replaced_by):
                return None
            said = {"state": state, "previous": row["propagation"], "replaced_by": replaced_by}
            return {"propagation": state, "replaced_by": replaced_by}, said

        changes = dict.fromkeys(names, change)
        return {**await self._change("propagation", changes, comment, caller), "state": state}

    async def expect(self, entries: Sequence[Mapping[str, Any]], comment: str, caller: Identity) -> dict[str, Any]:
        """Say how many events are expected of data sets.

        Raises
        ------
        ApiError
            As `propagate`.
        """

        def change(entry: Mapping[str, Any]) -> Change:
            new = {"expected_events": entry["expected_events"], "expected_events_source": entry["source"]}

            def apply(row: Row) -> tuple[Row, Row] | None:
                if all(row[name] == value for name, value in new.items()):
                    return None
                return new, {**new, "previous": row["expected_events"]}

            return apply

        changes = {entry["name"]: change(entry) for entry in entries}
        return await self._change("expected_events", changes, comment, caller)

    async def take(self, given: Mapping[str, Any], caller: Identity) -> tuple[Row, bool]:
        """Return the data set whose files are at a place, and whether it is new.

        Parameters
        ----------
        given
            ``source_kind`` and ``source_location``, and what a new one is composed of; tags by their labels.

        Raises
        ------
        ApiError
            400: something is missing for a new one, or wrong; 409: it was composed already, for another place.
        """
        kind, place = given["source_kind"], given["source_location"]

        def look(connection: Connection) -> tuple[Row | None, dict[str, int | None]]:
            labels = {f"{each.name}_tag": given.get(f"{each.name}_tag") for each in KINDS}
            keys = {
                field: self._store.labelled(connection, each.letter, labels[field] or "")
                for each, field in zip(KINDS, labels, strict=True)
            }
            return self._store.at(connection, kind, place), keys

        row, keys = await self._database.run(self._database.read, look)
        if row is not None:
            return row, False
        wanted = ("detector_version", "detector_config", *(f"{each.name}_tag" for each in KINDS[:4]))
        if missing := [name for name in wanted if not given.get(name)]:
            detail = f"No existing Dataset for {kind}:{place}; creation requires: {', '.join(missing)}"
            raise ApiError(400, {"detail": detail})
        for field, key in keys.items():
            if given.get(field) and key is None:
                raise ApiError(400, {"detail": f"{field} not found: {given[field]}"})
        body = {
            **{name: given[name] for name in ("scope", "detector_version", "detector_config", "description")},
            **{field: key for field, key in keys.items() if key is not None},
            "metadata": {"stage": given["stage"], "source": {"kind": kind, "location": place}},
            "created_by": caller.subject,
        }
        try:
            return await self._database.run(self._operations.create, lambda: body, caller), True
        except _Known as exc:
            return exc.row, False

    def _prepare(self, connection: Connection, attempt: Attempt) -> None:
        if not attempt.errors:
            source = attempt.values["metadata"]["source"]
            self._store.claim_place(connection, source["kind"], source["location"])
            if (row := self._store.at(connection, source["kind"], source["location"])) is not None:
                raise _Known(row)
        if self._rules is not None:
            self._rules(connection, attempt)

    async def _change(self, what: str, changes: Mapping[str, Change], comment: str, caller: Identity) -> dict[str, Any]:
        log = str(uuid4())

        def work(connection: Connection) -> dict[str, Any]:
            found: dict[str, Any] = {"changed": [], "unchanged": [], "unknown": []}
            # In one order, so that two calls do not wait for each other.
            for name in sorted(changes):
                row = self._store.find(connection, name, 1)
                if row is None:
                    found["unknown"].append(name)
                    continue
                self._store.hold(connection, name)
                row = self._store.find(connection, name, 1)
                assert row is not None
                insist_on_own(caller, row["created_by"], "change", "this dataset")
                new = changes[name](row)
                if new is None:
                    found["unchanged"].append(name)
                    continue
                values, said = new
                entry = {**said, **_signed(comment, caller, log)}
                self._store.change(connection, name, {**values, "metadata": _with(row["metadata"], what, entry)})
                found["changed"].append(name)
                self._events.say(connection, "dataset", "updated", name, self._store.find(connection, name, 1))
            return {**found, "log_id": log}

        report: dict[str, Any] = await self._database.run(self._database.transact, work)
        return report


class Requestors:
    """Who asked for physics configurations (contract 10.3)."""

    def __init__(self, database: Database, configs: Resource, events: Events) -> None:
        self._database = database
        self._store = EditionStore(configs)
        self._events = events

    async def replace(self, entries: Mapping[str, Sequence[str]], comment: str, caller: Identity) -> dict[str, Any]:
        """Say who asked for configurations, by their labels."""
        log = str(uuid4())

        def work(connection: Connection) -> dict[str, Any]:
            found: dict[str, Any] = {"changed": [], "unchanged": [], "unknown": []}
            for label in sorted(entries):
                row = self._store.get(connection, label, lock=True)
                if row is None:
                    found["unknown"].append(label)
                    continue
                wanted = list(entries[label])
                if row["requestors"] == wanted:
                    found["unchanged"].append(label)
                    continue
                entry = {"requestors": wanted, "previous": row["requestors"], **_signed(comment, caller, log)}
                values = {"requestors": wanted, "metadata": _with(row["metadata"], "requestors", entry)}
                row = self._store.put(connection, label, values)
                self._events.say(connection, "physics-config", "updated", label, row)
                found["changed"].append(label)
            return {**found, "log_id": log}

        report: dict[str, Any] = await self._database.run(self._database.transact, work)
        return report


def _signed(comment: str, caller: Identity, log: str) -> Row:
    """Return what each line of a history has."""
    at = datetime.now(UTC).isoformat()
    return {"comment": comment, "changed_by": caller.subject, "changed_at": at, "log_id": log}


def _with(metadata: Any, what: str, entry: Row) -> Row:
    """Return metadata with one more line in a history."""
    known = {} if metadata is None else metadata
    part = known.get(what, {}) if isinstance(known, dict) else None
    history = part.get("history", []) if isinstance(part, dict) else None
    if not isinstance(history, list):
        raise ApiError(400, {"detail": f"The metadata of a dataset have no room for metadata.{what}.history."})
    return {**known, what: {**(part or {}), "history": [*history, entry]}}
