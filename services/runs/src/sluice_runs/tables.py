"""Tables of the run service."""

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
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sluice_core.outbox import outbox_table

__all__ = [
    "agent_seen",
    "definition",
    "dispatch",
    "execution",
    "fastmon_file",
    "metadata",
    "outbox",
    "repeat",
    "run",
    "run_message",
    "run_state",
    "run_state_change",
    "stage",
    "stale",
    "state_event",
    "stf_file",
    "tf_slice",
    "workflow",
]

metadata = MetaData()
Instant = DateTime(timezone=True)
AnyJson = JSONB(none_as_null=True)
NOW = text("now()")


def _cascade(column: str) -> ForeignKey:
    return ForeignKey(column, ondelete="CASCADE")


# contract 3.3
run = Table(
    "run",
    metadata,
    Column("run_id", Integer, Identity(), primary_key=True),
    Column("run_number", Integer, nullable=False, unique=True),
    Column("start_time", Instant, nullable=False, index=True),
    Column("end_time", Instant),
    Column("run_conditions", AnyJson),
)

# contract 3.4
stf_file = Table(
    "stf_file",
    metadata,
    Column("file_id", Uuid, primary_key=True),
    Column("machine_state", String(64), nullable=False),
    Column("stf_filename", String(255), nullable=False, unique=True),
    Column("file_size_bytes", BigInteger),
    Column("checksum", String(64)),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("status", String(20), nullable=False),
    Column("metadata", AnyJson),
    Column("workflow_id", Uuid, index=True),
    Column("daq_state", String(20)),
    Column("daq_substate", String(20)),
    Column("workflow_status", String(30)),
    Column("run_id", Integer, _cascade("run.run_id"), nullable=False, index=True),
    # When its status became one that nothing follows; for latencies.
    Column("settled_at", Instant),
    # The few that are still to be worked on.
    Index("stf_file_open", "created_at", postgresql_where=text("settled_at IS NULL")),
)

