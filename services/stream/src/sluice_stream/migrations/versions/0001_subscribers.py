"""Subscribers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "subscriber",
        sa.Column("subscriber_id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("subscriber_name", sa.String(255), nullable=False, unique=True),
        sa.Column("fraction", sa.Double),
        sa.Column("description", sa.Text),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", instant, nullable=False, server_default=sa.text("now()")),
        sa.Column("updated_at", instant, nullable=False, server_default=sa.text("now()")),
        sa.Column("delivery_type", sa.String(20), nullable=False),
        sa.Column("client_ip", sa.String(45)),
        sa.Column("client_location", sa.String(255), nullable=False),
        sa.Column("connected_at", instant),
        sa.Column("disconnected_at", instant),
        sa.Column("last_activity", instant),
        sa.Column("message_filters", JSONB, nullable=False),
        sa.Column("messages_received", sa.Integer, nullable=False),
        sa.Column("messages_sent", sa.Integer, nullable=False),
        sa.Column("messages_dropped", sa.Integer, nullable=False),
    )
