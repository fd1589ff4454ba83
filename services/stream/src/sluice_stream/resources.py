"""Subscribers and recorded messages, as tables 3.8 and 3.9 of the contract have them."""

from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any
from uuid import UUID, uuid4

from sluice_core.auth import Scope
from sluice_core.rest import (
    Boolean,
    Choice,
    DateTime,
    FieldError,
    Filter,
    Float,
    Integer,
    Ip,
    Json,
    Resource,
    Text,
    Uuid,
)
from sluice_stream import tables
from sluice_stream.peers import Exists

__all__ = ["SUBSCRIBERS", "workflow_messages"]

DELIVERY_TYPES = {"activemq": "ActiveMQ Direct", "sse": "Server-Sent Events"}

SUBSCRIBERS = Resource(
    "subscribers",
    model="Subscriber",
    # Agents look for this word, and for "already exists", in the 400 of a name that is taken (contract 3.8).
    label="subscriber",
    table=tables.subscriber,
    key="subscriber_id",
    write=Scope.STREAM_WRITE,
    fields=(
        Integer("subscriber_id", read_only=True),
        Text("subscriber_name", required=True, max_length=255, unique=True),
        Float("fraction", null=True),
        Text("description", null=True, blank=True),
        Boolean("is_active", default=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
        Choice("delivery_type", DELIVERY_TYPES, default="activemq"),
        Ip("client_ip", null=True),
        Text("client_location", blank=True, default="", max_length=255),
        DateTime("connected_at", null=True),
        DateTime("disconnected_at", null=True),
        DateTime("last_activity", null=True),
        Json("message_filters", default=dict),
        Integer("messages_received", default=0),
        Integer("messages_sent", default=0),
        Integer("messages_dropped", default=0),
    ),
    filters=("is_active", "delivery_type", "subscriber_name"),
    description="Who receives messages, and how.",
)

# contract 3.6
AGENT_KINDS = ("daqsim", "data", "processing", "fastmon", "monitor")


@dataclass(frozen=True)
class _OfRuns(Uuid):
    """The key of a row of the runs service, which is asked whether it is there.

    Attributes
    ----------
    resource
        Which rows.
    exists
        Asks.
    """

    resource: str = field(default="", kw_only=True)
    exists: Exists = field(default=lambda resource, key: True, kw_only=True)

    def parse(self, raw: Any, zone: tzinfo) -> Any:
        return super().parse(None if raw == "" else raw, zone)

    def convert(self, raw: Any, zone: tzinfo) -> UUID:
        if isinstance(raw, bool | float | list | dict):
            raise FieldError(f"Incorrect type. Expected pk value, received {type(raw).__name__}.")
        shown = str(raw).encode(errors="replace").decode().replace("\x00", "")
        try:
            key = super().convert(raw, zone)
        except FieldError:
            raise FieldError(f"“{shown}” is not a valid UUID.") from None
        if not self.exists(self.resource, key):
            raise FieldError(f'Invalid pk "{shown}" - object does not exist.')
        return key

    def filter_value(self, raw: str, zone: tzinfo) -> UUID:
        return super().convert(raw, zone)


def workflow_messages(exists: Exists) -> Resource:
    """Return the recorded messages.

    Parameters
    ----------
    exists
        Asks the runs service for a workflow or a stage.
    """
    return Resource(
        "workflow-messages",
        model="WorkflowMessage",
        label="workflow message",
        table=tables.workflow_message,
        key="message_id",
        write=Scope.STREAM_WRITE,
        namespace="namespace",
        fields=(
            Uuid("message_id", read_only=True, default=uuid4),
            Text("message_type", required=True, max_length=50),
            Integer("request_id", null=True),
            Text("sender_agent", null=True, blank=True, max_length=100),
            Choice("sender_type", AGENT_KINDS, null=True, blank=True),
            Text("recipient_agent", null=True, blank=True, max_length=100),
            Choice("recipient_type", AGENT_KINDS, null=True, blank=True),
            Text("namespace", null=True, blank=True, max_length=100),
            Text("execution_id", null=True, blank=True, max_length=100),
            Text("run_id", null=True, blank=True, max_length=50),
            Json("message_content", required=True),
            Json("message_metadata", null=True, default=dict),
            DateTime("sent_at", auto="create"),
            DateTime("delivered_at", null=True),
            DateTime("acknowledged_at", null=True),
            Boolean("is_successful", null=True),
            Text("error_message", null=True, blank=True),
            Text("queue_name", null=True, blank=True, max_length=100),
            Text("correlation_id", null=True, blank=True, max_length=100),
            _OfRuns("workflow", null=True, resource="workflows", exists=exists),
            _OfRuns("stage", null=True, resource="workflow-stages", exists=exists),
        ),
        order=("-sent_at",),
        filters=(
            "message_type",
            "sender_agent",
            "recipient_agent",
            "namespace",
            "execution_id",
            "run_id",
            "is_successful",
            "queue_name",
            "workflow",
            "stage",
            Filter("start_time", DateTime, lambda columns, value: columns.sent_at >= value),
            Filter("end_time", DateTime, lambda columns, value: columns.sent_at <= value),
        ),
        description="Messages between agents, as they were sent.",
    )
