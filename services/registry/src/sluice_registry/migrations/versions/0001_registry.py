"""Agents, workers, namespaces, counters, tokens and the outbox."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Identity, Integer, LargeBinary, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None

instant = DateTime(timezone=True)
now = text("now()")


def upgrade() -> None:
    op.create_table(
        "system_agent",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("instance_name", String(100), nullable=False, unique=True),
        Column("agent_type", String(100), nullable=False),
        Column("description", Text, nullable=False),
        Column("status", String(10), nullable=False),
        Column("last_heartbeat", instant),
        Column("agent_url", String(200)),
        Column("workflow_enabled", Boolean, nullable=False),
        Column("current_stf_count", Integer, nullable=False),
        Column("total_stf_processed", Integer, nullable=False),
        Column("last_stf_processed", instant),
        Column("pid", Integer),
        Column("hostname", String(100)),
        Column("operational_state", String(20), nullable=False),
        Column("namespace", String(100)),
        Column("metadata", JSONB),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
    )
    op.create_index("system_agent_namespace", "system_agent", ["namespace"])
    op.create_index(
        "system_agent_live",
        "system_agent",
        ["last_heartbeat"],
        postgresql_where=text("status <> 'EXITED' AND operational_state <> 'EXITED'"),
    )
    op.create_table(
        "worker",
        Column("worker_id", String(255), primary_key=True),
        Column("run_number", Integer, nullable=False, index=True),
        Column("panda_job", String(255), nullable=False),
        Column("location", String(255), nullable=False),
        Column("status", String(20), nullable=False),
        Column("current_slice_id", Integer),
        Column("tf_filename", String(255)),
        Column("slices_completed", Integer, nullable=False),
        Column("last_heartbeat", instant),
        Column("started_at", instant, nullable=False),
        Column("ended_at", instant),
        Column("metadata", JSONB),
    )
    op.create_table(
        "namespace",
        Column("name", String(100), primary_key=True),
        Column("owner", String(100), nullable=False),
        Column("description", Text, nullable=False),
        Column("metadata", JSONB),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
    )
    op.create_table(
        "counter",
        Column("name", String(50), primary_key=True),
        Column("next", BigInteger, nullable=False),
        Column("last_taken_at", instant),
    )
    op.create_table(
        "signing_key",
        Column("kid", String(64), primary_key=True),
        Column("private_pem", LargeBinary, nullable=False),
        Column("created_at", instant, nullable=False, server_default=now),
    )
    op.create_table(
        "token",
        Column("id", String(64), primary_key=True),
        Column("name", String(100), nullable=False),
        Column("subject", String(150), nullable=False, index=True),
        Column("roles", ARRAY(String(50)), nullable=False),
        Column("scopes", ARRAY(String(50)), nullable=False),
        Column("sha256", String(64), unique=True),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("created_by", String(150), nullable=False),
        Column("expires_at", instant),
        Column("revoked_at", instant),
    )
    op.create_table(
        "outbox",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("event_id", Uuid, nullable=False),
        Column("subject", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("schema", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", instant, nullable=False, server_default=now),
    )
