"""Production tasks: names, life cycle, commands, attempts (contract 10.4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt, FieldError, Json, Resource
from sluice_core.rest.errors import not_found
from sluice_core.rest.fields import printable
from sluice_core.rest.operations import Operations
from sluice_pcs.events import Events
from sluice_pcs.kinds import KINDS
from sluice_pcs.service import artifacts, overrides
from sluice_pcs.service.artifacts import Composition, Incomplete
from sluice_pcs.service.computing import unknown_names
from sluice_pcs.service.names import parse as parse_name
from sluice_pcs.service.rights import claim, insist_on_own
from sluice_pcs.store.tasks import TaskStore

__all__ = ["FORMATS", "Tasks", "catalogue_key"]

T = TypeVar("T")
Row = dict[str, Any]

FORMATS = ("condor", "panda", "jedi", "evgen", "dump")
TRANSITIONS: Mapping[str, Sequence[str]] = {
    "draft": ["ready"],
    "ready": ["draft", "submitted"],
    "submitted": ["completed", "failed"],
    "completed": [],
    "failed": [],
}
LARGEST = 2**63 - 1
RESIDUAL = Json("residual", null=True)


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
        zone: tzinfo,
        transformation: str,
    ) -> None:
        self._database = database
        self._configs = configs
        self._events = events
        self._transformation = transformation
        self._store = TaskStore(tasks, datasets, configs, {kind.name: tags[kind.letter] for kind in KINDS})
        self.resource = replace(
            tasks,
            resolve=self._resolve,
            admit=self._admit,
            prepare=self._prepare,
            on_change=events.following("task", "name"),
        )
        self._operations = Operations(self.resource, database, zone)

    async def command(self, name: str, fmt: str, *, attempt: int | None = None) -> Any:
        """Return a text, or an object, that a task is submitted with; nothing is written.

        Parameters
        ----------
        fmt
            One of `FORMATS`.
        attempt
            Id of the attempt that ``evgen`` is for.

        Raises
        ------
        ApiError
            404, 409: no task, or several, are called so; 400: something is missing.
        """

        def work(connection: Connection) -> Any:
            key = self._called(connection, name, {"detail": f"No task named '{printable(name)}'"})
            found = self._composition(connection, self._task(connection, key))
            if fmt != "evgen":
                return self._artifact(found, fmt)
            number, text = 1, found.dataset["dataset_name"]
            if attempt is not None:
                row = self._store.attempt(connection, attempt)
                if row is None or row["prod_task"] != key:
                    raise ApiError(404, {"detail": "No such attempt of this task."})
                number, text = row["try_number"], row["task_name"]
            return _complete(partial(artifacts.evgen, found, text, number))

        return await self._database.run(self._database.read, work)

    async def generate(self, name: str, caller: Identity | None) -> dict[str, str]:
        """Store both commands with the task, and return them.

        Raises
        ------
        ApiError
            404, 409; 403: somebody else's task.
        """

        def work(connection: Connection, task: Row) -> dict[str, str]:
            found = self._composition(connection, task)
            commands = {f"{fmt}_command": self._artifact(found, fmt) for fmt in ("condor", "panda")}
            self._put(connection, task, commands, "updated")
            return commands

        return await self._change(name, caller, work)

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
            _insist_on_way(task["status"], status)
            if status == "ready" and (problems := self._problems(self._composition(connection, task))):
                raise ApiError(400, {"detail": f"Cannot lock — task is not ready: {'; '.join(problems)}"})
            return self._put(connection, task, {"status": status}, status)

        return await self._change(name, caller, work)

    async def submit(self, name: str, caller: Identity | None, *, dry_run: bool = False) -> Row:
        """Hand a ready task to whoever submits: the next attempt, and an event that asks for it.

        Parameters
        ----------
        dry_run
            Write nothing; return what would be handed over.

        Raises
        ------
        ApiError
            404; 403: somebody else's task; 409: it is submitted already; 400: it is not ready, or something is missing.
        """

        def work(connection: Connection, task: Row) -> Row:
            if task["status"] == "submitted":
                known = task["panda_task_id"]
                said = f"Already submitted as jediTaskID {known}." if known else "Already handed over for submission."
                raise ApiError(409, {"detail": said})
            _insist_on_way(task["status"], "submitted")
            found = self._composition(connection, task)
            number = len(self._store.attempts(connection, task["id"])) + 1
            text = _attempt_name(found.dataset["dataset_name"], number)
            spec = _complete(partial(artifacts.evgen, found, text, number))
            if dry_run:
                return {"dry_run": True, "panda_task_name": text, "spec": spec}
            attempt = self._store.add_attempt(
                connection,
                {"prod_task": task["id"], "try_number": number, "task_name": text, "status_snapshot": "queued"},
            )
            wanted = {
                "msg_type": "submit_evgen_task",
                "namespace": "prodops",
                "task_name": task["name"],
                "panda_tasks_id": attempt["id"],
                "panda_task_name": text,
                "owner": task["created_by"],
                "residual": False,
                "spec": spec,
            }
            self._events.say(connection, "task", "submission-wanted", task["name"], wanted)
            return self._put(connection, task, {"status": "submitted"}, "submitted")

        return await self._change(name, caller, work)

    async def record(self, name: str, given: Mapping[str, Any], caller: Identity | None) -> Row:
        """Bind a number of JEDI to an attempt of a task.

        Parameters
        ----------
        given
            ``jedi_task_id``; ``status``, ``panda_tasks_id``, ``panda_task_name`` and ``residual`` may be there.

        Raises
        ------
        ApiError
            400; 403: somebody else's task; 404; 409: the number is another task's, or the attempt has another one.
        """
        number = _integer(given.get("jedi_task_id"), "jedi_task_id")
        status = given.get("status", "submitted")
        if not isinstance(status, str) or status not in TRANSITIONS:
            raise ApiError(400, {"detail": f"Invalid status. Choose from: {', '.join(sorted(TRANSITIONS))}"})
        try:
            residual = RESIDUAL.parse(given.get("residual"), UTC)
        except FieldError as exc:
            raise ApiError(400, {"residual": list(exc.args)}) from None
        wanted = given.get("panda_tasks_id")
        wanted = None if wanted is None else _integer(wanted, "panda_tasks_id")

        def work(connection: Connection, task: Row) -> Row:
            known = self._store.submitted_as(connection, number)
            if known is not None and known["prod_task"] != task["id"]:
                raise ApiError(409, {"detail": f"jediTaskID {number} belongs to another task."})
            attempt = self._attempt_for(connection, task, known, wanted, given.get("panda_task_name"))
            if attempt["jedi_task_id"] not in (None, number):
                raise ApiError(409, {"detail": f"This attempt has jediTaskID {attempt['jedi_task_id']}."})
            values: Row = {"jedi_task_id": number, "status_snapshot": status}
            if residual is not None:
                values["metadata"] = {**(attempt["metadata"] or {}), "residual": residual}
            self._store.change_attempt(connection, attempt["id"], values)
            # What has ended stays ended: a late report is history.
            ended = not TRANSITIONS[task["status"]]
            change = {"panda_task_id": number} | ({} if ended else {"status": status})
            return self._put(connection, task, change, "submission-recorded")

        return await self._change(name, caller, work)

    async def record_failure(self, key: Any, reason: Any, caller: Identity | None) -> Row:
        """Say that an attempt was never submitted.

        Raises
        ------
        ApiError
            400; 403: somebody else's task; 404; 409: it was submitted.
        """
        number = _integer(key, "panda_tasks_id")
        if not isinstance(reason, str) or not reason.strip() or len(reason) > 2000 or "\x00" in reason:
            raise ApiError(400, {"detail": "reason must be a text of up to 2000 characters."})

        def work(connection: Connection) -> Row:
            attempt = self._store.attempt(connection, number)
            if attempt is None:
                raise ApiError(404, {"detail": "No such attempt."})
            task = self._task(connection, attempt["prod_task"], lock=True)
            insist_on_own(caller, task["created_by"], "change", "this task")
            attempt = self._store.attempt(connection, number)
            assert attempt is not None
            if attempt["jedi_task_id"] is not None:
                raise ApiError(409, {"detail": f"It was submitted as jediTaskID {attempt['jedi_task_id']}."})
            values = {"status_snapshot": "submit_failed", "metadata": {"reason": printable(reason)}}
            self._store.change_attempt(connection, number, values)
            change = {"status": "ready"} if task["status"] == "submitted" and task["panda_task_id"] is None else {}
            return self._put(connection, task, change, "submission-failed")

        row: Row = await self._database.run(self._database.transact, work)
        return row

    async def link(self, name: str, dids: Sequence[str], caller: Identity | None) -> Row:
        """Say which data sets are the input of a draft.

        Raises
        ------
        ApiError
            404, 409; 403: somebody else's task; 400: an unknown DID, or no draft.
        """

        def work(connection: Connection, task: Row) -> Row:
            _insist_on_draft(task)
            known = self._store.locations(connection, dids)
            if unknown := [did for did in dids if did not in known]:
                raise ApiError(400, {"detail": f"Unknown dataset: {printable(unknown[0])}"})
            return self._put(
                connection, task, {"overrides": {**(task["overrides"] or {}), "input_dids": list(dids)}}, "updated"
            )

        return await self._change(name, caller, work)

    async def take(
        self, given: Mapping[str, Any], parse: Callable[[int, int], Row], caller: Identity
    ) -> tuple[Row, bool]:
        """Return the task of an entry of the public catalogue, and whether it is new.

        Parameters
        ----------
        given
            ``overrides``, whose fields of the catalogue say which entry it is; ``name``, ``dataset`` (a name or DID)
            and ``prod_config`` (a name), which a new one needs.
        body_of
            Returns the body of a new task for the ids of data set and configuration.

        Raises
        ------
        ApiError
            400: something is missing for a new one, or unknown.
        """
        keys = catalogue_key(given["overrides"])

        def look(connection: Connection) -> tuple[Row | None, int | None, int | None]:
            row = self._store.of_catalogue(connection, keys)
            found = parse_name(given.get("dataset") or "")
            return (
                row,
                self._store.dataset_called(connection, found.base, found.block or 1),
                self._store.config_called(connection, given.get("prod_config") or ""),
            )

        row, data, config = await self._database.run(self._database.read, look)
        if row is not None:
            return row, False
        if missing := [name for name in ("name", "dataset", "prod_config") if not given.get(name)]:
            raise ApiError(400, {"detail": f"No existing task for this entry; creation requires: {', '.join(missing)}"})
        if data is None:
            raise ApiError(400, {"detail": f"dataset not found: {printable(given['dataset'])}"})
        if config is None:
            raise ApiError(400, {"detail": f"prod_config not found: {printable(given['prod_config'])}"})
        body = body_of(data, config)
        return await self._database.run(self._operations.create, lambda: body, caller), True

    async def operate(
        self, name: str, operation: str, number: int | None, more: Mapping[str, Any], caller: Identity | None
    ) -> Row:
        """Ask whoever submits to do something with what JEDI has of a task.

        Raises
        ------
        ApiError
            404; 403: somebody else's task; 409: JEDI has nothing of it, or not by this number.
        """

        def work(connection: Connection, task: Row) -> Row:
            jedi = number if number is not None else task["panda_task_id"]
            known = {each["jedi_task_id"] for each in self._store.attempts(connection, task["id"])} - {None}
            if jedi is None or jedi not in known:
                said = "has no JEDI task." if jedi is None else f"has no JEDI task {jedi}."
                raise ApiError(409, {"detail": f"Task {task['name']} {said}"})
            wanted = {
                "msg_type": "panda_task_operation",
                "namespace": "prodops",
                "task_name": task["name"],
                "jedi_task_id": jedi,
                "operation": operation,
                **more,
                "created_by": caller.subject if caller else task["created_by"],
            }
            self._events.say(connection, "task", "operation-wanted", task["name"], wanted)
            return {"queued": True, "operation": operation, "jedi_task_id": jedi}

        return await self._change(name, caller, work)

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
        if not isinstance(dids, list) or not all(isinstance(each, str) for each in dids):
            messages.append("input_dids: a list of DIDs is required.")
        if not messages:
            messages = [f"{name}: {message}" for name, message in unknown_names(connection, said).items()]
        if messages:
            attempt.errors.setdefault("overrides", []).extend(messages)

    # What it is made of

    def _composition(self, connection: Connection, task: Row) -> Composition:
        dataset = self._store.dataset(connection, task["dataset"])
        stored = self._store.config(connection, task["prod_config"])
        keys = {kind.name: dataset[f"{kind.name}_tag"] for kind in KINDS}
        dids = (task["overrides"] or {}).get("input_dids", [])
        known = self._store.locations(connection, dids) if dids else {}
        return Composition(
            task=task,
            dataset=dataset,
            tags={name: self._store.tag(connection, name, key) for name, key in keys.items() if key is not None},
            stored=stored,
            config=overrides.effective(self._configs, stored, task["overrides"]),
            campaign=self._store.campaign(connection, task["campaign"] or dataset["campaign"]),
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
        return found

    def _attempt_for(self, connection: Connection, task: Row, known: Row | None, wanted: int | None, name: Any) -> Row:
        """Return the attempt that a number is for: the one named, the one that has it, a free one, a new one."""
        attempts = self._store.attempts(connection, task["id"])
        if wanted is not None:
            found = next((each for each in attempts if each["id"] == wanted), None)
            if found is None:
                raise ApiError(404, {"detail": "No such attempt of this task."})
            return found
        if known is not None:
            return known
        free = [each for each in attempts if each["jedi_task_id"] is None and name in (None, each["task_name"])]
        if free := [each for each in free if each["status_snapshot"] != "submit_failed"]:
            return free[0]
        number = len(attempts) + 1
        text = _attempt_name(self._store.dataset(connection, task["dataset"])["dataset_name"], number)
        values = {"prod_task": task["id"], "try_number": number, "task_name": text, "status_snapshot": "submitted"}
        return self._store.add_attempt(connection, values)

    # Common

    def _called(self, connection: Connection, text: str, absent: Mapping[str, str]) -> int:
        found = [] if "\x00" in text else self._store.called(connection, text)
        if not found:
            raise ApiError(404, dict(absent))
        if len(found) > 1:
            candidates = [name for _, name in found]
            raise ApiError(409, {"detail": f"Several tasks are called '{text}'.", "candidates": candidates})
        return found[0][0]

    def _task(self, connection: Connection, key: int, *, lock: bool = False) -> Row:
        row = self._store.get(connection, key, lock=lock)
        if row is None:
            raise not_found("ProdTask")
        return row

    async def _change(self, name: str, caller: Identity | None, work: Callable[[Connection, Row], T]) -> T:
        def alone(connection: Connection) -> T:
            task = self._task(connection, self._resolve(connection, name), lock=True)
            insist_on_own(caller, task["created_by"], "change", "this task")
            return work(connection, task)

        found: T = await self._database.run(self._database.transact, alone)
        return found

    def _put(self, connection: Connection, task: Row, values: Mapping[str, Any], verb: str) -> Row:
        row = self._store.put(connection, task["id"], values)
        self._events.say(connection, "task", verb, row["name"], row)
        return row


def catalogue_key(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by which an entry of the public catalogue is known.

    Raises
    ------
    ApiError
        400: there are none.
    """
    for names in (("public_catalog_issue",), ("public_catalog_csv_path", "public_catalog_row_key")):
        if all(overrides.get(name) not in (None, "") for name in names):
            return {name: overrides[name] for name in names}
    detail = "public_catalog_issue, or public_catalog_csv_path and public_catalog_row_key, is required"
    raise ApiError(400, {"detail": detail})


def _attempt_name(composed: str, number: int) -> str:
    return composed if number == 1 else f"{composed}.try{number}"


def _insist_on_way(before: str, after: str) -> None:
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


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST:
        raise ApiError(400, {"detail": f"{name} must be an integer"})
    return value


def _complete(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Incomplete as exc:
        raise ApiError(400, {"detail": printable(str(exc))}) from None
