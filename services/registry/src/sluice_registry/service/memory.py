"""What AI assistants and people said to each other (contract 4.4, decision 12)."""

from collections.abc import Mapping
from datetime import UTC, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from sluice_core.database import Database
from sluice_core.retention import BATCH
from sluice_registry.store.memory import MemoryStore

__all__ = ["MOST_BYTES", "MOST_TURNS", "Memory"]

MOST_TURNS = 1000
MOST_BYTES = 8 * 2**20
"""Text that is returned at once: what is older is left out."""

log = structlog.get_logger(__name__)


class Memory:
    """Records and recalls dialogues. Nothing is told about them on the bus: they are private.

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

    async def record(self, record: Mapping[str, Any]) -> int:
        """Store one utterance; returns its id after the commit.

        Raises
        ------
        DatabaseAway
            It is not stored.
        """
        return await self._database.run(self._database.transact, lambda each: MemoryStore(each).add(record))

    async def recall(self, username: str, namespace: str | None, turns: int) -> list[dict[str, Any]]:
        """Return the newest utterances of a user's dialogues, two a turn, oldest first.

        Parameters
        ----------
        namespace
            None: of any and of none.
        turns
            More than `MOST_TURNS` are that many.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        work = partial(self._recall, username=username, namespace=namespace, turns=min(turns, MOST_TURNS))
        return await self._database.run(self._database.read, work)

    def _recall(self, connection: Connection, username: str, namespace: str | None, turns: int) -> list[dict[str, Any]]:
        found = MemoryStore(connection).newest(username, namespace, 2 * turns, MOST_BYTES)
        # In UTC and with a numeric offset, whatever the zone of the server is (contract 2.3).
        return [{**row, "created_at": row["created_at"].astimezone(UTC).isoformat()} for row in reversed(found)]

    def forget(self) -> int:
        """Delete some of what is too old and return how many; blocks.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        if not self._retention:
            return 0
        count = self._database.transact(lambda each: MemoryStore(each).forget(self._retention, BATCH))
        if count:
            log.info("dialogues deleted by age", count=count)
        return count
