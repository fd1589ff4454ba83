"""What a client says about where a run stands: a line of its history, and newer than all that was there."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from sluice_core.rest import Attempt
from sluice_runs.store.life import BY_CLIENT, Change, Life

__all__ = ["EXECUTION_LENGTH", "said", "stated"]

EXECUTION_LENGTH = 100
WORDS = ("phase", "state", "substate")


def stated(connection: Connection, attempt: Attempt) -> None:
    """Add a client's write to the history of its run; the ``prepare`` of run states.

    A row that only messages know of makes room for that of a client, which takes over where the run stands by now.
    """
    if attempt.errors:
        return
    before, values = attempt.before, attempt.values
    metadata = values.get("metadata")
    named = metadata.get("execution_id") if isinstance(metadata, dict) else None
    if isinstance(named, str) and 0 < len(named) <= EXECUTION_LENGTH:
        values["execution_id"] = named
    life = Life(connection)
    if before is not None:
        if values.keys() & set(WORDS):
            now = {**before, **values}
            said(life, before["run_number"], values.get("state_changed_at"), {name: now[name] for name in WORDS})
        return
    number, at = values["run_number"], values["state_changed_at"]
    replaces = life.drop_unregistered(number)
    change = _change(number, at, {name: values[name] for name in WORDS}, "client")
    life.add([change])
    decisive = life.decisive(number) if replaces else None
    if decisive is not None and decisive.change_id != change.change_id:
        values.update({name: getattr(decisive, name) for name in WORDS}, state_changed_at=decisive.at)


def said(life: Life, number: int, at: datetime | None, words: Mapping[str, Any], source: str = "client") -> Change:
    """Add what somebody says now: whatever time he gives it, it is newer than all that was there."""
    times = [min(at or datetime.now(UTC), datetime.now(UTC)), life.latest(number)]
    change = _change(number, max(each for each in times if each is not None), words, source)
    life.add([change])
    return change


def _change(number: int, at: datetime, words: Mapping[str, Any], source: str) -> Change:
    return Change(
        uuid4(), number, at, BY_CLIENT, source, None, words["phase"], words["state"], words["substate"], *(None,) * 3
    )
