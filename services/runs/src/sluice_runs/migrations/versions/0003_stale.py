"""What is stale, and which agents live."""

from alembic import op
from sqlalchemy import Boolean, Column, DateTime, Integer, String, Text, text

revision = "0003"
down_revision = "0002"

instant = DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "agent_seen",
        Column("name", String(100), primary_key=True),
        Column("alive", Boolean, nullable=False),
    )
    op.create_table(
        "stale",
        Column("kind", String(20), primary_key=True),
        Column("key", Text, primary_key=True),
        Column("run_number", Integer),
        Column("execution_id", String(100)),
        Column("namespace", String(100)),
        Column("since", instant, nullable=False),
        Column("noticed_at", instant, nullable=False, server_default=text("now()")),
        Column("reason", Text, nullable=False),
    )
