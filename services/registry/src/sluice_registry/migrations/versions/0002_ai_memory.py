"""Dialogues of AI assistants."""

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Identity, String, Text, text

revision = "0002"
down_revision = "0001"

instant = DateTime(timezone=True)
now = text("now()")


def upgrade() -> None:
    op.create_table(
        "ai_memory",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("username", String(100), nullable=False),
        Column("session_id", String(255), nullable=False),
        Column("role", String(10), nullable=False),
        Column("content", Text, nullable=False),
        Column("namespace", String(100)),
        Column("project_path", String(500)),
        Column("created_at", instant, nullable=False, server_default=now, index=True),
    )
    op.create_index("ai_memory_newest", "ai_memory", ["username", "created_at", "id", "namespace"])
