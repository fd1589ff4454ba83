"""When workflows were generated. Never commits; whoever opened the connection does."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, update

from sluice_runs.tables import stage, workflow

__all__ = ["generated", "regenerate"]

_GENERATED = select(workflow.c.generated_time).where(workflow.c.workflow_id == bindparam("key"))


def generated(connection: Connection, key: UUID) -> datetime | None:
    """Return when a workflow was generated; None when there is none."""
    return connection.execute(_GENERATED.with_for_update(read=True), {"key": key}).scalar()


def regenerate(connection: Connection, key: UUID, at: datetime) -> None:
    """Note in the stages of a workflow when it was generated."""
    connection.execute(update(stage).where(stage.c.workflow_id == key).values(generated_time=at))
