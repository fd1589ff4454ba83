"""The table ``workflow_message``."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from sluice_stream.tables import workflow_message

__all__ = ["MessageStore", "Row"]

Row = dict[str, Any]

ADD = insert(workflow_message).on_conflict_do_nothing(index_elements=["message_id"])
# What another replica is deleting is left to it.
_OLD = (
    select(workflow_message.c.message_id)
    .where(workflow_message.c.sent_at < func.now() - bindparam("age"))
    .order_by(workflow_message.c.sent_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
FORGET = delete(workflow_message).where(workflow_message.c.message_id.in_(_OLD))


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
        self._connection.execute(ADD, rows)

    def forget(self, age: timedelta, most: int) -> int:
        """Delete messages that came longer ago, by the database's clock, at most so many; return how many."""
        return self._connection.execute(FORGET, {"age": age, "most": most}).rowcount
