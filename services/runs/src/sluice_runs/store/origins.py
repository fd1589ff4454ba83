"""Which run, execution and namespace a row belongs to. Never commits; whoever opened the connection does."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, Select, bindparam, null, select

from sluice_runs.tables import execution, run, run_state, stf_file, workflow

__all__ = ["Origin", "origin"]


class Origin(NamedTuple):
    """Where a row belongs; None for what is not known."""

    run_number: int | None = None
    execution_id: str | None = None
    namespace: str | None = None


_of_number = select(run_state.c.run_number, run_state.c.execution_id, execution.c.namespace).outerjoin(
    execution, execution.c.execution_id == run_state.c.execution_id
)
_of_run = (
    select(run.c.run_number, run_state.c.execution_id, execution.c.namespace)
    .outerjoin(run_state, run_state.c.run_number == run.c.run_number)
    .outerjoin(execution, execution.c.execution_id == run_state.c.execution_id)
)
_key: BindParameter[Any] = bindparam("key")
_BY_NUMBER = _of_number.where(run_state.c.run_number == _key)
_BY_RUN = _of_run.where(run.c.run_id == _key)
_BY_STF = _of_run.join(stf_file, stf_file.c.run_id == run.c.run_id)
_STATEMENTS: Mapping[str, tuple[Select[Any], str]] = {
    "run": (_BY_NUMBER, "run_number"),
    "state": (_BY_NUMBER, "run_number"),
    "event": (_BY_NUMBER, "run_number"),
    "slice": (_BY_NUMBER, "run_number"),
    "stf": (_BY_RUN, "run"),
    "tf": (_BY_STF.where(stf_file.c.stf_filename == _key), "stf_file"),
    "dispatch": (_BY_STF.where(stf_file.c.file_id == _key), "stf_file"),
    "stage": (
        select(null(), workflow.c.execution_id, workflow.c.namespace).where(workflow.c.workflow_id == _key),
        "workflow",
    ),
}
_RUN_OF_EXECUTION = select(run_state.c.run_number).where(run_state.c.execution_id == _key).limit(1)


def origin(connection: Connection, kind: str, row: Mapping[str, Any]) -> Origin:
    """Return where a row belongs.

    Parameters
    ----------
    kind
        As in `sluice_runs.resources.RESOURCES`.
    row
        As on the wire.
    """
    if kind == "execution":
        number = connection.execute(_RUN_OF_EXECUTION, {"key": row["execution_id"]}).scalar()
        return Origin(number, row["execution_id"], row["namespace"])
    if kind == "workflow":
        return Origin(_number(row["run_id"]), row["execution_id"], row["namespace"])
    if kind == "definition":
        return Origin()
    statement, name = _STATEMENTS[kind]
    found = connection.execute(statement, {"key": row[name]}).first()
    return Origin(*found) if found is not None else Origin(row.get("run_number"))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
