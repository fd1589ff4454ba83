"""What was submitted for production tasks: attempts, and what is asked of JEDI (contract 10.4, 10.7)."""

from collections.abc import Mapping
from datetime import UTC
from functools import partial
from typing import Any

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, FieldError, Json
from sluice_core.rest.fields import printable
from sluice_pcs.events import Events
from sluice_pcs.service import artifacts
from sluice_pcs.service.rights import insist_on_own
from sluice_pcs.service.tasks import TRANSITIONS, Tasks, complete, insist_on_way

__all__ = ["Submissions"]

Row = dict[str, Any]

LARGEST = 2**63 - 1
RESIDUAL = Json("residual", null=True)


class Submissions:
    """Attempts of production tasks; whoever submits them listens to the events."""

    def __init__(self, database: Database, tasks: Tasks, events: Events) -> None:
        self._database = database
        self._tasks = tasks
        self._store = tasks.store
        self._events = events

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
            insist_on_way(task["status"], "submitted")
            found = self._tasks.composition(connection, task)
            number = len(self._store.attempts(connection, task["id"])) + 1
            text = _attempt_name(found.dataset["dataset_name"], number)
            spec = complete(partial(artifacts.evgen, found, text, number))
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
            return self._tasks.put(connection, task, {"status": "submitted"}, "submitted")

        return await self._tasks.change(name, caller, work)

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
            self._store.claim_number(connection, number)
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
            return self._tasks.put(connection, task, change, "submission-recorded")

        return await self._tasks.change(name, caller, work)

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
            task = self._tasks.get(connection, attempt["prod_task"], lock=True)
            insist_on_own(caller, task["created_by"], "change", "this task")
            attempt = self._store.attempt(connection, number)
            assert attempt is not None
            if attempt["jedi_task_id"] is not None:
                raise ApiError(409, {"detail": f"It was submitted as jediTaskID {attempt['jedi_task_id']}."})
            values = {"status_snapshot": "submit_failed", "metadata": {"reason": printable(reason)}}
            self._store.change_attempt(connection, number, values)
            change = {"status": "ready"} if task["status"] == "submitted" and task["panda_task_id"] is None else {}
            return self._tasks.put(connection, task, change, "submission-failed")

        row: Row = await self._database.run(self._database.transact, work)
        return row

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

        return await self._tasks.change(name, caller, work)

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


def _attempt_name(composed: str, number: int) -> str:
    return composed if number == 1 else f"{composed}.try{number}"


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST:
        raise ApiError(400, {"detail": f"{name} must be an integer"})
    return value
