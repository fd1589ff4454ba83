"""Messages about runs, and what decided where a run stands."""

from alembic import op
from sqlalchemy import Boolean, Column, DateTime, Index, Integer, SmallInteger, String, Uuid, text

revision = "0002"
down_revision = "0001"

instant = DateTime(timezone=True)
now = text("now()")


def upgrade() -> None:
    op.add_column("tf_slice", Column("result_status", String(20)))
    op.add_column("tf_slice", Column("result_at", instant))
    op.add_column("tf_slice", Column("unanswered", Boolean, nullable=False, server_default=text("false")))
    op.add_column("run_state", Column("registered", Boolean, nullable=False, server_default=text("true")))
    op.create_table(
        "run_state_change",
        Column("change_id", Uuid, primary_key=True),
        Column("run_number", Integer, nullable=False),
        Column("at", instant, nullable=False),
        Column("rank", SmallInteger, nullable=False),
        Column("source", String(20), nullable=False),
        Column("message_type", String(50)),
        Column("phase", String(20), nullable=False),
        Column("state", String(20), nullable=False),
        Column("substate", String(20)),
        Column("sender", String(100)),
        Column("execution_id", String(100)),
        Column("namespace", String(100)),
        Column("received_at", instant, nullable=False, server_default=now),
        Index("run_state_change_order", "run_number", "at", "rank", "change_id"),
    )
    op.create_table(
        "run_message",
        Column("message_id", Uuid, primary_key=True),
        Column("run_number", Integer, nullable=False),
        Column("at", instant, nullable=False),
        Column("message_type", String(50), nullable=False),
        Column("sender", String(100)),
        Column("execution_id", String(100)),
        Column("namespace", String(100)),
        Column("received_at", instant, nullable=False, server_default=now, index=True),
        Index("run_message_of_run", "run_number", "at"),
        Index("run_message_of_execution", "execution_id", "received_at"),
    )
