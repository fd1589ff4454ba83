"""Runs, files, slices, run states, workflows and the outbox."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

instant = DateTime(timezone=True)
any_json = JSONB(none_as_null=True)
now = text("now()")


def cascade(column: str) -> ForeignKey:
    return ForeignKey(column, ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "run",
        Column("run_id", Integer, Identity(), primary_key=True),
        Column("run_number", Integer, nullable=False, unique=True),
        Column("start_time", instant, nullable=False, index=True),
        Column("end_time", instant),
        Column("run_conditions", any_json),
    )
    op.create_table(
        "stf_file",
        Column("file_id", Uuid, primary_key=True),
        Column("machine_state", String(64), nullable=False),
        Column("stf_filename", String(255), nullable=False, unique=True),
        Column("file_size_bytes", BigInteger),
        Column("checksum", String(64)),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("status", String(20), nullable=False),
        Column("metadata", any_json),
        Column("workflow_id", Uuid, index=True),
        Column("daq_state", String(20)),
        Column("daq_substate", String(20)),
        Column("workflow_status", String(30)),
        Column("run_id", Integer, cascade("run.run_id"), nullable=False, index=True),
        Column("settled_at", instant),
        Index("stf_file_open", "created_at", postgresql_where=text("settled_at IS NULL")),
    )
    op.create_table(
        "fastmon_file",
        Column("tf_file_id", Uuid, primary_key=True),
        Column("stf_file_id", Uuid, cascade("stf_file.file_id"), nullable=False, index=True),
        Column("tf_filename", String(255), nullable=False, unique=True),
        Column("file_size_bytes", BigInteger),
        Column("checksum", String(64)),
        Column("status", String(20), nullable=False),
        Column("metadata", any_json),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
        Column("tf_first", Integer),
        Column("tf_last", Integer),
        Column("tf_count", Integer),
    )
    op.create_table(
        "workflow",
        Column("workflow_id", Uuid, primary_key=True),
        Column("filename", String(255), nullable=False, unique=True),
        Column("file_id", Uuid),
        Column("namespace", String(100)),
        Column("execution_id", String(100), index=True),
        Column("run_id", String(50), index=True),
        Column("daq_state", String(20), nullable=False),
        Column("daq_substate", String(20), nullable=False),
        Column("generated_time", instant, nullable=False, index=True),
        Column("stf_start_time", instant, nullable=False),
        Column("stf_end_time", instant, nullable=False),
        Column("current_status", String(30), nullable=False),
        Column("current_agent", String(20), nullable=False),
        Column("completed_at", instant),
        Column("failed_at", instant),
        Column("failure_reason", Text),
        Column("stf_metadata", any_json),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
    )
    op.create_table(
        "workflow_stage",
        Column("stage_id", Uuid, primary_key=True),
        Column("agent_name", String(100), nullable=False),
        Column("agent_type", String(20), nullable=False),
        Column("status", String(30), nullable=False),
        Column("received_at", instant),
        Column("started_at", instant),
        Column("completed_at", instant),
        Column("failed_at", instant),
        Column("processing_time_seconds", Double),
        Column("failure_reason", Text),
        Column("input_message", any_json),
        Column("output_message", any_json),
        Column("stage_metadata", any_json),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
        Column("workflow_id", Uuid, cascade("workflow.workflow_id"), nullable=False),
        UniqueConstraint("workflow_id", "agent_name", "agent_type", name="workflow_stage_once"),
        Index("workflow_stage_created", "created_at", "stage_id"),
    )
    op.create_table(
        "workflow_definition",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("workflow_name", String(200), nullable=False),
        Column("version", String(50), nullable=False),
        Column("workflow_type", String(100), nullable=False),
        Column("definition", Text, nullable=False),
        Column("parameter_values", any_json, nullable=False),
        Column("created_by", String(100), nullable=False),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
        UniqueConstraint("workflow_name", "version", name="workflow_definition_once"),
    )
    op.create_table(
        "workflow_execution",
        Column("execution_id", String(100), primary_key=True),
        Column("namespace", String(100), index=True),
        Column("parameter_values", any_json, nullable=False),
        Column("performance_metrics", any_json),
        Column("status", String(50), nullable=False, index=True),
        Column("start_time", instant, nullable=False),
        Column("end_time", instant),
        Column("executed_by", String(100), nullable=False, index=True),
        Column("workflow_definition_id", BigInteger, cascade("workflow_definition.id"), nullable=False, index=True),
        Index("workflow_execution_newest", "start_time", "execution_id"),
    )
    op.create_table(
        "tf_slice",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("slice_id", Integer, nullable=False),
        Column("tf_first", Integer, nullable=False),
        Column("tf_last", Integer, nullable=False),
        Column("tf_count", Integer, nullable=False),
        Column("tf_filename", String(255), nullable=False),
        Column("stf_filename", String(255), nullable=False, index=True),
        Column("run_number", Integer, nullable=False),
        Column("status", String(20), nullable=False),
        Column("retries", Integer, nullable=False),
        Column("metadata", any_json),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
        Column("assigned_worker", String(255)),
        Column("assigned_at", instant),
        Column("completed_at", instant),
        Column("fastmon_file", String(255), nullable=False, index=True),
        UniqueConstraint("tf_filename", "slice_id", name="tf_slice_once"),
        Index("tf_slice_of_run", "run_number", "slice_id"),
    )
    op.create_table(
        "run_state",
        Column("run_number", Integer, primary_key=True, autoincrement=False),
        Column("phase", String(20), nullable=False),
        Column("state", String(20), nullable=False),
        Column("substate", String(20)),
        Column("target_worker_count", Integer, nullable=False),
        Column("active_worker_count", Integer, nullable=False),
        Column("stf_samples_received", Integer, nullable=False),
        Column("slices_created", Integer, nullable=False),
        Column("slices_queued", Integer, nullable=False),
        Column("slices_processing", Integer, nullable=False),
        Column("slices_completed", Integer, nullable=False),
        Column("slices_failed", Integer, nullable=False),
        Column("state_changed_at", instant, nullable=False),
        Column("updated_at", instant, nullable=False, server_default=now),
        Column("metadata", any_json),
        Column("execution_id", String(100), index=True),
    )
    op.create_table(
        "system_state_event",
        Column("event_id", Integer, Identity(), primary_key=True),
        Column("timestamp", instant, nullable=False),
        Column("run_number", Integer),
        Column("event_type", String(50), nullable=False),
        Column("state", String(20), nullable=False),
        Column("substate", String(20)),
        Column("event_data", any_json, nullable=False),
        Index("system_state_event_of_run", "run_number", "timestamp"),
    )
    op.create_table(
        "message_dispatch",
        Column("dispatch_id", Uuid, primary_key=True),
        Column("dispatch_time", instant, nullable=False, server_default=now),
        Column("message_content", any_json),
        Column("is_successful", Boolean),
        Column("error_message", Text),
        Column("workflow_id", Uuid),
        Column("message_type", String(50)),
        Column("sender_agent", String(100)),
        Column("recipient_agent", String(100)),
        Column("stf_file_id", Uuid, cascade("stf_file.file_id"), nullable=False, index=True),
    )
    op.create_table(
        "repeat",
        Column("caller", Text, primary_key=True),
        Column("path", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("row_key", Text, nullable=False),
        Column("at", instant, nullable=False, server_default=now, index=True),
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
