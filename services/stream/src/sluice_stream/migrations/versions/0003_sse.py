"""Connections of the event stream."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "sse_connection",
        sa.Column("subscriber_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("client_id", sa.Uuid, nullable=False, unique=True),
        sa.Column("instance", sa.Uuid, nullable=False),
        sa.Column("filters", JSONB, nullable=False),
        sa.Column("connected_at", instant, nullable=False),
        sa.Column("ended_at", instant),
    )
    op.create_index("sse_connection_open", "sse_connection", ["instance"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index("sse_connection_ended_at", "sse_connection", ["ended_at"])
    op.create_table(
        "sse_instance",
        sa.Column("instance", sa.Uuid, primary_key=True),
        sa.Column("seen_at", instant, nullable=False, server_default=sa.text("now()")),
    )
