"""The registry's resources, as tables 3.1 and 3.13 of the contract have them."""

from sluice_core.auth import Scope
from sluice_core.rest import Boolean, Choice, DateTime, Integer, Json, Resource, Text, Url
from sluice_registry import tables

__all__ = ["SYSTEMAGENTS", "WORKERS"]

AGENT_TYPES = {
    "daqsim": "DAQ Simulator",
    "data": "Data Agent",
    "processing": "Processing Agent",
    "fastmon": "Fast Monitoring Agent",
    "workflow_runner": "Workflow Runner",
    "monitor": "Monitor System",
    "sse_sender": "SSE Test Sender",
    "sse_receiver": "SSE Client/Receiver",
    "test": "Test Agent",
    "other": "Other",
}
STATUSES = ("UNKNOWN", "OK", "WARNING", "ERROR", "EXITED")
STATES = ("STARTING", "READY", "PROCESSING", "EXITED")

SYSTEMAGENTS = Resource(
    "systemagents",
    model="SystemAgent",
    label="system agent",
    table=tables.system_agent,
    key="id",
    write=Scope.AGENTS_WRITE,
    namespace="namespace",
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("instance_name", required=True, max_length=100, unique=True),
        Choice("agent_type", AGENT_TYPES, required=True),
        Text("description", blank=True, default=""),
        Choice("status", STATUSES, default="UNKNOWN"),
        DateTime("last_heartbeat", null=True),
        Url("agent_url", max_length=200, null=True, blank=True),
        Boolean("workflow_enabled", default=True),
        Integer("current_stf_count", default=0),
        Integer("total_stf_processed", default=0),
        DateTime("last_stf_processed", null=True),
        Integer("pid", null=True),
        Text("hostname", max_length=100, null=True, blank=True),
        Choice("operational_state", STATES, default="STARTING"),
        Text("namespace", max_length=100, null=True, blank=True),
        Json("metadata", null=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
    ),
    filters=("instance_name", "agent_type", "status", "operational_state", "namespace", "hostname", "workflow_enabled"),
    description="Agents and the state of their last heartbeat.",
)

WORKERS = Resource(
    "workers",
    model="Worker",
    label="worker",
    table=tables.worker,
    key="worker_id",
    write=Scope.AGENTS_WRITE,
    fields=(
        Text("worker_id", required=True, max_length=255, unique=True),
        Integer("run_number", required=True),
        Text("panda_job", required=True, max_length=255),
        Text("location", required=True, max_length=255),
        Text("status", required=True, max_length=20),
        Integer("current_slice_id", null=True),
        Text("tf_filename", max_length=255, null=True),
        Integer("slices_completed", default=0),
        DateTime("last_heartbeat", null=True),
        DateTime("started_at", required=True),
        DateTime("ended_at", null=True),
        Json("metadata", null=True),
    ),
    filters=("run_number", "status", "location"),
    description="Workers of a run and the slices they have done.",
)
