"""Events that cannot part from what they tell: a row of the same transaction, published later."""

import asyncio
import itertools
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    Insert,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from sluice_core import dlq
from sluice_core.bus import Backoff, Bus, BusAway, BusError, Stored, StreamRefused
from sluice_core.database import Database, DatabaseAway

__all__ = ["SCHEMA", "Event", "Relay", "add", "add_event", "add_many", "outbox_table"]

log = structlog.get_logger(__name__)

SCHEMA = "Sluice-Schema"
"""Header that names type and version of an event."""

# Rows of one round. It holds a connection while it publishes: 0.1 s with a server that syncs each write.
BATCH = 500
BATCH_BYTES = 16 * 1024 * 1024
# Seconds until rows of another replica, or of a process that died, are found; also between two tries of what failed.
LOOK = 1.0
# Transactions that commit within so many seconds share a round; and while they keep coming, rounds begin so far apart.
GATHER = 0.005
PACE = 0.05
# Events on their way at once, so that whoever stops us does not wait for a whole batch.
TOGETHER = 128
# Seconds until it is looked again whether another replica has finished its round.
BUSY = 0.05
# Keys that are stuck at once, beyond which nothing more is tried until `LOOK` is over.
MANY_STUCK = 5000
# Counting goes no further; beyond it the age says more.
MANY = 100_000


