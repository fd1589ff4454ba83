"""The table ``workflow_message``."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from sluice_core.database import recordset
from sluice_core.retention import deletion
from sluice_stream.tables import workflow_message

__all__ = ["MessageStore", "Row"]

Row = dict[str, Any]

# What the recorder writes; the rest is for those who write by REST.
WRITTEN = [
    workflow_message.c[name]
    for name in (
        "message_id",
        "message_type",
        "sender_agent",
        "recipient_agent",
        "namespace",
        "execution_id",
        "run_id",
        "message_content",
        "message_metadata",
        "sent_at",
        "is_successful",
        "queue_name",
    )
]
ADD = (
    insert(workflow_message)
    .from_select([each.name for each in WRITTEN], select(recordset(WRITTEN)))
    .on_conflict_do_nothing(index_elements=["message_id"])
)
FORGET = deletion(workflow_message.c.message_id, workflow_message.c.sent_at)


class MessageStore:
    """Recorded messages. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, rows: Sequence[Row]) -> None:
        """Store messages but those that are there."""
        self._connection.execute(ADD, {"rows": rows})

    def forget(self, age: timedelta, most: int) -> int:
        """Delete messages that came longer ago, by the database's clock, at most so many; return how many."""
        return self._connection.execute(FORGET, {"age": age, "most": most}).rowcount
