"""Who did what on all services, kept for a while.

Most records come over NATS a moment after the request that they tell. What concerns identity does not: `acted` stores
it in the transaction that does it, so a record is there of everything that was answered, whoever dies afterwards.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import Connection

from sluice_core import audit, outbox, subjects
from sluice_core.database import Database, after_commit
from sluice_core.retention import BATCH
from sluice_registry import tables
from sluice_registry.errors import RecordUnknown
from sluice_registry.store.audit import AuditStore, Row

__all__ = ["SERVICE", "Audit", "acted", "row"]

SERVICE = "registry"
"""Also who does what nobody has asked for."""

log = structlog.get_logger(__name__)


def acted(
    connection: Connection, what: str, *, by: str, about: str = "", outcome: audit.Outcome = "done", **detail: Any
) -> None:
    """Record in this transaction that somebody did, or tried, something that concerns identity.

    The record goes out as an event too. No secret is ever among the arguments.

    Parameters
    ----------
    what
        Such as ``login`` or ``token.created``.
    by, about
        User name of who did it, and name or id of what it was done to.
    outcome
        ``done``, or ``refused``.
    detail
        What else is worth knowing.
    """
    noted = audit.note()
    noted.action, noted.user, noted.key, noted.detail = what, by, about, detail
    event = audit.event(noted, outcome)
    AuditStore(connection).add([row(event, SERVICE)])
    outbox.add_event(
        connection,
        tables.outbox,
        event_id=event.id,
        subject=subjects.audit(SERVICE),
        schema=f"{event.type};v={event.v}",
        body=msgspec.json.encode([event]),
        key=f"audit {about or by}",
    )
    after_commit(connection, noted.keep)
    log.info(what, by=by, about=about, outcome=outcome, source=event.data.source, **detail)


def row(event: audit.Event, service: str) -> Row:
    """Return a record as the table has it."""
    columns = msgspec.structs.asdict(event.data)
    return {"id": event.id, "at": event.at, "service": service, "username": columns.pop("user"), **columns}


class Audit:
    """Keeps audit records; every method raises `DatabaseAway` when PostgreSQL cannot be reached.

    Parameters
    ----------
    database
        Where they are.
    retention
        Age at which they are deleted; zero: never.
    """

    def __init__(self, database: Database, *, retention: timedelta) -> None:
        self._database = database
        self._retention = retention

    async def record(self, rows: Sequence[Row]) -> None:
        """Store records; those that came before stay as they are."""
        if rows:
            await self._database.run(self._database.transact, lambda connection: AuditStore(connection).add(rows))

    async def newest(self, after: UUID | None, limit: int, **narrowed: Any) -> Sequence[Row]:
        """Return records, the newest first.

        Parameters
        ----------
        after
            Go on behind the record with this id.
        narrowed
            As `AuditStore.newest`.

        Raises
        ------
        RecordUnknown
            There is no such record.
        """
        rows = await self._database.run(
            lambda: self._database.read(lambda connection: AuditStore(connection).newest(after, limit, **narrowed))
        )
        if rows is None:
            raise RecordUnknown(f"No audit record has the id {after}.")
        return rows

    def forget(self) -> int:
        """Delete some of what is too old and return how many; blocks."""
        if not self._retention:
            return 0
        count = self._database.transact(lambda connection: AuditStore(connection).forget(self._retention, BATCH))
        if count:
            log.info("audit records deleted by age", count=count)
        return count
