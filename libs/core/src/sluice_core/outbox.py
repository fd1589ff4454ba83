"""Events that cannot part from what they tell: a row of the same transaction, published later."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
)

from sluice_core import dlq
from sluice_core.bus import Backoff, Bus, BusError, StreamRefused
from sluice_core.database import Database, DatabaseAway

__all__ = ["SCHEMA", "Relay", "add", "outbox_table"]

log = structlog.get_logger(__name__)

SCHEMA = "Sluice-Schema"
"""Header that names type and version of an event."""

BATCH = 500
# Another replica's rows, or those of a process that died, are found this soon (seconds).
LOOK = 1.0


class _Row(NamedTuple):
    id: int
    event_id: str
    subject: str
    key: str
    schema: str
    body: bytes


def outbox_table(metadata: MetaData) -> Table:
    """Return the table ``outbox`` of a service.

    ``id`` gives the order. Events of one key must be added while the transaction holds the lock on what the key
    names; then their order is that of the commits.
    """
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("event_id", Uuid, nullable=False),
        Column("subject", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("schema", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    )


def add(
    connection: Connection, table: Table, *, subject: str, event_type: str, data: Any, key: str, version: int = 1
) -> None:
    """Add an event to the transaction.

    Parameters
    ----------
    connection
        In the transaction that changes what the event tells.
    table
        The service's outbox.
    subject
        Where it will be published.
    event_type
        Such as ``agent.state``.
    data
        Anything that msgspec encodes.
    key
        Events of one key are published in their order.
    version
        Of the shape of ``data``; a new one goes to a new subject.
    """
    event_id = uuid4()
    body = {"id": str(event_id), "type": event_type, "v": version, "at": datetime.now(UTC), "data": data}
    row = {
        "event_id": event_id,
        "subject": subject,
        "key": key,
        "schema": f"{event_type};v={version}",
        "body": msgspec.json.encode(body),
    }
    connection.execute(insert(table), row)


class Relay:
    """Publishes the outbox to JetStream, at least once, each event under its own id.

    One replica does it at a time; the others find nothing to do.

    Parameters
    ----------
    database, table
        Where the outbox is.
    bus
        Where events go.

    Attributes
    ----------
    waiting
        Events in the outbox when it was last looked at.
    """

    def __init__(self, database: Database, bus: Bus, table: Table) -> None:
        self._database = database
        self._bus = bus
        self._added = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._oldest: float | None = None
        self.waiting = 0
        self._lock = select(func.pg_try_advisory_xact_lock(func.hashtext(f"outbox {table.name}")))
        columns = (table.c.id, table.c.event_id, table.c.subject, table.c.key, table.c.schema, table.c.body)
        self._next: Select[Any] = select(*columns).order_by(table.c.id).limit(BATCH)
        self._done = delete(table).where(table.c.id == func.any(bindparam("ids")))
        self._look = select(func.count(), func.extract("epoch", func.now() - func.min(table.c.created_at)))

    def wake(self) -> None:
        """Say that a transaction with events was committed; from any thread."""
        loop = self._loop
        if loop is not None:
            # A loop that has just closed needs no waking.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._added.set)

    def lag_seconds(self) -> float:
        """Age of the oldest event that waits."""
        return 0.0 if self._oldest is None else time.monotonic() - self._oldest

    async def run(self) -> None:
        """Publish, for ever; a long-lived task."""
        self._loop = asyncio.get_running_loop()
        delays = Backoff()
        while True:
            self._added.clear()
            moved = 0
            try:
                if self._bus.connected:
                    moved = await self._database.run(self._database.transact, partial(self._relay, loop=self._loop))
                await self._measure()
                delays.reset()
            except (DatabaseAway, BusError) as exc:
                log.warning("events wait", reason=str(exc))
                await delays.wait()
            if moved < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._added.wait(), LOOK)

    async def _measure(self) -> None:
        waiting, age = await self._database.run(
            self._database.read, lambda connection: connection.execute(self._look).one()
        )
        self.waiting = waiting
        self._oldest = None if age is None else time.monotonic() - float(age)

    def _relay(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> int:
        """Publish one batch in a worker thread, and delete what the streams have."""
        if not connection.execute(self._lock).scalar_one():
            return 0
        rows = [_Row(*row) for row in connection.execute(self._next)]
        if not rows:
            return 0
        done = asyncio.run_coroutine_threadsafe(self._publish(rows), loop).result()
        if done:
            connection.execute(self._done, {"ids": done})
        return len(done)

    async def _publish(self, rows: Sequence[_Row]) -> list[int]:
        """Publish events, those of one key one after the other; return the ids of those that need us no more."""
        ordered = sorted(rows, key=lambda row: (row.key, row.id))
        groups = [self._publish_group(list(group)) for _, group in itertools.groupby(ordered, lambda row: row.key)]
        return list(itertools.chain.from_iterable(await asyncio.gather(*groups)))

    async def _publish_group(self, rows: Iterable[_Row]) -> list[int]:
        done: list[int] = []
        for row in rows:
            headers = {SCHEMA: row.schema}
            try:
                try:
                    await self._bus.publish_stored(row.subject, row.body, msg_id=str(row.event_id), headers=headers)
                except StreamRefused as exc:
                    if not exc.permanent:
                        raise
                    # It would hold up all that comes after it, for ever.
                    await dlq.bury(
                        self._bus, row.subject, row.body, msg_id=str(row.event_id), headers=headers, reason=str(exc)
                    )
            except BusError as exc:
                log.warning("event waits", subject=row.subject, reason=str(exc))
                break
            done.append(row.id)
        return done
