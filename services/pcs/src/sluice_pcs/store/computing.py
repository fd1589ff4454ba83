"""Queues and storage elements: whether one is there, and whether one is in use."""

from typing import Any

from sqlalchemy import Connection, Table, func, select, union_all

from sluice_pcs.tables import panda_queue, prod_config, prod_task, rucio_endpoint

__all__ = ["KNOWN_AS", "ComputingStore"]

# Field of a configuration -> where its value is a name.
KNOWN_AS: dict[str, Table] = {"panda_queue": panda_queue, "rucio_rse": rucio_endpoint}


class ComputingStore:
    """The ``panda_queue`` and ``rucio_endpoint`` tables beside what their resources do. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def knows(self, field: str, name: Any) -> bool:
        """Whether there is one of this name; nobody deletes it until the transaction ends."""
        table = KNOWN_AS[field]
        if not isinstance(name, str) or "\x00" in name:
            return False
        query = select(table.c.name).where(table.c.name == name).with_for_update(read=True, key_share=True)
        return self._connection.execute(query).first() is not None

    def user_of(self, field: str, name: str) -> str | None:
        """Return the name of a configuration or task that uses it."""
        overrides = func.jsonb_extract_path_text(prod_task.c.overrides, field)
        users = union_all(
            select(prod_config.c.name).where(prod_config.c[field] == name),
            select(prod_task.c.name).where(overrides == name),
        )
        found: str | None = self._connection.execute(users.limit(1)).scalar()
        return found
