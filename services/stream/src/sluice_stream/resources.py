"""Subscribers, as table 3.8 of the contract has them."""

from sluice_core.auth import Scope
from sluice_core.rest import Boolean, Choice, DateTime, Float, Integer, Ip, Json, Resource, Text
from sluice_stream import tables

__all__ = ["SUBSCRIBERS"]

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
