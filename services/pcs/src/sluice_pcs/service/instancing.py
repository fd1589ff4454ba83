"""Editions of physics configurations: the next campaign's from those of the one before (contract 10.3)."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, FieldError, Resource
from sluice_core.rest.errors import not_found
from sluice_core.rest.store import ResourceStore
from sluice_pcs.events import Events
from sluice_pcs.kinds import RECO, SIMU
from sluice_pcs.service import names
from sluice_pcs.service.datasets import LONGEST_DID
from sluice_pcs.service.rights import insist_on_own
from sluice_pcs.store.campaigns import CampaignStore
from sluice_pcs.store.editions import CARRIED, EditionStore

__all__ = ["CLASSES", "Instancing"]

Row = dict[str, Any]

CLASSES = (
    "merge",
    "aligned",
    "mint",
    "hold",
    "final",
    "no_context",
    "name_collision",
    "unresolved",
    "conflicting",
)
CHANGED = "The plan is another one by now; look at it again."


@dataclass
class _Entry:
    """What becomes of the editions of one configuration.

    Attributes
    ----------
    kind
        One of `CLASSES`.
    config
        Label of the configuration; None where nobody knows.
    sources
        Names of the editions.
    target
        Name of the edition to be, or that is there.
    reason
        Why none is made.
    edition, task
        Columns of what is made; None where none is.
    """

    kind: str
    config: str | None
    sources: Sequence[str]
    target: str | None = None
    reason: str = ""
    edition: Row | None = None
    task: Row | None = None

    def shown(self) -> Row:
        return {
            "class": self.kind,
            "config": self.config,
            "sources": self.sources,
            "target": self.target,
            "task": self.task,
            "reason": self.reason,
        }


@dataclass
class _Plan:
    """What an execution would do."""

    source: Row
    target: Row
    entries: list[_Entry] = field(default_factory=list)

    def shown(self) -> Row:
        counts = Counter(entry.kind for entry in self.entries)
        shown = {
            "source": self.source["name"],
            "campaign": self.target["name"],
            "counts": {kind: counts[kind] for kind in CLASSES},
            "entries": [entry.shown() for entry in self.entries],
        }
        said = json.dumps([shown, [entry.edition for entry in self.entries]], sort_keys=True)
        return {**shown, "digest": hashlib.sha256(said.encode()).hexdigest()}


class _Context:
    """What a campaign's ``data`` say of its editions: detector, simulation, reconstruction."""

    def __init__(self, datasets: Resource, data: Any) -> None:
        self._said = data if isinstance(data, dict) else {}
        self._datasets = datasets
        self.wrong = ""
        self.tags: dict[str, tuple[int, str]] = {}
        self.version = self._text("detector_version")
        self.config = self._text("detector_config")
        needed = ("detector_version", "simu_tag", "reco_tag")
        self.missing = ", ".join(name for name in needed if self._said.get(name) in (None, ""))

    def _text(self, name: str) -> str | None:
        if self._said.get(name) in (None, ""):
            return None
        try:
            value: str = self._datasets.field(name).parse(self._said[name], UTC)
        except FieldError as exc:
            self.wrong = f"{name}: {' '.join(exc.args)}"
            return None
        return value

    def look_up(self, connection: Connection, store: EditionStore, *, require_locked: bool) -> None:
        """Find the tags."""
        for kind in (SIMU, RECO):
            name = f"{kind.name}_tag"
            label = self._said.get(name)
            if label in (None, ""):
                continue
            found = None
            if isinstance(label, str) and label.isprintable():
                found = store.labelled(connection, kind.letter, label)
            if found is None:
                self.wrong = self.wrong or f"{name}: there is no such tag."
            elif require_locked and found[1] != "locked":
                self.wrong = self.wrong or f"{name}: Tag {label} must be locked before use in a dataset."
            else:
                self.tags[name] = (found[0], str(label))


