"""Who follows messages, as rows: a subscriber for each connection (contract 6.2), and the status over all replicas."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import structlog

from sluice_core.database import Database, DatabaseAway
from sluice_core.http.sse import Reader
from sluice_stream.store.visits import Counts, VisitStore

__all__ = ["Visit", "Visits"]

log = structlog.get_logger(__name__)

# A replica says so often that it lives; after three missed ones its readers count as gone.
BEAT = timedelta(seconds=5)
LEASE = 3 * BEAT
# Seconds that a reader waits for its row before it is served without one.
PATIENCE = 1.0
# Seconds for the last word of a process that ends.
LAST = 1.0
TIDY = timedelta(hours=1)


@dataclass(eq=False)
class Visit:
    """One connection.

    Attributes
    ----------
    subscriber_id
        Of its row; None until it is stored.
    told
        Counters as they stand in the row.
    """

    reader: Reader
    ip: str | None
    location: str
    filters: dict[str, list[str]]
    client_id: UUID = field(default_factory=uuid4)
    connected_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    subscriber_id: int | None = None
    told: tuple[int, int] = (0, 0)

    @property
    def count(self) -> tuple[int, int]:
        """Messages sent and dropped so far."""
        return self.reader.sent, self.reader.dropped

    def row(self, instance: UUID) -> dict[str, Any]:
        """Return what is stored of it at first."""
        return {
            "client_id": self.client_id,
            "instance": instance,
            "ip": self.ip,
            "location": self.location,
            "filters": self.filters,
            "connected_at": self.connected_at,
        }


class Visits:
    """Writes the rows: in batches, never in the way of messages.

    Parameters
    ----------
    every
        How often counters are written.
    retention
        How long rows of connections that ended are kept.
    """

    def __init__(self, database: Database, *, every: timedelta, retention: timedelta) -> None:
        self._database = database
        self._store = VisitStore(uuid4(), LEASE)
        self._every = every.total_seconds()
        self._retention = retention
        self._visits: set[Visit] = set()
        self._changed = asyncio.Event()
        self._stored = asyncio.Event()
        self._beaten = self._tidied = float("-inf")

    async def enter(self, visit: Visit) -> None:
        """Make the row of a new reader; it is there when this returns, unless PostgreSQL is away."""
        self._visits.add(visit)
        self._changed.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while visit.subscriber_id is None and visit.ended_at is None:
                    await self._stored.wait()

    def leave(self, visit: Visit) -> None:
        """Note that a reader is gone."""
        visit.ended_at = datetime.now(UTC)
        if visit.subscriber_id is None:
            self._visits.discard(visit)
        self._changed.set()

    async def status(self) -> list[tuple[UUID, dict[str, list[str]]]]:
        """Return the client ids and filters of all who are connected, to whatever replica.

        Raises
        ------
        DatabaseAway
            It cannot be told.
        """
        return await self._database.run(self._database.read, self._store.connected)

    async def run(self) -> None:
        """Write, for ever; a supervised task. What PostgreSQL does not take now, it gets later."""
        while True:
            self._changed.clear()
            await self._write()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._changed.wait()

    async def close(self) -> None:
        """Write the last, and that this process is gone."""
        with suppress(TimeoutError, DatabaseAway):
            async with asyncio.timeout(LAST):
                for visit in self._visits:
                    visit.ended_at = visit.ended_at or datetime.now(UTC)
                await self._flush()
                await self._database.run(self._database.transact, self._store.vanish)

    async def _write(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            if now - self._beaten >= BEAT.total_seconds():
                here = [each.subscriber_id for each in self._visits if each.subscriber_id is not None]
                await self._database.run(self._database.transact, partial(self._store.beat, here))
                self._beaten = now
            await self._flush()
            if now - self._tidied >= TIDY.total_seconds():
                await self._database.run(self._database.transact, partial(self._store.forget, self._retention))
                self._tidied = now
        except DatabaseAway as exc:
            log.warning("subscribers are not written", reason=str(exc))

    async def _flush(self) -> None:
        new = [visit for visit in self._visits if visit.subscriber_id is None and visit.ended_at is None]
        if new:
            rows = [visit.row(self._store.instance) for visit in new]
            ids = await self._database.run(self._database.transact, partial(self._store.enter, rows))
            for visit in new:
                visit.subscriber_id = ids[visit.client_id]
                if visit.ended_at is not None:  # it left meanwhile
                    self._visits.add(visit)
            self._stored.set()
            self._stored.clear()
        now = datetime.now(UTC)
        counted = []
        for visit in self._visits:
            changed = visit.count != visit.told
            if visit.subscriber_id is not None and (changed or visit.ended_at is not None):
                active_at = now if visit.count[0] > visit.told[0] else None
                counted.append((visit, Counts(visit.subscriber_id, *visit.count, active_at, visit.ended_at)))
        if not counted:
            return
        write = partial(self._store.count, [counts for _, counts in counted])
        await self._database.run(self._database.transact, write)
        for visit, counts in counted:
            visit.told = (counts.sent, counts.dropped)
            if counts.ended_at is not None:
                self._visits.discard(visit)
