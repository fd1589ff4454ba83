"""What the registry says about agents: durable changes through the outbox, heartbeats best-effort."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
from sqlalchemy import Connection

from sluice_core import outbox, subjects
from sluice_core.database import after_commit
from sluice_registry import tables

__all__ = ["AgentEvents", "same"]

Row = dict[str, Any]

_in_order = msgspec.json.Encoder(order="deterministic").encode

# A heartbeat that moves only these changes no state (architecture, rule 5).
PULSE = frozenset({"last_heartbeat", "updated_at", "current_stf_count", "total_stf_processed", "last_stf_processed"})


# Of several heartbeats of one agent within it the last is published. To publish each was a quarter of what the registry
# does for a heartbeat.
MOMENT = 0.05


def same(one: Row, other: Row, *, but: Collection[str] = ()) -> bool:
    """Whether two states of an agent are equal in JSON, where 1 is not true; to Python they are."""
    if any(one[key] != other[key] for key in one if key not in but):
        return False
    return one["metadata"] is None or _in_order(one["metadata"]) == _in_order(other["metadata"])


class AgentEvents:
    """Events about agents.

    Parameters
    ----------
    wake
        Called after the commit of a transaction with events, from any thread; starts the relay.
    publish
        Publishes best-effort, from the event loop.
    """

    def __init__(self, wake: Callable[[], None], publish: Callable[[str, bytes], Awaitable[object]]) -> None:
        self._wake = wake
        self._publish = publish
        self._latest: dict[str, tuple[str | None, bytes]] = {}
        self._came = asyncio.Event()

    def changed(self, connection: Connection, before: Row | None, after: Row | None) -> None:
        """Say in the same transaction that an agent changed, if it did.

        Parameters
        ----------
        connection
            Of the transaction that changes it.
        before, after
            The agent as on the wire; None where there is none, or where it is known to differ.
        """
        row = after or before
        assert row is not None
        if before is not None and after is not None and same(before, after, but=PULSE):
            return
        outbox.add(
            connection,
            tables.outbox,
            subject=subjects.agents_state(row["namespace"], row["instance_name"]),
            event_type="agent.state" if after else "agent.deleted",
            data=row,
            key=row["instance_name"],
        )
        after_commit(connection, self._wake)

    def beat(self, row: Row, encoded: bytes) -> None:
        """Say within a moment that a heartbeat was accepted; nobody may be listening. Called on the event loop.

        Parameters
        ----------
        row
            The agent.
        encoded
            The same, as JSON.
        """
        self._latest[row["instance_name"]] = (row["namespace"], encoded)
        self._came.set()

    async def announce(self) -> None:
        """Publish the latest heartbeat of each agent, for ever; a long-lived task."""
        while True:
            await self._came.wait()
            self._came.clear()
            latest, self._latest = self._latest, {}
            for name, (namespace, encoded) in latest.items():
                await self._publish(subjects.agents_heartbeat(namespace, name), encoded)
            await asyncio.sleep(MOMENT)
