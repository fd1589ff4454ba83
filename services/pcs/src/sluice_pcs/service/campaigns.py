"""Campaigns: one is the current one; the next one follows another (contract 10.3)."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Resource
from sluice_core.rest.errors import not_found
from sluice_pcs.events import Events
from sluice_pcs.store.campaigns import CampaignStore

__all__ = ["Campaigns"]

Row = dict[str, Any]


class Campaigns:
    """What is done to campaigns beyond their fields."""

    def __init__(self, database: Database, resource: Resource, events: Events) -> None:
        self._database = database
        self._events = events
        self._store = CampaignStore(resource)

    async def make_current(self, key: int, *, promote: bool = False) -> Row:
        """Make a campaign the current one; the one before becomes past.

        Parameters
        ----------
        promote
            The one before becomes the last, and the last one past.

        Raises
        ------
        ApiError
            404.
        """

        def work(connection: Connection) -> Row:
            self._store.hold_all(connection)
            row = self._found(connection, key)
            if row["lifecycle"] != "current":
                moved = self._store.move(connection, "last", "past", key) if promote else []
                moved += self._store.move(connection, "current", "last" if promote else "past", key)
                for each in moved:
                    self._events.say(connection, "campaign", "updated", each["name"], each)
                row = self._store.put(connection, key, "current")
                self._events.say(connection, "campaign", "current", row["name"], row)
            return row

        return await self._run(work)

    async def clone(self, key: int, name: str, caller: Identity) -> Row:
        """Store an empty campaign that follows this one.

        Raises
        ------
        ApiError
            404; 409: the name is taken.
        """

        def work(connection: Connection) -> Row:
            self._store.hold_all(connection)
            self._found(connection, key)
            row = self._store.clone(connection, key, name, caller.subject)
            if row is None:
                raise ApiError(409, {"detail": f"Campaign {name} exists already."})
            self._events.say(connection, "campaign", "created", name, row)
            return row

        return await self._run(work)

    async def _run(self, work: Callable[[Connection], Row]) -> Row:
        return await self._database.run(self._database.transact, work)

    def _found(self, connection: Connection, key: int) -> Row:
        row = self._store.get(connection, key)
        if row is None:
            raise not_found("Campaign")
        return row
