"""Production tasks: names, life cycle, commands, attempts (contract 10.4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt, Resource
from sluice_core.rest.errors import not_found
from sluice_core.rest.fields import printable
from sluice_pcs.events import Events
from sluice_pcs.kinds import KINDS
from sluice_pcs.service import artifacts, overrides
from sluice_pcs.service.artifacts import Composition, Incomplete
from sluice_pcs.service.computing import unknown_names
from sluice_pcs.service.rights import claim, insist_on_own
from sluice_pcs.store.tasks import TaskStore

__all__ = ["FORMATS", "MOST_DIDS", "TRANSITIONS", "VERBS", "Tasks", "complete", "insist_on_way"]

T = TypeVar("T")
Row = dict[str, Any]

MOST_DIDS = 1000
VERBS = ("command", "intake", "record-submission", "record-submission-failure")
FORMATS = ("condor", "panda", "jedi", "evgen", "dump")
TRANSITIONS: Mapping[str, Sequence[str]] = {
    "draft": ["ready"],
    "ready": ["draft", "submitted"],
    "submitted": ["completed", "failed"],
    "completed": [],
    "failed": [],
}


class Tasks:
    """Production tasks.

    Parameters
    ----------
    tasks, datasets, configs
        Their resources, as declared; `resource` has the rules of tasks.
    tags
        The resources of tags by the letters of their kinds; their key is the id.
    transformation
        URL of PanDA's transformation where a configuration names none.
    """

    def __init__(
        self,
        database: Database,
        tasks: Resource,
        datasets: Resource,
        configs: Resource,
        tags: Mapping[str, Resource],
        events: Events,
        *,
        transformation: str,
    ) -> None:
        self._database = database
        self._configs = configs
        self._events = events
        self._transformation = transformation
        self.store = TaskStore(tasks, datasets, configs, {kind.name: tags[kind.letter] for kind in KINDS})
        self.resource = replace(
            tasks,
            resolve=self._resolve,
            admit=self._admit,
            prepare=self._prepare,
            on_change=events.following("task", "name"),
        )

    async def command(self, name: str, fmt: str, *, attempt: int | None = None, residual: bool = False) -> Any:
        """Return a text, or an object, that a task is submitted with; nothing is written.

        Parameters
        ----------
        fmt
            One of `FORMATS`.
        attempt
            Id of the attempt that ``evgen`` is for.
        residual
            Only what attempts before have not made.

        Raises
        ------
        ApiError
            404, 409: no task, or several, are called so; 400: something is missing.
        """

        def work(connection: Connection) -> Any:
            key = self._called(connection, name, {"detail": f"No task named '{printable(name)}'"})
            found = self.composition(connection, self.get(connection, key))
            if fmt != "evgen":
                return self._artifact(found, fmt)
            number, text = 1, found.dataset["dataset_name"]
            if attempt is not None:
                row = self.store.attempt(connection, attempt)
                if row is None or row["prod_task"] != key:
                    raise ApiError(404, {"detail": "No such attempt of this task."})
                number, text = row["try_number"], row["task_name"]
            outputs = self.store.outputs(connection, key) if residual else None
            return complete(partial(artifacts.evgen, found, text, number, outputs))

        return await self._database.run(self._database.read, work)

    async def generate(self, name: str, caller: Identity | None) -> dict[str, str]:
        """Store both commands with the task, and return them.

        Raises
        ------
        ApiError
            404, 409; 403: somebody else's task.
        """

        def work(connection: Connection, task: Row) -> dict[str, str]:
            found = self.composition(connection, task)
            commands = {f"{fmt}_command": self._artifact(found, fmt) for fmt in ("condor", "panda")}
            self.put(connection, task, commands, "updated")
            return commands

        return await self.change(name, caller, work)

    async def move(self, name: str, status: Any, caller: Identity | None) -> Row:
        """Move a task on in its life.

        Raises
        ------
        ApiError
            404, 409; 403: somebody else's task; 400: no such way, or it is not ready.
        """
        if not isinstance(status, str) or status not in TRANSITIONS:
            raise ApiError(400, {"detail": f"Invalid status. Choose from: {', '.join(sorted(TRANSITIONS))}"})

        def work(connection: Connection, task: Row) -> Row:
            insist_on_way(task["status"], status)
            if status == "ready" and (problems := self._problems(self.composition(connection, task))):
                raise ApiError(400, {"detail": f"Cannot lock — task is not ready: {'; '.join(problems)}"})
            return self.put(connection, task, {"status": status}, status)

        return await self.change(name, caller, work)

    async def link(self, name: str, dids: Sequence[str], caller: Identity | None) -> Row:
        """Say which data sets are the input of a draft.

        Raises
        ------
        ApiError
            404, 409; 403: somebody else's task; 400: an unknown DID, or no draft.
        """

        def work(connection: Connection, task: Row) -> Row:
            _insist_on_draft(task)
            if unknown := self.unknown(connection, dids):
                raise ApiError(400, {"detail": unknown})
            return self.put(
                connection, task, {"overrides": {**(task["overrides"] or {}), "input_dids": list(dids)}}, "updated"
            )

        return await self.change(name, caller, work)

    # Rules of the resource

    def _resolve(self, connection: Connection, text: str) -> int:
        return self._called(connection, text, {"detail": "No ProdTask matches the given query."})

    def _admit(self, _: Connection, attempt: Attempt) -> None:
        if attempt.before is not None:
            insist_on_own(attempt.by, attempt.before["created_by"], "change", "this task")
            _insist_on_draft(attempt.before)

    def _prepare(self, connection: Connection, attempt: Attempt) -> None:
        claim(connection, attempt)
        said = attempt.values.get("overrides") or {}
        messages = overrides.complaints(self._configs, said)
        dids = said.get("input_dids", [])
        if not isinstance(dids, list) or len(dids) > MOST_DIDS or not all(isinstance(each, str) for each in dids):
            messages.append("input_dids: a list of DIDs is required.")
        elif unknown := self.unknown(connection, dids):
            messages.append(f"input_dids: {unknown}")
        name = attempt.values.get("name")
        if name is not None and (name in VERBS or not name.strip(".")):
            attempt.errors.setdefault("name", []).append("This means something else in a path.")
        if not messages:
            messages = [f"{name}: {message}" for name, message in unknown_names(connection, said).items()]
        if messages:
            attempt.errors.setdefault("overrides", []).extend(messages)

    def unknown(self, connection: Connection, dids: Sequence[str]) -> str:
        """Say which of these DIDs is that of no data set; empty when all are known."""
        known = self.store.locations(connection, dids) if dids else {}
        return next((f"Unknown dataset: {printable(did)}" for did in dids if did not in known), "")

    # What it is made of

    def composition(self, connection: Connection, task: Row) -> Composition:
        """Return a task with everything that it refers to."""
        dataset = self.store.dataset(connection, task["dataset"])
        stored = self.store.config(connection, task["prod_config"])
        keys = {kind.name: dataset[f"{kind.name}_tag"] for kind in KINDS}
        dids = (task["overrides"] or {}).get("input_dids", [])
        known = self.store.locations(connection, dids) if dids else {}
        return Composition(
            task=task,
            dataset=dataset,
            tags={name: self.store.tag(connection, name, key) for name, key in keys.items() if key is not None},
            stored=stored,
            config=overrides.effective(self._configs, stored, task["overrides"]),
            campaign=self.store.campaign(connection, task["campaign"] or dataset["campaign"]),
            inputs=[known.get(did) or did for did in dids],
        )

    def _artifact(self, composition: Composition, fmt: str) -> Any:
        if fmt == "jedi":
            return artifacts.jedi(composition, self._transformation)
        makers: Mapping[str, Callable[[Composition], Any]] = {
            "condor": artifacts.condor,
            "panda": artifacts.panda,
            "dump": artifacts.dump,
        }
        return makers[fmt](composition)

    def _problems(self, composition: Composition) -> list[str]:
        """Say what hinders the submission of a task."""
        config, found = composition.config, []
        if not config["copy_reco"] and not config["copy_full"]:
            found.append("no output: copy_reco and copy_full are both off")
        if not composition.csv and composition.data.get("workflow_mode") != "internal_evgen":
            found.append("no matched input")
        if config["bg_mixing"] and not composition.background():
            found.append("background mixing is on, and no tag has background parameters")
        tag = composition.tags["physics"]["parameters"]
        mine = (str(tag.get("beam_energy_electron", "")), str(tag.get("beam_energy_hadron", "")))
        said = artifacts.beams(composition.catalogue())
        if said is not None and all(each.isdigit() for each in mine) and said != mine:
            found.append(f"catalogue beam {'x'.join(said)} is not that of the physics tag, {'x'.join(mine)}")
        return found

    # Common

    def _called(self, connection: Connection, text: str, absent: Mapping[str, str]) -> int:
        found = [] if "\x00" in text else self.store.called(connection, text)
        if not found:
            raise ApiError(404, dict(absent))
        if len(found) > 1:
            candidates = [name for _, name in found]
            raise ApiError(409, {"detail": f"Several tasks are called '{text}'.", "candidates": candidates})
        return found[0][0]

    def get(self, connection: Connection, key: int, *, lock: bool = False) -> Row:
        """Return a task; 404 when there is none."""
        row = self.store.get(connection, key, lock=lock)
        if row is None:
            raise not_found("ProdTask")
        return row

    async def look(self, name: str, work: Callable[[Connection, Row], T]) -> T:
        """Look at a task, and what belongs to it."""

        def found(connection: Connection) -> T:
            return work(connection, self.get(connection, self._resolve(connection, name)))

        answer: T = await self._database.run(self._database.read, found)
        return answer

    async def change(self, name: str, caller: Identity | None, work: Callable[[Connection, Row], T]) -> T:
        """Do something with a task of the caller\'s that nobody else changes meanwhile."""

        def alone(connection: Connection) -> T:
            task = self.get(connection, self._resolve(connection, name), lock=True)
            insist_on_own(caller, task["created_by"], "change", "this task")
            return work(connection, task)

        found: T = await self._database.run(self._database.transact, alone)
        return found

    def put(self, connection: Connection, task: Row, values: Mapping[str, Any], verb: str) -> Row:
        """Write columns of a task, and say it to everybody."""
        row = self.store.put(connection, task["id"], values)
        self._events.say(connection, "task", verb, row["name"], row)
        return row


def insist_on_way(before: str, after: str) -> None:
    """Refuse a step that the life of a task has not."""
    ways = TRANSITIONS[before]
    if after not in ways:
        allowed = list(ways) or "(terminal)"
        raise ApiError(
            400, {"detail": f"Cannot transition from '{before}' to '{after}'. Allowed from '{before}': {allowed}"}
        )


def _insist_on_draft(task: Row) -> None:
    """Refuse to change what was looked at before its submission."""
    if task["status"] != "draft":
        terminal = "" if TRANSITIONS[task["status"]] else " (terminal)"
        detail = f"Task {task['name']} is {task['status']}{terminal} and cannot be modified."
        raise ApiError(400, {"detail": detail})


def complete(make: Callable[[], Any]) -> Any:
    """Make an artifact, or refuse it for what is missing."""
    try:
        return make()
    except Incomplete as exc:
        raise ApiError(400, {"detail": printable(str(exc))}) from None
