"""The life of runs: what messages and executions change (decisions 15 and 19; contract 13)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from sluice_core.rest import Change as RowChange
from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_runs.messages import Result, Said
from sluice_runs.service.events import Events
from sluice_runs.service.stating import WORDS, said
from sluice_runs.store.life import Change, Life, Slice

__all__ = ["Lives", "both"]

ENDED = {"phase": "completed", "state": "ended", "substate": None}
OPEN = ("queued", "processing")
DONE = "completed"
NO_SLICE = "slice_result: no such slice"


class Lives:
    """Follows messages and executions.

    Parameters
    ----------
    resources
        All of the service, by kind.
    events
        Told of every row that changes.
    """

    def __init__(self, resources: Mapping[str, Resource], events: Events) -> None:
        self._runs, self._states, self._slices = (ResourceStore(resources[kind]) for kind in ("run", "state", "slice"))
        self._events = events

    def follow(self, connection: Connection, messages: Sequence[Said]) -> dict[UUID, str]:
        """Do what messages say, each once, in whatever order they come.

        Returns
        -------
        dict
            Why a message could not be followed, by its id; it may be sent again.
        """
        life = Life(connection)
        new = life.new(messages)
        # Always in one order, so that two replicas do not wait for each other.
        fresh = sorted({each.message_id: each for each in messages if each.message_id in new}.values(), key=_place)
        steps: dict[int, list[Said]] = {}
        results: dict[int, list[Said]] = {}
        for each in fresh:
            if each.step is not None:
                steps.setdefault(each.run_number, []).append(each)
            elif each.result is not None:
                results.setdefault(each.run_number, []).append(each)
        refused: dict[UUID, str] = {}
        for number in sorted(steps.keys() | results.keys()):
            counters: Counter[str] = Counter()
            for each in results.get(number, []):
                if not self._finish(connection, life, each, counters):
                    refused[each.message_id] = NO_SLICE
            self._count(connection, life, number, counters)
            if number in steps:
                self._move(connection, life, number, steps[number])
        life.forget(refused.keys())
        return refused

    def deleted(self, connection: Connection, change: RowChange) -> None:
        """Forget the history of a run whose state is deleted; an ``on_change`` of run states."""
        if change.kind == "deleted" and change.before is not None:
            Life(connection).delete_history(change.before["run_number"])

    def terminated(self, connection: Connection, change: RowChange) -> None:
        """Close the runs of an execution that is terminated (decision 19); an ``on_change`` of executions."""
        after = change.after
        if after is None or after["status"] != "terminated" or (change.before or {}).get("status") == "terminated":
            return
        life = Life(connection)
        numbers = life.of_execution(after["execution_id"])
        now = datetime.now(UTC)
        for number in numbers:
            before = self._states.get(connection, number, lock=True)
            if before is not None and (before["phase"], before["state"]) != (ENDED["phase"], ENDED["state"]):
                self._write(connection, before, said(life, number, now, ENDED, "execution"))
        for key in life.open_runs(numbers):
            row = self._runs.update(connection, key, {"end_time": after["end_time"] or now})
            if row is not None:
                self._events.tell(connection, "run", "updated", row, key=str(key))

    def _move(self, connection: Connection, life: Life, number: int, messages: Sequence[Said]) -> None:
        made = life.begin(messages[0])
        before = self._states.get(connection, number, lock=True)
        assert before is not None
        life.add([_change(each) for each in messages])
        for each in messages:
            if each.execution_id is not None:
                life.belongs(number, each.execution_id)
        decisive = life.decisive(number)
        assert decisive is not None
        self._write(connection, before, decisive, "created" if made else "updated")

    def _write(
        self, connection: Connection, before: Mapping[str, Any], decisive: Change, what: str = "updated"
    ) -> None:
        words = {name: getattr(decisive, name) for name in WORDS}
        same = all(before[name] == value for name, value in words.items())
        # Clients say when a state changed also where they write counters only.
        if same and before["state_changed_at"] >= decisive.at and what == "updated":
            return
        row = self._states.update(connection, decisive.run_number, {**words, "state_changed_at": decisive.at})
        assert row is not None
        self._events.tell(connection, "state", what, row, key=str(decisive.run_number))

    def _count(self, connection: Connection, life: Life, number: int, counters: Mapping[str, int]) -> None:
        moved = {name: by for name, by in counters.items() if by}
        if moved and life.count(number, moved):
            row = self._states.get(connection, number)
            assert row is not None
            self._events.tell(connection, "state", "updated", row, key=str(number))

    def _finish(self, connection: Connection, life: Life, message: Said, counters: Counter[str]) -> bool:
        result = message.result
        assert result is not None
        found = life.slice(message.run_number, result.tf_filename, result.slice_id)
        if found is None:
            return False
        known = (found.result_at, found.result_status == DONE)
        if found.result_at is not None and (message.at, result.status == DONE) <= known:
            # Sent again, or overtaken by a newer one.
            return True
        counters.update(_counters(found, result))
        values = {
            "status": result.status,
            "metadata": {**(found.metadata if isinstance(found.metadata, dict) else {}), **result.worker},
            "completed_at": message.at,
            "assigned_worker": found.assigned_worker or _worker(result),
            "result_status": result.status,
            "result_at": message.at,
            "unanswered": True,
        }
        row = self._slices.update(connection, found.id, values)
        assert row is not None
        self._events.tell(connection, "slice", "updated", row, key=str(found.id))
        return True


def both(*hooks: Callable[[Connection, RowChange], None]) -> Callable[[Connection, RowChange], None]:
    """Return an ``on_change`` that does one thing after the other."""

    def on_change(connection: Connection, change: RowChange) -> None:
        for hook in hooks:
            hook(connection, change)

    return on_change


def _place(message: Said) -> tuple[Any, ...]:
    name, slice_id = (message.result.tf_filename, message.result.slice_id) if message.result else ("", 0)
    return message.run_number, name, slice_id, message.at, message.message_id


def _change(message: Said) -> Change:
    assert message.step is not None
    return Change(
        message.message_id,
        message.run_number,
        message.at,
        message.step.rank,
        "message",
        message.message_type,
        *message.step[1:],
        message.sender,
        message.execution_id,
        message.namespace,
    )


def _counters(found: Slice, result: Result) -> dict[str, int]:
    """Say how a result moves the counters of its run: from where the slice was counted to where it belongs."""
    if found.result_status == result.status:
        return {}
    # Agents count a slice as queued when they make it; what they write to it later they count nowhere.
    before = found.result_status or (found.status if found.status in OPEN else OPEN[0])
    return {f"slices_{before}": -1, f"slices_{result.status}": 1}


def _worker(result: Result) -> str | None:
    name = result.worker.get("worker_hostname")
    return name[:255] if isinstance(name, str) and name else None
