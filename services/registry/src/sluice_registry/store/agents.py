"""The ``system_agent`` table, as heartbeats use it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Interval, Select, Update, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from sluice_core.database import recordset
from sluice_registry.tables import system_agent

__all__ = ["AgentStore"]

Row = dict[str, Any]

# The table has the order of the wire.
COLUMNS = list(system_agent.c)
NAMES = [each.name for each in COLUMNS]
CLOCKS = ("created_at", "updated_at", "last_heartbeat")
# What a heartbeat can say of its agent.
SAID = [each for each in COLUMNS if each.name not in (*CLOCKS, "id", "last_stf_processed")]


def _in_order(*columns: Column[Any]) -> Select[Any]:
    # So that two replicas do not wait for each other in a circle.
    named = system_agent.c.instance_name == func.any(bindparam("names"))
    return select(*columns).where(named).order_by(system_agent.c.instance_name).with_for_update()


def _hear() -> Update:
    named = _in_order(system_agent.c.id).subquery("named")
    statement = update(system_agent).where(system_agent.c.id == named.c.id)
    return statement.values(last_heartbeat=func.now(), updated_at=func.now()).returning(*COLUMNS)


def _add() -> Any:
    rows = recordset(SAID)
    values = select(*(rows.c[each.name] for each in SAID), func.now()).select_from(rows)
    target = [each.name for each in SAID] + ["last_heartbeat"]
    statement = pg_insert(system_agent).from_select(target, values)
    return statement.on_conflict_do_nothing(index_elements=["instance_name"]).returning(*COLUMNS)


def _change() -> Update:
    rows = recordset((system_agent.c.id, *SAID))
    said = {each.name: rows.c[each.name] for each in SAID}
    statement = update(system_agent).where(system_agent.c.id == rows.c.id)
    return statement.values(**said, last_heartbeat=func.now(), updated_at=func.now()).returning(*COLUMNS)


def _sweep() -> Update:
    silent = select(system_agent.c.id).where(
        system_agent.c.last_heartbeat < func.now() - bindparam("silence", type_=Interval),
        system_agent.c.status != "EXITED",
        system_agent.c.operational_state != "EXITED",
    )
    # Whoever is locked is being heard of right now; the next sweep comes soon.
    found = silent.order_by(system_agent.c.instance_name).with_for_update(skip_locked=True)
    statement = update(system_agent).where(system_agent.c.id.in_(found))
    # As in the contract, updated_at stays: nothing came from the agent (3.1).
    return statement.values(status="EXITED", operational_state="EXITED").returning(*COLUMNS)


def _report() -> Update:
    statement = update(system_agent).where(system_agent.c.id == bindparam("agent"))
    values = {"status": bindparam("said"), "last_heartbeat": bindparam("at"), "updated_at": func.now()}
    return statement.values(**values).returning(*COLUMNS)


def _liveness() -> Select[Any]:
    alive = system_agent.c.last_heartbeat >= func.now() - bindparam("silence")
    return select(system_agent.c.instance_name, func.coalesce(alive, False)).order_by(system_agent.c.instance_name)


LOCK, HEAR, ADD, CHANGE, SWEEP = _in_order(*COLUMNS), _hear(), _add(), _change(), _sweep()
REPORT, LIVENESS = _report(), _liveness()


class AgentStore:
    """Agents by name, many at a time. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, names: Sequence[str]) -> dict[str, Row]:
        """Return the agents of these names that exist; nobody else changes them until the transaction ends."""
        found = self._many(LOCK, {"names": sorted(names)})
        return {row["instance_name"]: row for row in found}

    def hear(self, names: Sequence[str]) -> dict[str, Row]:
        """Mark the agents of these names that exist as heard of now; return them. They stay locked as by `lock`."""
        return {row["instance_name"]: row for row in self._many(HEAR, {"names": sorted(names)})}

    def add(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Store new agents, heard of now; those that somebody else stored meanwhile are left out of the result."""
        return self._many(ADD, {"rows": rows}) if rows else []

    def change(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Write agents as given, heard of now."""
        return self._many(CHANGE, {"rows": rows}) if rows else []

    def sweep(self, silence: timedelta) -> list[Row]:
        """Mark live agents that were silent for longer as EXITED, by the database's clock; return them."""
        return self._many(SWEEP, {"silence": silence})

    def report(self, agent: int, status: str, at: datetime) -> Row:
        """Write the status of the agent with this id, and when it was heard of by its own account."""
        return self._many(REPORT, {"agent": agent, "said": status, "at": at})[0]

    def liveness(self, silence: timedelta) -> dict[str, bool]:
        """Return the names of all agents and whether each was heard of within this time, by the database's clock."""
        return dict(self._connection.execute(LIVENESS, {"silence": silence}).all())

    def _many(self, statement: Any, values: Mapping[str, Any]) -> list[Row]:
        result = self._connection.execute(statement, values)
        return [dict(zip(NAMES, row, strict=True)) for row in result]