# contract 3.5
fastmon_file = Table(
    "fastmon_file",
    metadata,
    Column("tf_file_id", Uuid, primary_key=True),
    Column("stf_file_id", Uuid, _cascade("stf_file.file_id"), nullable=False, index=True),
    Column("tf_filename", String(255), nullable=False, unique=True),
    Column("file_size_bytes", BigInteger),
    Column("checksum", String(64)),
    Column("status", String(20), nullable=False),
    Column("metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    Column("tf_first", Integer),
    Column("tf_last", Integer),
    Column("tf_count", Integer),
)

# contract 3.6
workflow = Table(
    "workflow",
    metadata,
    Column("workflow_id", Uuid, primary_key=True),
    Column("filename", String(255), nullable=False, unique=True),
    Column("file_id", Uuid),
    Column("namespace", String(100)),
    Column("execution_id", String(100), index=True),
    Column("run_id", String(50), index=True),
    Column("daq_state", String(20), nullable=False),
    Column("daq_substate", String(20), nullable=False),
    Column("generated_time", Instant, nullable=False, index=True),
    Column("stf_start_time", Instant, nullable=False),
    Column("stf_end_time", Instant, nullable=False),
    Column("current_status", String(30), nullable=False),
    Column("current_agent", String(20), nullable=False),
    Column("completed_at", Instant),
    Column("failed_at", Instant),
    Column("failure_reason", Text),
    Column("stf_metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
)

# contract 3.7
stage = Table(
    "workflow_stage",
    metadata,
    Column("stage_id", Uuid, primary_key=True),
    Column("agent_name", String(100), nullable=False),
    Column("agent_type", String(20), nullable=False),
    Column("status", String(30), nullable=False),
    Column("received_at", Instant),
    Column("started_at", Instant),
    Column("completed_at", Instant),
    Column("failed_at", Instant),
    Column("processing_time_seconds", Double),
    Column("failure_reason", Text),
    Column("input_message", AnyJson),
    Column("output_message", AnyJson),
    Column("stage_metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    Column("workflow_id", Uuid, _cascade("workflow.workflow_id"), nullable=False),
    # Of the workflow, whose newest come first in the list of stages.
    Column("generated_time", Instant, nullable=False, index=True),
    UniqueConstraint("workflow_id", "agent_name", "agent_type", name="workflow_stage_once"),
)

# contract 3.10
definition = Table(
    "workflow_definition",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("workflow_name", String(200), nullable=False),
    Column("version", String(50), nullable=False),
    Column("workflow_type", String(100), nullable=False),
    Column("definition", Text, nullable=False),
    Column("parameter_values", AnyJson, nullable=False),
    Column("created_by", String(100), nullable=False),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    UniqueConstraint("workflow_name", "version", name="workflow_definition_once"),
)

# contract 3.11
execution = Table(
    "workflow_execution",
    metadata,
    Column("execution_id", String(100), primary_key=True),
    Column("namespace", String(100), index=True),
    Column("parameter_values", AnyJson, nullable=False),
    Column("performance_metrics", AnyJson),
    Column("status", String(50), nullable=False, index=True),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant),
    Column("executed_by", String(100), nullable=False, index=True),
    Column("workflow_definition_id", BigInteger, _cascade("workflow_definition.id"), nullable=False, index=True),
    Index("workflow_execution_newest", "start_time", "execution_id"),
)

# contract 3.12; no foreign key, since the flat names come without one (decision 8)
tf_slice = Table(
    "tf_slice",
    metadata,
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
    Column("metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    Column("assigned_worker", String(255)),
    Column("assigned_at", Instant),
    Column("completed_at", Instant),
    Column("fastmon_file", String(255), nullable=False, index=True),
    # What the last message about it said, and when by the sender's clock.
    Column("result_status", String(20)),
    Column("result_at", Instant),
    # Such a message finished it, and no client has written it since: what agents look for then.
    Column("unanswered", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("tf_filename", "slice_id", name="tf_slice_once"),
    Index("tf_slice_of_run", "run_number", "slice_id"),
)

# contract 3.14
run_state = Table(
    "run_state",
    metadata,
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
    Column("state_changed_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    Column("metadata", AnyJson),
    # Which execution the run belongs to: from the metadata that the runner gives.
    Column("execution_id", String(100), index=True),
    # Not only messages know of it.
    Column("registered", Boolean, nullable=False, server_default=text("true")),
)

# What decided where a run stands: messages, writes of clients, ends of executions (contract 13; decisions 15, 19).
# Outlives a row that a client puts in the place of one made from messages.
run_state_change = Table(
    "run_state_change",
    metadata,
    # Of the message.
    Column("change_id", Uuid, primary_key=True),
    Column("run_number", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("source", String(20), nullable=False),
    Column("message_type", String(50)),
    Column("phase", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("substate", String(20)),
    Column("sender", String(100)),
    Column("execution_id", String(100)),
    Column("namespace", String(100)),
    Column("received_at", Instant, nullable=False, server_default=NOW),
    Index("run_state_change_order", "run_number", "at", "rank", "change_id"),
)

# Messages about runs, without what they say; each is looked at once.
run_message = Table(
    "run_message",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("run_number", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("message_type", String(50), nullable=False),
    Column("sender", String(100)),
    Column("execution_id", String(100)),
    Column("namespace", String(100)),
    Column("received_at", Instant, nullable=False, server_default=NOW, index=True),
    Index("run_message_of_run", "run_number", "at"),
    Index("run_message_of_execution", "execution_id", "received_at"),
)

# Agents, as the registry tells: who runs executions, and lives.
agent_seen = Table(
    "agent_seen",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("alive", Boolean, nullable=False),
)

# What is stale now (decision 19); shown, and never repaired.
stale = Table(
    "stale",
    metadata,
    Column("kind", String(20), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("run_number", Integer),
    Column("execution_id", String(100)),
    Column("namespace", String(100)),
    Column("since", Instant, nullable=False),
    Column("noticed_at", Instant, nullable=False, server_default=NOW),
    Column("reason", Text, nullable=False),
)

# contract 3.15
state_event = Table(
    "system_state_event",
    metadata,
    Column("event_id", Integer, Identity(), primary_key=True),
    Column("timestamp", Instant, nullable=False),
    Column("run_number", Integer),
    Column("event_type", String(50), nullable=False),
    Column("state", String(20), nullable=False),
    Column("substate", String(20)),
    Column("event_data", AnyJson, nullable=False),
    Index("system_state_event_of_run", "run_number", "timestamp"),
)

# contract 3.16
dispatch = Table(
    "message_dispatch",
    metadata,
    Column("dispatch_id", Uuid, primary_key=True),
    Column("dispatch_time", Instant, nullable=False, server_default=NOW),
    Column("message_content", AnyJson),
    Column("is_successful", Boolean),
    Column("error_message", Text),
    Column("workflow_id", Uuid),
    Column("message_type", String(50)),
    Column("sender_agent", String(100)),
    Column("recipient_agent", String(100)),
    Column("stf_file_id", Uuid, _cascade("stf_file.file_id"), nullable=False, index=True),
)

# Requests with an Idempotency-Key, and the rows they made (decision 16).
repeat = Table(
    "repeat",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("row_key", Text, nullable=False),
    Column("at", Instant, nullable=False, server_default=NOW, index=True),
)

outbox = outbox_table(metadata)
