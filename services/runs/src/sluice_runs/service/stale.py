"""What is stale: shown and told, and never repaired (decision 19)."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from sluice_core.database import Database, DatabaseAway
from sluice_runs.service.events import Events
from sluice_runs.store import repeats
from sluice_runs.store.life import Life
from sluice_runs.store.origins import Origin
from sluice_runs.store.stale import StaleStore

__all__ = ["MOST", "Stale"]

log = structlog.get_logger(__name__)

Row = dict[str, Any]
MOST = 1000
"""Rows of the list."""
# Longer than any client tries again.
REPEATS_KEPT = timedelta(days=1)
TIDY_EVERY = 3600.0


class Stale:
    """Looks for what is stale.

    Parameters
    ----------
    ages
        From when on: of ``execution``, ``state`` and ``stf``.
    """

    def __init__(self, database: Database, events: Events, ages: Mapping[str, timedelta]) -> None:
        self._database = database
        self._events = events
        self._ages = ages

    def agents(self, alive: Mapping[str, bool]) -> None:
        """Note which agents live; blocks."""
        self._database.transact(lambda connection: StaleStore(connection).agents(alive))

    def listed(self) -> list[Row]:
        """Return what is stale, longest first; blocks."""
        return self._database.read(lambda connection: StaleStore(connection).listed(MOST))

    def look(self) -> None:
        """Note and tell what has become stale, and what is so no longer; blocks."""
        self._database.transact(self._look)

    async def look_regularly(self, every: timedelta) -> None:
        """Look, for ever; a long-lived task."""
        while True:
            # First of all, who has been away may hear what happened meanwhile.
            await asyncio.sleep(every.total_seconds())
            try:
                await self._database.run(self.look)
            except DatabaseAway as exc:
                log.warning("nobody looks for what is stale", reason=str(exc))

    async def tidy_regularly(self, retention: timedelta) -> None:
        """Forget old messages and requests, for ever; a long-lived task."""
        while True:
            try:
                await self._database.run(self._database.transact, partial(_tidy, retention))
            except DatabaseAway as exc:
                log.warning("nothing is forgotten", reason=str(exc))
            await asyncio.sleep(TIDY_EVERY)

    def _look(self, connection: Connection) -> None:
        store = StaleStore(connection)
        if store.alone():
            self._tell(connection, "mended", store.mended(self._ages))
            self._tell(connection, "noticed", store.noticed(self._ages))

    def _tell(self, connection: Connection, what: str, rows: Sequence[Row]) -> None:
        for row in rows:
            where = Origin(row["run_number"], row["execution_id"], row["namespace"])
            self._events.say(connection, "stale", what, where, {"row": row}, key=f"{row['kind']} {row['key']}")


def _tidy(retention: timedelta, connection: Connection) -> None:
    Life(connection).forget_before(datetime.now(UTC) - retention)
    repeats.forget(connection, REPEATS_KEPT)
