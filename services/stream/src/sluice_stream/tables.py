"""Tables of the stream service."""

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["metadata", "sse_connection", "sse_instance", "subscriber"]

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
