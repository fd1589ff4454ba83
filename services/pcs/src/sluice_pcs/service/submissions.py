"""What was submitted for production tasks: attempts, and what is asked of JEDI (contract 10.4, 10.7)."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

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
# Snapshot of an attempt that nobody could submit.
FAILED = "submit_failed"
# What JEDI has is neither a draft nor ready.
RECORDED = ("completed", "failed", "submitted")
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
            if dry_run:
                return self._next(connection, task).shown()
            self._hand_over(connection, task, self._next(connection, task))
            return self._tasks.put(connection, task, {"status": "submitted"}, "submitted")

        return await self._tasks.change(name, caller, work)

    async def preview(self, name: str) -> Row:
        """Say how much of a task is missing, or why nobody can say.

        Raises
        ------
        ApiError
            404, 409: no task, or several, are called so.
        """
        return await self._tasks.look(name, self._preview)

    async def rerun(self, name: str, caller: Identity | None, *, residual: bool = False) -> Row:
        """Hand a task that was submitted over once more: the next attempt.

        Parameters
        ----------
        residual
            Only what attempts before have not made.

        Raises
        ------
        ApiError
            404; 403: somebody else's task; 409: it was never submitted, or an attempt is on its way, or nothing is
            missing; 400: something is missing for a submission.
        """

        def work(connection: Connection, task: Row) -> Row:
            attempts = self._store.attempts(connection, task["id"])
            if not attempts or task["status"] in ("draft", "ready"):
                raise ApiError(409, {"detail": f"Task {task['name']} is {task['status']}: submit it."})
            if attempts[-1]["jedi_task_id"] is None and attempts[-1]["status_snapshot"] != FAILED:
                raise ApiError(409, {"detail": f"{attempts[-1]['task_name']} waits for its submission."})
            if residual and (refusal := self._preview(connection, task).get("refusal")):
                raise ApiError(409, {"detail": refusal})
            attempt = self._hand_over(connection, task, self._next(connection, task, residual=residual))
            self._tasks.put(connection, task, {"status": "submitted"}, "submitted")
            return {
                "queued": True,
                "operation": "rerun_residual" if residual else "rerun_entire_task",
                "panda_tasks_id": attempt["id"],
                "panda_task_name": attempt["task_name"],
            }

        return await self._tasks.change(name, caller, work)

    async def add_outputs(self, name: str, did: str, files: Sequence[str], caller: Identity | None) -> Row:
        """Record files that a task has made; those that are known already change nothing.

        Raises
        ------
        ApiError
            404; 403: somebody else's task; 400: it does not write into this data set.
        """

        def work(connection: Connection, task: Row) -> Row:
            if did not in task["output_dataset_dids"]:
                raise ApiError(400, {"detail": f"No output of this task: {printable(did)}"})
            added = self._store.add_outputs(connection, task["id"], did, files)
            if added:
                event = {"task_name": task["name"], "did": did, "added": added}
                self._events.say(connection, "task", "outputs-recorded", task["name"], event)
            return {"did": did, "added": added}

        return await self._tasks.change(name, caller, work)

    def _preview(self, connection: Connection, task: Row) -> Row:
        found = self._tasks.composition(connection, task)
        outputs = self._store.outputs(connection, task["id"])
        try:
            every = artifacts.evgen(found, "", 1)["nJobs"]
            missing = artifacts.evgen(found, "", 1, outputs)["nJobs"]
        except artifacts.Incomplete as exc:
            return {"refusal": printable(str(exc))}
        dids = self._store.output_dids(connection, task["id"])
        return {"rows_total": every, "rows_residual": missing, "checked_dids": dids}

    def _next(self, connection: Connection, task: Row, *, residual: bool = False) -> "_Next":
        """Return what the next attempt of a task would be."""
        found = self._tasks.composition(connection, task)
        number = len(self._store.attempts(connection, task["id"])) + 1
        name = _attempt_name(found.dataset["dataset_name"], number)
        outputs = self._store.outputs(connection, task["id"]) if residual else None
        return _Next(number, name, complete(partial(artifacts.evgen, found, name, number, outputs)))

    def _hand_over(self, connection: Connection, task: Row, following: "_Next") -> Row:
        """Store an attempt, and ask whoever submits for it."""
        attempt = self._store.add_attempt(
            connection,
            {
                "prod_task": task["id"],
                "try_number": following.number,
                "task_name": following.name,
                "site": following.spec["site"],
                "status_snapshot": "queued",
                "association_source": "submitted",
                "match_reason": "",
                # What the task goes back to when nobody can submit it.
                "metadata": {"status_before": task["status"]},
            },
        )
        message = {
            "msg_type": "submit_evgen_task",
            "namespace": "prodops",
            "task_name": task["name"],
            "panda_tasks_id": attempt["id"],
            "panda_task_name": following.name,
            "owner": task["created_by"],
            "residual": following.spec["residual"],
        }
        self._events.ask(connection, "submission-wanted", message, spec=following.spec)
        return attempt

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
        if status not in RECORDED:
            raise ApiError(400, {"detail": f"Invalid status. Choose from: {', '.join(RECORDED)}"})
        called = given.get("panda_task_name")
        if called is not None and not isinstance(called, str):
            raise ApiError(400, {"detail": "panda_task_name must be a text"})
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
            attempt, reason = self._attempt_for(connection, task, known, wanted, called)
            if attempt["jedi_task_id"] not in (None, number):
                raise ApiError(409, {"detail": f"This attempt has jediTaskID {attempt['jedi_task_id']}."})
            values: Row = {"jedi_task_id": number, "status_snapshot": status, "match_reason": reason}
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
            known = attempt["metadata"] or {}
            values = {"status_snapshot": FAILED, "metadata": {**known, "reason": printable(reason)}}
            self._store.change_attempt(connection, number, values)
            last = self._store.attempts(connection, task["id"])[-1]["id"] == number
            before = known.get("status_before")
            change = {"status": before} if last and before and task["status"] == "submitted" else {}
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
            message = {
                "msg_type": "panda_task_operation",
                "namespace": "prodops",
                "task_name": task["name"],
                "jedi_task_id": jedi,
                "operation": operation,
                **more,
                "created_by": caller.subject if caller else task["created_by"],
            }
            self._events.ask(connection, "operation-wanted", message)
            return {"queued": True, "operation": operation, "jedi_task_id": jedi}

        return await self._tasks.change(name, caller, work)

    def _attempt_for(
        self, connection: Connection, task: Row, known: Row | None, wanted: int | None, name: str | None
    ) -> tuple[Row, str]:
        """Return the attempt that a number is for, and why: one named, one that has it, a free one, a new one."""
        attempts = self._store.attempts(connection, task["id"])
        if wanted is not None:
            found = next((each for each in attempts if each["id"] == wanted), None)
            if found is None:
                raise ApiError(404, {"detail": "No such attempt of this task."})
            return found, "panda_tasks_id"
        if known is not None:
            return known, known["match_reason"]
        free = [each for each in attempts if each["jedi_task_id"] is None and name in (None, each["task_name"])]
        if free := [each for each in free if each["status_snapshot"] != FAILED]:
            return free[0], "the first without a number" if name is None else "panda_task_name"
        number = len(attempts) + 1
        text = _attempt_name(self._store.dataset(connection, task["dataset"])["dataset_name"], number)
        values = {
            "prod_task": task["id"],
            "try_number": number,
            "task_name": text,
            "site": self._tasks.composition(connection, task).config["panda_site"],
            "status_snapshot": "submitted",
            "association_source": "recorded",
            "match_reason": "",
        }
        return self._store.add_attempt(connection, values), "none was waiting"


class _Next(NamedTuple):
    """An attempt that could be made."""

    number: int
    name: str
    spec: Row

    def shown(self) -> Row:
        return {"dry_run": True, "panda_task_name": self.name, "spec": self.spec}


def _attempt_name(composed: str, number: int) -> str:
    return composed if number == 1 else f"{composed}.try{number}"


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST:
        raise ApiError(400, {"detail": f"{name} must be an integer"})
    return value
