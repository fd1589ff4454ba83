"""Tables of the stream service."""

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["dead_letter", "metadata", "sse_connection", "sse_instance", "subscriber", "workflow_message"]

metadata = MetaData()
Instant = DateTime(timezone=True)

# contract 3.8
subscriber = Table(
    "subscriber",
    metadata,
    Column("subscriber_id", Integer, Identity(), primary_key=True),
    Column("subscriber_name", String(255), nullable=False, unique=True),
    Column("fraction", Double),
    Column("description", Text),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=text("now()")),
    Column("updated_at", Instant, nullable=False, server_default=text("now()")),
    Column("delivery_type", String(20), nullable=False),
    # 45 characters hold the longest spelling of an IPv6 address.
    Column("client_ip", String(45)),
    Column("client_location", String(255), nullable=False),
    Column("connected_at", Instant),
    Column("disconnected_at", Instant),
    Column("last_activity", Instant),
    Column("message_filters", JSONB, nullable=False),
    Column("messages_received", Integer, nullable=False),
    Column("messages_sent", Integer, nullable=False),
    Column("messages_dropped", Integer, nullable=False),
)

# contract 3.9
workflow_message = Table(
    "workflow_message",
    metadata,
    # Of a recorded message its own id, so it is recorded once.
    Column("message_id", Uuid, primary_key=True),
    Column("message_type", String(50), nullable=False),
    Column("request_id", Integer),
    Column("sender_agent", String(100)),
    Column("sender_type", String(20)),
    Column("recipient_agent", String(100)),
    Column("recipient_type", String(20)),
    Column("namespace", String(100)),
    Column("execution_id", String(100)),
    Column("run_id", String(50)),
    Column("message_content", JSONB, nullable=False),
    Column("message_metadata", JSONB),
    Column("sent_at", Instant, nullable=False, server_default=text("now()")),
    Column("delivered_at", Instant),
    Column("acknowledged_at", Instant),
    Column("is_successful", Boolean),
    Column("error_message", Text),
    Column("queue_name", String(100)),
    Column("correlation_id", String(100)),
    # Rows of the runs service: no foreign keys.
    Column("workflow", Uuid),
    Column("stage", Uuid),
    Index("workflow_message_newest", "sent_at", "message_id"),
    Index("workflow_message_execution", "execution_id", "sent_at", "message_id"),
    Index("workflow_message_run", "run_id", "sent_at", "message_id"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", Instant, nullable=False),
    # Where it was when it could not be processed; empty when it never got into a stream.
    Column("stream", String(100), nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("data", LargeBinary, nullable=False),
    # Bytes that it had; more than there are in data when it was cut.
    Column("size", Integer, nullable=False),
    Index("dead_letter_newest", "at", "id"),
)

# Subscribers that are event streams. Without a foreign key: who deletes a subscriber ends no stream.
sse_connection = Table(
    "sse_connection",
    metadata,
    Column("subscriber_id", Integer, primary_key=True, autoincrement=False),
    Column("client_id", Uuid, nullable=False, unique=True),
    Column("instance", Uuid, nullable=False),
    Column("filters", JSONB, nullable=False),
    Column("connected_at", Instant, nullable=False),
    Column("ended_at", Instant),
)
Index("sse_connection_open", sse_connection.c.instance, postgresql_where=sse_connection.c.ended_at.is_(None))
Index("sse_connection_ended_at", sse_connection.c.ended_at)

# Processes that serve event streams, and when each last said that it lives.
sse_instance = Table(
    "sse_instance",
    metadata,
    Column("instance", Uuid, primary_key=True),
    Column("seen_at", Instant, nullable=False, server_default=text("now()")),
)