class Instancing:
    """Plans the editions of a campaign, and makes them as they were planned.

    Parameters
    ----------
    campaigns, datasets, tasks, configs
        Their resources; that of physics configurations is read by label.
    require_locked
        Refuse drafts in a data set.
    """

    def __init__(
        self,
        database: Database,
        campaigns: Resource,
        datasets: Resource,
        tasks: Resource,
        configs: Resource,
        events: Events,
        *,
        require_locked: bool,
    ) -> None:
        self._database = database
        self._events = events
        self._require_locked = require_locked
        self._campaigns = CampaignStore(campaigns)
        self._datasets = ResourceStore(datasets)
        self._tasks = ResourceStore(tasks)
        self._store = EditionStore(configs)

    async def plan(self, key: int, source: int | None) -> Row:
        """Say what would become of the editions of another campaign.

        Parameters
        ----------
        key
            The campaign that gets editions.
        source
            The one that has them; None: the one that this one is a clone of.

        Returns
        -------
        dict
            ``entries``, each with its ``class``, ``counts``, and the ``digest`` by which it can be executed.

        Raises
        ------
        ApiError
            404; 400: no source.
        """
        found: _Plan = await self._database.run(
            self._database.transact, lambda connection: self._plan(connection, key, source)
        )
        return found.shown()

    async def execute(self, key: int, source: int | None, digest: str, caller: Identity) -> Row:
        """Make the editions, and a draft task for each that had one; all or none.

        Parameters
        ----------
        digest
            Of the plan that was looked at.

        Raises
        ------
        ApiError
            As `plan`; 403: somebody else's campaign; 409: the plan is another one by now.
        """

        def work(connection: Connection) -> Row:
            self._campaigns.hold_all(connection)
            plan = self._plan(connection, key, source)
            insist_on_own(caller, plan.target["created_by"], "change", "this campaign")
            shown = plan.shown()
            if shown["digest"] != digest:
                raise ApiError(409, {"detail": CHANGED})
            for entry in plan.entries:
                self._make(connection, entry, caller)
            return shown

        try:
            return await self._database.run(self._database.transact, work)
        except IntegrityError:
            # Somebody else took a name, or removed what is referred to.
            raise ApiError(409, {"detail": CHANGED}) from None

    def _make(self, connection: Connection, entry: _Entry, caller: Identity) -> None:
        if entry.edition is None:
            return
        by = {"created_by": caller.subject}
        row = self._datasets.insert(connection, {**entry.edition, **by})
        self._events.say(connection, "dataset", "created", row["dataset_name"], row)
        if entry.task is not None:
            task = self._tasks.insert(
                connection,
                {
                    **entry.task,
                    **by,
                    "dataset": row["id"],
                    "campaign": row["campaign"],
                    "status": "draft",
                    "overrides": None,
                    "condor_command": "",
                    "panda_command": "",
                    "condor_cluster_id": "",
                },
            )
            self._events.say(connection, "task", "created", task["name"], task)

    def _plan(self, connection: Connection, key: int, source: int | None) -> _Plan:
        target = self._campaign(connection, key)
        before = source if source is not None else target["clone_of"]
        if before is None:
            raise ApiError(400, {"source": ["This campaign is no clone: name the one before."]})
        if before == key:
            raise ApiError(400, {"source": ["This is the campaign itself."]})
        plan = _Plan(self._campaign(connection, before), target)
        context = _Context(self._datasets.resource, target["data"])
        context.look_up(connection, self._store, require_locked=self._require_locked)
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self._store.editions(connection, before):
            groups.setdefault(_group(row, context.config), []).append(row)
        mine = {_group(row, None): row["dataset_name"] for row in self._store.editions(connection, key)}
        tasks: dict[str, list[Row]] = {}
        for task in self._store.tasks(connection, before):
            tasks.setdefault(task["dataset_name"], []).append(task)
        for group, rows in groups.items():
            carried = [task for row in rows for task in tasks.get(row["dataset_name"], [])]
            plan.entries.append(_judge(rows, carried, mine.get(group), context, target["id"]))
        wanted = [entry.target for entry in plan.entries if entry.edition is not None and entry.target]
        taken = self._store.taken(connection, wanted) if wanted else set()
        for entry in plan.entries:
            if entry.edition is not None and entry.target in taken:
                entry.kind, entry.reason = "name_collision", "A dataset or task outside of the campaign has this name."
                entry.edition = entry.task = None
            elif entry.edition is not None and entry.target is not None:
                taken.add(entry.target)
        return plan

    def _campaign(self, connection: Connection, key: int) -> Row:
        row = self._campaigns.get(connection, key)
        if row is None:
            raise not_found("Campaign")
        return row


