"""What is stale, and which agents live. Never commits; whoever opened the connection does."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Select, and_, case, cast, delete, func, literal, not_, null, or_, select, union_all
from sqlalchemy import String as SqlString
from sqlalchemy import Text as SqlText
from sqlalchemy.dialects.postgresql import insert

from sluice_runs.tables import agent_seen, execution, run, run_message, run_state, run_state_change, stale, stf_file

__all__ = ["StaleStore"]

Row = dict[str, Any]
NAMES = ("kind", "key", "run_number", "execution_id", "namespace", "since", "reason")
# Of each kind at once: a site with a million forgotten files hears of them little by little.
MOST = 1000
# Any number that nothing else in this database locks.
LOCK = 5_120_731
KEYS = {
    "execution": execution.c.execution_id,
    "state": cast(run_state.c.run_number, SqlText),
    "stf": cast(stf_file.c.file_id, SqlText),
}


class StaleStore:
    """Statements about what is stale.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def alone(self) -> bool:
        """Tell whether nobody else looks now; nobody else will until the transaction ends."""
        return bool(self._connection.execute(select(func.pg_try_advisory_xact_lock(LOCK))).scalar())

    def agents(self, alive: Mapping[str, bool]) -> None:
        """Note which agents live."""
        rows = [{"name": name, "alive": each} for name, each in sorted(alive.items())]
        if rows:
            statement = insert(agent_seen).values(rows)
            update = {"alive": statement.excluded.alive}
            self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=update))

    def noticed(self, ages: Mapping[str, timedelta]) -> list[Row]:
        """Note what has become stale; return it.

        Parameters
        ----------
        ages
            From when on: of ``execution``, ``state`` and ``stf``.
        """
        unknown = (
            each.where(select(stale.c.key).where(stale.c.kind == kind, stale.c.key == KEYS[kind]).exists().is_(False))
            for kind, each in _questions(ages).items()
        )
        found = union_all(*(each.limit(MOST) for each in unknown)).subquery()
        statement = insert(stale).from_select(NAMES, select(found)).on_conflict_do_nothing().returning(stale)
        return [dict(row._mapping) for row in self._connection.execute(statement)]

    def mended(self, ages: Mapping[str, timedelta]) -> list[Row]:
        """Drop what is stale no longer; return it."""
        gone = [
            and_(stale.c.kind == kind, not_(each.where(KEYS[kind] == stale.c.key).correlate(stale).exists()))
            for kind, each in _questions(ages).items()
        ]
        statement = delete(stale).where(or_(*gone)).returning(stale)
        return [dict(row._mapping) for row in self._connection.execute(statement)]

    def listed(self, limit: int) -> list[Row]:
        """Return what is stale, longest first."""
        found = select(stale).order_by(stale.c.since, stale.c.kind, stale.c.key).limit(limit)
        return [dict(row._mapping) for row in self._connection.execute(found)]


def _questions(ages: Mapping[str, timedelta]) -> Mapping[str, Select[Any]]:
    return {
        "execution": _executions(ages["execution"]),
        "state": _states(ages["state"]),
        "stf": _files(ages["stf"]),
    }


def _executions(age: timedelta) -> Select[Any]:
    own = execution.c.execution_id
    # Whoever sent the last message that moved a run of it.
    runner = (
        select(agent_seen.c.alive)
        .join(run_state_change, run_state_change.c.sender == agent_seen.c.name)
        .where(run_state_change.c.execution_id == own)
        .order_by(run_state_change.c.at.desc())
        .limit(1)
        .scalar_subquery()
    )
    heard = select(func.max(run_message.c.received_at)).where(run_message.c.execution_id == own).scalar_subquery()
    last = func.greatest(execution.c.start_time, heard)
    gone = runner.is_(False)
    reason = case((gone, "its runner has exited"), else_="nobody is known to run it")
    return (
        _question("execution", null(), own, execution.c.namespace, last, reason)
        .where(execution.c.status == "running")
        .where(or_(gone, and_(runner.is_(None), last < func.now() - age)))
    )


def _states(age: timedelta) -> Select[Any]:
    own = run_state.c.run_number
    told = select(func.max(run_message.c.received_at)).where(run_message.c.run_number == own).scalar_subquery()
    quiet = func.greatest(run_state.c.updated_at, told)
    reason = literal("it has not ended, and nothing is heard of it", SqlText)
    return (
        _question("state", own, run_state.c.execution_id, execution.c.namespace, quiet, reason)
        .select_from(run_state.outerjoin(execution, execution.c.execution_id == run_state.c.execution_id))
        .where(run_state.c.phase != "completed", run_state.c.state != "ended", quiet < func.now() - age)
    )


def _files(age: timedelta) -> Select[Any]:
    made = stf_file.c.created_at
    reason = literal("nobody has processed it", SqlText)
    return (
        _question("stf", run.c.run_number, run_state.c.execution_id, execution.c.namespace, made, reason)
        .select_from(
            stf_file.join(run)
            .outerjoin(run_state, run_state.c.run_number == run.c.run_number)
            .outerjoin(execution, execution.c.execution_id == run_state.c.execution_id)
        )
        .where(stf_file.c.settled_at.is_(None), made < func.now() - age)
    )


def _question(kind: str, number: Any, execution_id: Any, namespace: Any, since: Any, reason: Any) -> Select[Any]:
    values = (
        literal(kind, SqlText),
        KEYS[kind],
        cast(number, run.c.run_number.type),
        execution_id,
        cast(namespace, SqlString(100)),
        since,
        reason,
    )
    return select(*(value.label(name) for value, name in zip(values, NAMES, strict=True)))
