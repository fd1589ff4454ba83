"""The run service's resources, as tables 3.3 to 3.7, 3.10 to 3.12 and 3.14 to 3.16 of the contract have them."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import Column, ColumnElement, case, select

from sluice_core.auth import Scope
from sluice_core.rest import (
    Boolean,
    Choice,
    DateTime,
    Filter,
    Float,
    ForeignKey,
    Integer,
    Json,
    Lookup,
    Resource,
    Text,
    Uuid,
)
from sluice_runs import tables
from sluice_runs.service import completing, stating

__all__ = [
    "COUNTERS",
    "EXECUTIONS",
    "FASTMON_FILES",
    "RESOURCES",
    "RUNS",
    "RUN_STATES",
    "STF_FILES",
    "TF_SLICES",
]

FILE_STATUSES = ("registered", "processing", "processed", "failed", "done")
WORKFLOW_STATUSES = (
    "generated",
    "daqsim_received",
    "daqsim_processing",
    "daqsim_complete",
    "data_received",
    "data_processing",
    "data_complete",
    "processing_received",
    "processing_processing",
    "processing_complete",
    "fastmon_received",
    "fastmon_processing",
    "fastmon_complete",
    "workflow_complete",
    "failed",
)
AGENT_TYPES = ("daqsim", "data", "processing", "fastmon", "monitor")
DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")
COUNTERS = (
    "active_worker_count",
    "stf_samples_received",
    "slices_created",
    "slices_queued",
    "slices_processing",
    "slices_completed",
    "slices_failed",
)

Clause = Callable[[Any, Any], ColumnElement[bool]]
NullableText = partial(Text, null=True, blank=True)


def _window(name: str) -> tuple[Filter, Filter]:
    """Two filters by a time: from the one on, and before the other."""
    return (
        Filter("since", DateTime("since", help=f"`{name}` at this instant or later"), lambda c, at: c[name] >= at),
        Filter("until", DateTime("until", help=f"`{name}` before this instant"), lambda c, at: c[name] < at),
    )


def _within(own: str, key: Column[Any], named: Column[Any]) -> Clause:
    """Compare a value of the row that ``own`` refers to."""
    return lambda columns, value: columns[own].in_(select(key).where(named == value))


def _wanted_first(columns: Any) -> tuple[ColumnElement[Any], ...]:
    """Put those first that a message finished and no client has written since, then those still queued."""
    return case((columns.unanswered, 0), (columns.status == "queued", 1), else_=2), columns.id


RUNS = Resource(
    "runs",
    model="Run",
    label="run",
    table=tables.run,
    key="run_id",
    write=Scope.RUNS_WRITE,
    fields=(
        Integer("run_id", read_only=True),
        Integer("run_number", required=True, unique=True),
        DateTime("start_time", required=True),
        DateTime("end_time", null=True),
        Json("run_conditions", null=True),
    ),
    filters=("run_number", *_window("start_time")),
    tagged=True,
    description="Data-taking runs.",
)

STF_FILES = Resource(
    "stf-files",
    model="StfFile",
    label="stf file",
    table=tables.stf_file,
    key="file_id",
    write=Scope.RUNS_WRITE,
    fields=(
        Uuid("file_id", read_only=True, default=uuid4),
        Text("machine_state", default="physics", max_length=64),
        Text("stf_filename", required=True, max_length=255, unique=True),
        Integer("file_size_bytes", bits=64, null=True),
        NullableText("checksum", max_length=64),
        DateTime("created_at", auto="create"),
        Choice("status", FILE_STATUSES, default="registered"),
        Json("metadata", null=True),
        Uuid("workflow_id", null=True),
        NullableText("daq_state", max_length=20),
        NullableText("daq_substate", max_length=20),
        NullableText("workflow_status", max_length=30),
        ForeignKey("run", RUNS, required=True, stored_as="run_id"),
    ),
    filters=(
        "stf_filename",
        Filter("run_number", Integer, _within("run_id", tables.run.c.run_id, tables.run.c.run_number)),
        "run",
        "status",
        "workflow_id",
        *_window("created_at"),
    ),
    tagged=True,
    prepare=completing.settled_file,
    description="Super time frame files of a run.",
)

FASTMON_FILES = Resource(
    "fastmon-files",
    model="FastMonFile",
    label="fast mon file",
    table=tables.fastmon_file,
    key="tf_file_id",
    write=Scope.RUNS_WRITE,
    fields=(
        Uuid("tf_file_id", read_only=True, default=uuid4),
        ForeignKey("stf_file", STF_FILES, slug="stf_filename", stored_as="stf_file_id", required=True),
        Text("tf_filename", required=True, max_length=255, unique=True),
        Integer("file_size_bytes", bits=64, null=True),
        NullableText("checksum", max_length=64),
        Choice("status", FILE_STATUSES, default="registered"),
        Json("metadata", null=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
        Integer("tf_first", null=True),
        Integer("tf_last", null=True),
        Integer("tf_count", null=True),
    ),
    filters=(
        "tf_filename",
        Filter("stf_filename", Text, _within("stf_file_id", tables.stf_file.c.file_id, tables.stf_file.c.stf_filename)),
        Filter(
            "run_number",
            Integer,
            lambda columns, number: columns.stf_file_id.in_(
                select(tables.stf_file.c.file_id).join(tables.run).where(tables.run.c.run_number == number)
            ),
        ),
        "status",
        *_window("created_at"),
    ),
    tagged=True,
    description="Time frame files that fast monitoring took from super time frames.",
)

WORKFLOWS = Resource(
    "workflows",
    model="STFWorkflow",
    label="stf workflow",
    table=tables.workflow,
    key="workflow_id",
    write=Scope.RUNS_WRITE,
    namespace="namespace",
    fields=(
        Uuid("workflow_id", read_only=True, default=uuid4),
        Text("filename", required=True, max_length=255, unique=True),
        Uuid("file_id", null=True),
        NullableText("namespace", max_length=100),
        NullableText("execution_id", max_length=100),
        NullableText("run_id", max_length=50),
        Choice("daq_state", DAQ_STATES, required=True),
        Choice("daq_substate", DAQ_SUBSTATES, required=True),
        DateTime("generated_time", required=True),
        DateTime("stf_start_time", required=True),
        DateTime("stf_end_time", required=True),
        Choice("current_status", WORKFLOW_STATUSES, default="generated"),
        Choice("current_agent", AGENT_TYPES, default="daqsim"),
        DateTime("completed_at", null=True),
        DateTime("failed_at", null=True),
        NullableText("failure_reason"),
        Json("stf_metadata", null=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
    ),
    order=("-generated_time",),
    filters=(
        "filename",
        "namespace",
        "execution_id",
        "run_id",
        "current_status",
        "current_agent",
        *_window("generated_time"),
    ),
    tagged=True,
    description="The way of each STF through the agents, newest first.",
)

STAGES = Resource(
    "workflow-stages",
    model="AgentWorkflowStage",
    label="agent workflow stage",
    table=tables.stage,
    key="stage_id",
    write=Scope.RUNS_WRITE,
    fields=(
        Uuid("stage_id", read_only=True, default=uuid4),
        Text("agent_name", required=True, max_length=100),
        Choice("agent_type", AGENT_TYPES, required=True),
        Choice("status", WORKFLOW_STATUSES, default="generated"),
        DateTime("received_at", null=True),
        DateTime("started_at", null=True),
        DateTime("completed_at", null=True),
        DateTime("failed_at", null=True),
        Float("processing_time_seconds", null=True),
        NullableText("failure_reason"),
        Json("input_message", null=True),
        Json("output_message", null=True),
        Json("stage_metadata", null=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
        ForeignKey("workflow", WORKFLOWS, stored_as="workflow_id", required=True),
    ),
    unique_together=(("workflow", "agent_name", "agent_type"),),
    order=("-generated_time", "created_at"),
    hidden=(DateTime("generated_time"),),
    filters=("workflow", "agent_name", "agent_type", "status", *_window("created_at")),
    tagged=True,
    prepare=completing.staged_workflow,
    description="What each agent did with an STF.",
)

DEFINITIONS = Resource(
    "workflow-definitions",
    model="WorkflowDefinition",
    label="workflow definition",
    table=tables.definition,
    key="id",
    write=Scope.RUNS_WRITE,
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("workflow_name", required=True, max_length=200),
        Text("version", required=True, max_length=50),
        Text("workflow_type", required=True, max_length=100),
        Text("definition", required=True),
        Json("parameter_values", default=dict),
        Text("created_by", required=True, max_length=100),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
    ),
    unique_together=(("workflow_name", "version"),),
    filters=("workflow_name", "version", "workflow_type"),
    tagged=True,
    description="Workflows and their versions.",
)

EXECUTIONS = Resource(
    "workflow-executions",
    model="WorkflowExecution",
    label="workflow execution",
    table=tables.execution,
    key="execution_id",
    key_like=r"(?s).+-.+-\d{4,}",
    write=Scope.RUNS_WRITE,
    namespace="namespace",
    fields=(
        Text("execution_id", required=True, max_length=100, unique=True),
        NullableText("namespace", max_length=100),
        Json("parameter_values", required=True),
        Json("performance_metrics", null=True),
        Text("status", default="pending", max_length=50),
        DateTime("start_time", required=True),
        DateTime("end_time", null=True),
        Text("executed_by", required=True, max_length=100),
        ForeignKey("workflow_definition", DEFINITIONS, stored_as="workflow_definition_id", required=True),
    ),
    order=("-start_time",),
    filters=(
        "execution_id",
        "status",
        "namespace",
        "executed_by",
        Filter(
            "workflow_name",
            Text,
            _within("workflow_definition_id", tables.definition.c.id, tables.definition.c.workflow_name),
        ),
        *_window("start_time"),
    ),
    tagged=True,
    prepare=completing.ended_execution,
    description="Executions of workflows, newest first.",
)

TF_SLICES = Resource(
    "tf-slices",
    model="TFSlice",
    label="tf slice",
    table=tables.tf_slice,
    key="id",
    write=Scope.RUNS_WRITE,
    fields=(
        Integer("id", bits=64, read_only=True),
        Integer("slice_id", required=True),
        Integer("tf_first", required=True),
        Integer("tf_last", required=True),
        Integer("tf_count", required=True),
        Text("tf_filename", max_length=255, help="Required unless `fastmon_file` is given."),
        Text("stf_filename", max_length=255, help="Required unless `fastmon_file` is given."),
        Integer("run_number", required=True),
        Text("status", default="queued", max_length=20),
        Integer("retries", default=0),
        Json("metadata", null=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
        NullableText("assigned_worker", max_length=255),
        DateTime("assigned_at", null=True),
        DateTime("completed_at", null=True),
        Text(
            "fastmon_file",
            max_length=255,
            help="`tf_filename` of the TF file that it is a slice of, which must exist where it is given.",
        ),
    ),
    unique_together=(("tf_filename", "slice_id"),),
    filters=(
        "run_number",
        "slice_id",
        "status",
        "tf_filename",
        "stf_filename",
        "fastmon_file",
        "assigned_worker",
        *_window("created_at"),
    ),
    lookup=Lookup(("run_number", "slice_id"), _wanted_first),
    tagged=True,
    prepare=completing.sliced_file,
    description="Slices of time frame files, the unit of fast processing.",
)

RUN_STATES = Resource(
    "run-states",
    model="RunState",
    label="run state",
    table=tables.run_state,
    key="run_number",
    write=Scope.RUNS_WRITE,
    fields=(
        Integer("run_number", required=True, unique=True),
        Text("phase", required=True, max_length=20),
        Text("state", required=True, max_length=20),
        NullableText("substate", max_length=20),
        Integer("target_worker_count", required=True),
        *(Integer(name, default=0) for name in COUNTERS),
        DateTime("state_changed_at", required=True),
        DateTime("updated_at", auto="update"),
        Json("metadata", null=True),
    ),
    filters=("run_number", "phase", "state", "substate", *_window("state_changed_at")),
    tagged=True,
    prepare=stating.stated,
    description="Where each run stands.",
)

STATE_EVENTS = Resource(
    "system-state-events",
    model="SystemStateEvent",
    label="system state event",
    table=tables.state_event,
    key="event_id",
    write=Scope.RUNS_WRITE,
    fields=(
        Integer("event_id", read_only=True),
        DateTime("timestamp", required=True),
        # Clients say null between runs (swf-clients.md 5 and 14).
        Integer("run_number", required=True, null=True),
        Text("event_type", required=True, max_length=50),
        Text("state", required=True, max_length=20),
        NullableText("substate", max_length=20),
        Json("event_data", required=True),
    ),
    filters=("run_number", "event_type", "state", *_window("timestamp")),
    tagged=True,
    description="What agents said about the state of the system.",
)

DISPATCHES = Resource(
    "message-dispatches",
    model="MessageQueueDispatch",
    label="message queue dispatch",
    table=tables.dispatch,
    key="dispatch_id",
    write=Scope.RUNS_WRITE,
    fields=(
        Uuid("dispatch_id", read_only=True, default=uuid4),
        DateTime("dispatch_time", auto="create"),
        Json("message_content", null=True),
        Boolean("is_successful", null=True),
        NullableText("error_message"),
        Uuid("workflow_id", null=True),
        NullableText("message_type", max_length=50),
        NullableText("sender_agent", max_length=100),
        NullableText("recipient_agent", max_length=100),
        ForeignKey("stf_file", STF_FILES, stored_as="stf_file_id", required=True),
    ),
    filters=("stf_file", "is_successful", "message_type", "workflow_id", *_window("dispatch_time")),
    tagged=True,
    description="Messages that were sent about an STF.",
)

RESOURCES = {
    "run": RUNS,
    "stf": STF_FILES,
    "tf": FASTMON_FILES,
    "slice": TF_SLICES,
    "state": RUN_STATES,
    "event": STATE_EVENTS,
    "workflow": WORKFLOWS,
    "stage": STAGES,
    "definition": DEFINITIONS,
    "execution": EXECUTIONS,
    "dispatch": DISPATCHES,
}
"""All of them, by what their events call a row."""
