"""Records the messages of the stream ``MESSAGES`` in ``workflow-messages`` (contract 7.4)."""

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from sluice_core.bus import Message as Delivery
from sluice_core.bus import Poison, Rejected
from sluice_core.database import Database
from sluice_core.retention import BATCH
from sluice_stream.messages import Malformed, Message
from sluice_stream.store.messages import MessageStore, Row

__all__ = ["Recorder"]

log = structlog.get_logger(__name__)

# Classes of SQLSTATE that say that a value cannot be stored: bad data, and beyond a limit of PostgreSQL.
UNSTORABLE = ("22", "54")


class Recorder:
    """Writes messages into their table; door from the bus.

    Parameters
    ----------
    database
        Where the table is.
    retention
        Age at which messages are deleted; zero: never.
    """

    def __init__(self, database: Database, *, retention: timedelta) -> None:
        self._database = database
        self._retention = retention
        self._who = f"{socket.gethostname()}:{os.getpid()}"

    async def handle(self, batch: Sequence[Delivery]) -> list[Rejected]:
        """Store a batch in one transaction; returns after the commit.

        Returns
        -------
        list
            What is no message.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        Poison
            PostgreSQL does not take the only message of the batch.
        """
        rows: list[Row] = []
        rejected: list[Rejected] = []
        for delivery in batch:
            try:
                rows.append(self._row(Message.of(delivery.headers, delivery.data)))
            except (ValueError, Malformed) as exc:
                rejected.append((delivery, f"no workflow message: {exc}"))
        if rows:
            try:
                await self._database.run(self._database.transact, lambda connection: MessageStore(connection).add(rows))
            except DBAPIError as exc:
                if len(batch) == 1 and str(getattr(exc.orig, "pgcode", "")).startswith(UNSTORABLE):
                    raise Poison("PostgreSQL cannot store it") from None
                raise
        return rejected

    def _row(self, message: Message) -> Row:
        said = message.fields
        return {
            "message_id": message.id,
            "message_type": said.msg_type,
            "sender_agent": said.sender,
            "recipient_agent": said.recipient,
            "namespace": said.namespace,
            "execution_id": said.execution_id,
            "run_id": said.run_id,
            "message_content": said.content,
            "message_metadata": {
                "created_by": self._who,
                "process_pid": os.getpid(),
                "processed_at": datetime.now(UTC).isoformat(),
                "django_instance": "sluice_stream",
                "destination": message.destination,
            },
            "sent_at": message.at,
            "is_successful": True,
            "queue_name": message.queue_name,
        }

    def forget(self) -> int:
        """Delete some of what is too old and return how many; blocks."""
        if not self._retention:
            return 0
        count = self._database.transact(lambda connection: MessageStore(connection).forget(self._retention, BATCH))
        if count:
            log.info("messages deleted by age", count=count)
        return count
