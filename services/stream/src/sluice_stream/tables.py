"""Tables of the stream service."""

from sqlalchemy import Boolean, Column, DateTime, Double, Identity, Integer, MetaData, String, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["metadata", "subscriber"]

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
