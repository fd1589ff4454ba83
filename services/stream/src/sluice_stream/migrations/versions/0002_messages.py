"""Recorded messages, and dead letters."""

from alembic import op
from sqlalchemy import Boolean, Column, DateTime, Integer, LargeBinary, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    instant = DateTime(timezone=True)
    op.create_table(
        "workflow_message",
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
        Column("sent_at", instant, nullable=False, server_default=text("now()")),
        Column("delivered_at", instant),
        Column("acknowledged_at", instant),
        Column("is_successful", Boolean),
        Column("error_message", Text),
        Column("queue_name", String(100)),
        Column("correlation_id", String(100)),
        Column("workflow", Uuid),
        Column("stage", Uuid),
    )
    op.create_index("workflow_message_newest", "workflow_message", ["sent_at", "message_id"])
    op.create_index("workflow_message_execution", "workflow_message", ["execution_id", "sent_at", "message_id"])
    op.create_index("workflow_message_run", "workflow_message", ["run_id", "sent_at", "message_id"])
    op.create_table(
        "dead_letter",
        Column("id", Uuid, primary_key=True),
        Column("at", instant, nullable=False),
        Column("stream", String(100), nullable=False),
        Column("subject", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("headers", JSONB, nullable=False),
        Column("data", LargeBinary, nullable=False),
        Column("size", Integer, nullable=False),
    )
    op.create_index("dead_letter_newest", "dead_letter", ["at", "id"])
