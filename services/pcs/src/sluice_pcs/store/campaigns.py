"""Campaigns beside what their resource does."""

from typing import Any

from sqlalchemy import Connection, insert, select, text

from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_pcs.tables import campaign

__all__ = ["CampaignStore"]

Row = dict[str, Any]


class CampaignStore:
    """The ``campaign`` table. Never commits."""

    def __init__(self, resource: Resource) -> None:
        self._rows = ResourceStore(resource)

    def get(self, connection: Connection, key: int) -> Row | None:
        """Return a campaign."""
        return self._rows.get(connection, key)

    def hold_all(self, connection: Connection) -> None:
        """Let nobody else change which campaign is the current one until the transaction ends."""
        connection.execute(text("LOCK TABLE campaign IN SHARE ROW EXCLUSIVE MODE"))

    def move(self, connection: Connection, before: str, after: str, but: int) -> list[Row]:
        """Move the campaigns of one part of life to another, but for one of them; return them."""
        query = select(campaign.c.id).where(campaign.c.lifecycle == before, campaign.c.id != but)
        return [self.put(connection, key, after) for key in connection.execute(query).scalars().all()]

    def put(self, connection: Connection, key: int, lifecycle: str) -> Row:
        """Say in which part of its life a campaign is."""
        row = self._rows.update(connection, key, {"lifecycle": lifecycle})
        assert row is not None
        return row

    def clone(self, connection: Connection, key: int, name: str, created_by: str) -> Row | None:
        """Store an empty campaign after another one; None when there is one of this name."""
        if connection.execute(select(campaign.c.id).where(campaign.c.name == name)).first() is not None:
            return None
        values = {
            "name": name,
            "lifecycle": "future",
            "description": "",
            "clone_of": key,
            "created_by": created_by,
        }
        made = connection.execute(insert(campaign).values(values).returning(campaign.c.id)).scalar_one()
        return self._rows.get(connection, made)
