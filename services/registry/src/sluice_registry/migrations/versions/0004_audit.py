"""Who did what."""

from alembic import op
from sqlalchemy import Column, DateTime, Integer, String, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "audit",
        Column("id", Uuid, primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("service", String(50), nullable=False),
        Column("action", String(255), nullable=False),
        Column("username", String(255), nullable=False),
        Column("token_id", String(255)),
        Column("method", String(255), nullable=False),
        Column("route", String(255), nullable=False),
        Column("key", String(255), nullable=False),
        Column("outcome", String(10), nullable=False),
        Column("status", Integer),
        Column("request_id", String(255), nullable=False),
        Column("source", String(255), nullable=False),
        Column("detail", JSONB(none_as_null=True)),
    )
    op.create_index("audit_newest", "audit", ["at", "id"])
    op.create_index("audit_of_user", "audit", ["username", "at", "id"])
    op.create_index("audit_of_token", "audit", ["token_id", "at", "id"], postgresql_where=text("token_id IS NOT NULL"))
