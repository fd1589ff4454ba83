"""Heartbeats write no index."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_index("system_agent_live")
    op.execute("ALTER TABLE system_agent SET (fillfactor = 50)")
