"""Heartbeats over a real PostgreSQL, without a door and without a bus."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from sluice_core.database import Database
from sluice_core.testing import eventually_async
from sluice_core.testing.schema import clear
from sluice_registry import tables
from sluice_registry.events import AgentEvents
from sluice_registry.service.heartbeats import Beat, Heartbeats

STALE_AFTER = timedelta(minutes=3)


class Registry:
    """One replica: its heartbeats, what it publishes, and looks at its database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, pool_size=4, application_name="replica")
        self.published: list[tuple[str, Any]] = []
        self.announcer = AgentEvents(lambda: None, self._publish)
        self.heartbeats = self.every(timedelta(0))

    def every(self, look_every: timedelta) -> Heartbeats:
        """Return heartbeats that look for silent agents that often."""
        given = self.database, self.announcer
        return Heartbeats(*given, stale_after=STALE_AFTER, waiting=1000, look_every=look_every)

    async def _publish(self, subject: str, data: bytes) -> None:
        self.published.append((subject, msgspec.json.decode(data)))

    async def beat(self, name: str, **said: Any) -> dict[str, Any]:
        """Store one heartbeat; return the agent."""
        outcome = await self.heartbeats.beat(Beat(name, said))
        return outcome.row

    async def announced(self) -> list[tuple[str, Any]]:
        """Return what is published of the beats until now: subjects and agents."""
        await self.beat("last")
        await eventually_async(lambda: asyncio.to_thread(self._last_said))
        return self.published[:-1]

    def _last_said(self) -> bool:
        return bool(self.published) and self.published[-1][1]["instance_name"] == "last"

    def agent(self, name: str) -> dict[str, Any]:
        """Return an agent as others see it, with the transaction that wrote it last."""
        return self._one("SELECT *, xmin::text AS xmin FROM system_agent WHERE instance_name = :name", name=name)

    def agents(self) -> list[dict[str, Any]]:
        """Return all agents."""
        return self._all("SELECT *, xmin::text AS xmin FROM system_agent ORDER BY instance_name")

    def indexes(self) -> list[str]:
        """Return the definitions of the table's indexes."""
        rows = self._all("SELECT indexdef FROM pg_indexes WHERE tablename = 'system_agent'")
        return [row["indexdef"] for row in rows]

    def events(self) -> list[dict[str, Any]]:
        """Return the rows of the outbox, oldest first."""
        return self._all(f"SELECT *, xmin::text AS xmin FROM {tables.outbox.name} ORDER BY id")

    def silent_for(self, name: str, silence: timedelta) -> None:
        """Turn back the clock of one agent."""
        statement = text("UPDATE system_agent SET last_heartbeat = now() - :silence WHERE instance_name = :name")
        self.database.transact(lambda connection: connection.execute(statement, {"silence": silence, "name": name}))

    def waiting_for_locks(self) -> int:
        """Count the replicas' transactions that wait for another one."""
        row = self._one("SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return int(row["n"])

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold an agent's row, as a slow transaction would."""
        with self.database.engine.connect() as connection:
            connection.execute(text("SELECT FROM system_agent WHERE instance_name = :n FOR UPDATE"), {"n": name})
            yield

    async def blocked(self) -> None:
        """Wait until a transaction of ours waits for another one."""
        await eventually_async(lambda: asyncio.to_thread(self.waiting_for_locks))

    def _one(self, statement: str, **values: Any) -> dict[str, Any]:
        (row,) = self._all(statement, **values)
        return row

    def _all(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        return self.database.read(lambda c: [dict(row) for row in c.execute(text(statement), values).mappings()])


@contextlib.asynccontextmanager
async def running(registry: Registry) -> AsyncIterator[Registry]:
    """Let a replica store what comes."""
    tasks = [asyncio.create_task(each()) for each in (registry.heartbeats.run, registry.announcer.announce)]
    try:
        yield registry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        registry.database.close()


@pytest.fixture
async def registry(url: str) -> AsyncIterator[Registry]:
    clear(url, tables.metadata)
    async with running(Registry(url)) as replica:
        yield replica


@pytest.fixture
async def other(url: str) -> AsyncIterator[Registry]:
    """A second replica on the same database."""
    async with running(Registry(url)) as replica:
        yield replica