class Event(NamedTuple):
    """An event to be published.

    Attributes
    ----------
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

    subject: str
    event_type: str
    data: Any
    key: str
    version: int = 1


class _Row(NamedTuple):
    id: int
    event_id: str
    subject: str
    key: str
    schema: str
    body: bytes


def outbox_table(metadata: MetaData) -> Table:
    """Return the table ``outbox`` of a service.

    ``id`` gives the order. Add an event after the statement that locks what its key names; then the order of the ids
    of one key is that of the commits.
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
    subject, event_type, data, key, version
        As in `Event`.
    """
    add_many(connection, table, [Event(subject, event_type, data, key, version)])


def add_many(connection: Connection, table: Table, events: Iterable[Event]) -> None:
    """Add events to the transaction, with one statement.

    Parameters
    ----------
    connection, table
        As in `add`.
    events
        In their order.
    """
    at = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for event in events:
        event_id = uuid4()
        body = {"id": str(event_id), "type": event.event_type, "v": event.version, "at": at, "data": event.data}
        rows.append(
            {
                "event_id": event_id,
                "subject": event.subject,
                "key": event.key,
                "schema": f"{event.event_type};v={event.version}",
                "body": msgspec.json.encode(body),
            }
        )
    if rows:
        connection.execute(_insert(table), rows)


@lru_cache(16)
def _insert(table: Table) -> Insert:
    return insert(table)


def add_event(
    connection: Connection, table: Table, *, event_id: UUID, subject: str, schema: str, body: bytes, key: str
) -> None:
    """Add an event to the transaction that has its form already.

    Parameters
    ----------
    event_id
        Also in the body: consumers know a repetition by it.
    schema, body
        Its type and version as `SCHEMA` has them, and itself.
    connection, table, subject, key
        As in `add`.
    """
    row = {"event_id": event_id, "subject": subject, "key": key, "schema": schema, "body": body}
    connection.execute(insert(table), row)


class Relay:
    """Publishes the outbox to JetStream, at least once, each event under its own id.

    One replica does it at a time: a round is a transaction that holds an advisory lock, publishes a batch and deletes
    what the streams have. Events of different keys are on their way at once; of one key, the next one goes out when
    the stream has the one before it.

    Parameters
    ----------
    database, table
        Where the outbox is.
    bus
        Where events go.

    Attributes
    ----------
    waiting
        Events in the outbox when it was last looked at; `MANY` means that many or more.
    """

    def __init__(self, database: Database, bus: Bus, table: Table) -> None:
        self._database = database
        self._bus = bus
        self._added = asyncio.Event()
        self._stopping = False
        # Keys whose first event could not go; what lies behind a batch of them may belong to a stream that takes it.
        self._stuck: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._measured = -LOOK
        self._oldest: float | None = None
        self._problem = ""
        self.waiting = 0
        columns = (table.c.id, table.c.event_id, table.c.subject, table.c.key, table.c.schema, table.c.body)
        self._lock = select(func.pg_try_advisory_xact_lock(func.hashtext(f"outbox {table.name}")))
        size = func.octet_length(table.c.body)
        before = (func.sum(size).over(order_by=table.c.id) - size).label("before")
        free = table.c.key != func.all(bindparam("stuck", type_=ARRAY(Text)))
        batch = select(*columns, before).where(free).order_by(table.c.id).limit(BATCH).subquery()
        rows = [batch.c[column.name] for column in columns]
        self._next = select(*rows).where(batch.c.before < BATCH_BYTES).order_by(batch.c.id)
        self._done = delete(table).where(table.c.id == func.any(bindparam("ids")))
        some = select(literal(1)).select_from(table).limit(MANY).subquery()
        age = func.extract("epoch", func.clock_timestamp() - table.c.created_at)
        self._look = select(
            select(func.count()).select_from(some).scalar_subquery(),
            select(age).order_by(table.c.id).limit(1).scalar_subquery(),
        )

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
        """Publish, for ever; a long-lived task. NATS and PostgreSQL may be away; then no connection is held."""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        delays = Backoff()
        while True:
            self._added.clear()
            began = time.monotonic()
            try:
                await self._measure()
                if not self._bus.connected:
                    with suppress(BusAway):
                        await self._bus.wait_connected(LOOK)
                    continue
                outcome = await self._round()
            except DatabaseAway as exc:
                self._tell(str(exc))
                await delays.wait()
                continue
            delays.reset()
            if outcome is _Outcome.EMPTY:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._added.wait()
                    await asyncio.sleep(max(GATHER, began + PACE - time.monotonic()))
            elif outcome is _Outcome.STUCK:
                await asyncio.sleep(LOOK)
            elif outcome is _Outcome.BUSY:
                await asyncio.sleep(BUSY)

    async def _round(self) -> "_Outcome":
        work = asyncio.ensure_future(self._database.run(self._database.transact, self._relay))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # What a stream has is still deleted; what it has not is not begun.
            self._stopping = True
            await asyncio.wait([work])
            if not work.cancelled() and work.exception() is not None:
                log.warning("last events may be published again", reason=str(work.exception()))
            raise

    async def _measure(self) -> None:
        if time.monotonic() - self._measured < LOOK:
            return
        waiting, age = await self._database.run(self._database.read, self._read_state)
        self._measured = time.monotonic()
        self.waiting = waiting
        self._oldest = None if age is None else self._measured - float(age)

    def _read_state(self, connection: Connection) -> tuple[int, float | None]:
        waiting, age = connection.execute(self._look).one()
        return waiting, age

    def _relay(self, connection: Connection) -> "_Outcome":
        """Publish one batch, and delete what the streams have; waits in a worker thread for the event loop."""
        if not connection.execute(self._lock).scalar_one():
            return _Outcome.BUSY
        rows = [_Row(*row) for row in connection.execute(self._next, {"stuck": list(self._stuck)})]
        done: list[int] = []
        if rows:
            assert self._loop is not None
            publishing = asyncio.run_coroutine_threadsafe(self._publish(rows, done), self._loop)
            with suppress(CancelledError):
                publishing.result()
        if done:
            connection.execute(self._done, {"ids": done})
        published = set(done)
        self._stuck.update(row.key for row in rows if row.id not in published)
        full = len(rows) == BATCH or sum(len(row.body) for row in rows) >= BATCH_BYTES
        if full and len(self._stuck) < MANY_STUCK and not self._stopping:
            return _Outcome.MORE
        if self._stuck:
            self._stuck.clear()
            return _Outcome.STUCK
        if full:
            return _Outcome.MORE
        self.waiting, self._oldest = 0, None
        return _Outcome.EMPTY

    async def _publish(self, rows: Sequence[_Row], done: list[int]) -> None:
        """Publish events; put the ids of those that need us no more into ``done``."""
        queues: dict[str, deque[_Row]] = defaultdict(deque)
        for row in rows:
            queues[row.key].append(row)
        problem = ""
        while queues and not self._stopping:
            # The first of each key; the next one goes when the stream has it.
            heads = [queue[0] for queue in itertools.islice(queues.values(), TOGETHER)]
            outcomes = await self._bus.publish_all([_stored(row) for row in heads])
            for row, outcome in zip(heads, outcomes, strict=True):
                if isinstance(outcome, BusError) and (reason := await self._refused(row, outcome)):
                    problem = problem or reason
                    del queues[row.key]
                    continue
                done.append(row.id)
                queues[row.key].popleft()
                if not queues[row.key]:
                    del queues[row.key]
        self._tell(problem)

    async def _refused(self, row: _Row, error: BusError) -> str:
        """Say why an event has to wait; empty when it need not, since it is parked."""
        if not isinstance(error, StreamRefused) or not error.permanent:
            return str(error)
        # It would hold up the events of its key for ever. The fact itself stands in PostgreSQL.
        log.error("event cannot be published", subject=row.subject, reason=str(error))
        event = _stored(row)
        try:
            await dlq.bury(
                self._bus, row.subject, row.body, msg_id=event.msg_id, headers=event.headers, reason=str(error)
            )
        except BusError as exc:
            return str(exc)
        return ""

    def _tell(self, problem: str) -> None:
        """Log once a fault, not once an attempt."""
        if problem and problem != self._problem:
            log.warning("events wait", reason=problem, waiting=self.waiting)
        self._problem = problem


def _stored(row: _Row) -> Stored:
    return Stored(row.subject, row.body, str(row.event_id), {SCHEMA: row.schema})


class _Outcome(Enum):
    """How a round ended."""

    EMPTY = "nothing is left"
    MORE = "there may be more"
    STUCK = "something could not go"
    BUSY = "another replica has its round"