def _group(row: Mapping[str, Any], config: str | None) -> tuple[Any, ...]:
    """Return what editions of one configuration have in common; one that nobody knows stands for itself."""
    identity = row["physics_config"] if row["physics_config"] is not None else row["dataset_name"]
    return identity, row["scope"], config or row["detector_config"]


def _judge(rows: Sequence[Row], tasks: Sequence[Row], known: str | None, context: _Context, campaign: int) -> _Entry:
    """Say what becomes of the editions of one configuration."""
    entry = _Entry("mint", rows[-1]["config"], [row["dataset_name"] for row in rows])

    def refused(kind: str, reason: str = "") -> _Entry:
        entry.kind, entry.reason = kind, reason
        return entry

    states = {row["propagation"] for row in rows}
    going = [row for row in rows if row["propagation"] == "continue"]
    if entry.config is None:
        return refused("unresolved", "The event generation tag names no generator and version.")
    if not going:
        return refused("hold" if "hold" in states else "final")
    if known is not None:
        entry.target = known
        return refused("aligned")
    if "hold" in states:
        return refused("conflicting", "One edition is held, and another goes on.")
    if context.missing:
        return refused("no_context", f"The campaign's data do not say: {context.missing}.")
    if context.wrong:
        return refused("unresolved", f"The campaign's data: {context.wrong}")
    newest = going[-1]
    went = {row["dataset_name"] for row in going}
    handed = [{name: task[name] for name in CARRIED} for task in tasks if task["dataset_name"] in went]
    if differing := sorted({name for each in handed for name in CARRIED if each[name] != handed[0][name]}):
        return refused("conflicting", f"Tasks differ in {', '.join(differing)}.")
    entry.kind = "merge" if len(going) > 1 else "mint"
    return _edition(entry, newest, handed[0] if handed else None, context, campaign)


def _edition(entry: _Entry, newest: Row, handed: Row | None, context: _Context, campaign: int) -> _Entry:
    """Add what is made."""
    assert context.version is not None
    config = context.config or newest["detector_config"]
    (simu, simu_label), (reco, reco_label) = context.tags["simu_tag"], context.tags["reco_tag"]
    background = [newest["k"]] if newest["k"] else []
    labels = [newest["p"], newest["e"], simu_label, reco_label, *background]
    name = names.compose(newest["scope"], context.version, config, labels, newest["sample_name"])
    did = names.did(newest["scope"], name, 1)
    entry.target = name
    if len(name) > names.MOST_CHARACTERS or len(did) > LONGEST_DID:
        entry.kind, entry.reason = "unresolved", "The name would be too long."
        return entry
    metadata = newest["metadata"] if isinstance(newest["metadata"], dict) else {}
    # Where the generated events are stays; what was said of the edition before does not hold for this one.
    source = {key: metadata[key] for key in ("stage", "source") if key in metadata}
    entry.edition = {
        "dataset_name": name,
        "did": did,
        "scope": newest["scope"],
        "detector_version": context.version,
        "detector_config": config,
        **{key: newest[key] for key in ("physics_tag", "evgen_tag", "background_tag", "sample_name", "description")},
        "simu_tag": simu,
        "reco_tag": reco,
        "physics_config": newest["physics_config"],
        "campaign": campaign,
        "block_num": 1,
        "blocks": 1,
        "file_count": 0,
        "data_size": 0,
        "metadata": source or None,
        "propagation": "continue",
        "replaced_by": "",
        "expected_events_source": "",
    }
    if handed is not None:
        entry.task = {"name": name, **handed}
    return entry
