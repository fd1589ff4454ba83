"""NATS and JetStream behind one thin module; only here is nats-py imported."""

from .backoff import Backoff
from .client import Bus, ConsumerState, PubAck, Stored
from .consumer import Handle, Poison, Rejected, consume
from .errors import BusAway, BusError, StreamDiffers, StreamRefused
from .follow import Following, StreamState, following, stream_state, waiting
from .message import Message
from .queue import Queue
from .streams import (
    AGENTS,
    AUDIT,
    DLQ,
    DURABLES,
    HEARTBEATS,
    INBOUND,
    KEYS,
    LEASES,
    LOGS,
    MESSAGES,
    OUTBOUND,
    PCS,
    QUEUES,
    REVOKED,
    RUNS,
    SUBSCRIPTIONS,
    TOKENS,
    Bucket,
    Consumer,
    Stream,
)
from .trim import keep_room

__all__ = [
    "AGENTS",
    "AUDIT",
    "DLQ",
    "DURABLES",
    "HEARTBEATS",
    "INBOUND",
    "KEYS",
    "LEASES",
    "LOGS",
    "MESSAGES",
    "OUTBOUND",
    "PCS",
    "QUEUES",
    "REVOKED",
    "RUNS",
    "SUBSCRIPTIONS",
    "TOKENS",
    "Backoff",
    "Bucket",
    "Bus",
    "BusAway",
    "BusError",
    "Consumer",
    "ConsumerState",
    "Following",
    "Handle",
    "Message",
    "Poison",
    "PubAck",
    "Queue",
    "Rejected",
    "Stored",
    "Stream",
    "StreamDiffers",
    "StreamRefused",
    "StreamState",
    "consume",
    "following",
    "keep_room",
    "stream_state",
    "waiting",
]
