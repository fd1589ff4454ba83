"""What the service says and hears besides HTTP, as an AsyncAPI 3 document made from the code."""

from typing import Any

from sluice_core.bus import DLQ, DURABLES, INBOUND, MESSAGES, OUTBOUND, QUEUES, Stream
from sluice_core.dlq import REASON, SEQUENCE, STREAM, SUBJECT, TIME, TRUNCATED
from sluice_stream.bridge.bridge import HEADERS
from sluice_stream.intake import SLUICE_ID
from sluice_stream.messages import AT, DESTINATION, ID, LONGEST, LONGEST_TYPE, REPLAYED
from sluice_stream.settings import Settings

__all__ = ["document"]

TEXT: dict[str, Any] = {"type": "string"}


def document() -> dict[str, Any]:
    """Return the document."""
    topics = Settings.model_fields["activemq_destinations"].default
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sluice stream",
            "version": "1",
            "description": "Messages between agents: by STOMP with a broker, by NATS with programs and services.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {"host": "localhost:4222", "protocol": "nats", "description": "`SLUICE_NATS_URL`"},
            "broker": {"host": "localhost:61612", "protocol": "stomp", "description": "`ACTIVEMQ_HOST`"},
        },
        "channels": {
            "accepted": _channel(
                MESSAGES,
                "messages.accepted.{namespace}.{msg_type}",
                "message",
                {"namespace": "A token; `_` where there is none", "msg_type": "A token"},
            ),
            "inbound": _channel(
                INBOUND,
                "messages.in.{destination}",
                "body",
                {"destination": "A token: `epictopic`, or `=2Fqueue=2Fx` for /queue/x"},
            ),
            "outbound": _channel(OUTBOUND, "outbound.{destination}", "sent", {"destination": "A token"}),
            "heartbeats": {
                "address": "agents.in.heartbeat.{namespace}.{name}",
                "description": "Heartbeats that came over a broker; the registry reads them.",
                "servers": [{"$ref": "#/servers/nats"}],
                "parameters": {"namespace": {"description": "A token"}, "name": {"description": "A token"}},
                "messages": {"heartbeat": {"$ref": "#/components/messages/heartbeat"}},
            },
            "queued": _channel(
                QUEUES,
                "queues.kept.{queue}.{namespace}",
                "body",
                {"queue": "A token", "namespace": "A token; `_`: for all"},
            ),
            "durable": _channel(DURABLES, "durables.{subscription}", "body", {"subscription": "A token"}),
            "dead": _channel(DLQ, "dlq.{subject}", "dead", {"subject": "Where it was; several tokens"}),
            "broker": {
                "address": topics[0],
                "description": "And what else `ACTIVEMQ_HEARTBEAT_TOPIC` names, subscribed durably.",
                "servers": [{"$ref": "#/servers/broker"}],
                "messages": {
                    "message": {"$ref": "#/components/messages/body"},
                    "heartbeat": {"$ref": "#/components/messages/heartbeat"},
                    "sent": {"$ref": "#/components/messages/sentFrame"},
                },
            },
        },
        "operations": {
            "bridgeIn": _operation("receive", "broker", "Each body goes where it belongs, and is then acknowledged."),
            "bridgeOut": _operation("send", "broker", "What waits in `OUTBOUND`, in its order."),
            "takeIn": _operation("receive", "inbound", "What programs send; of their headers none is believed."),
            "accept": _operation("send", "accepted", "Each workflow message once, in order of arrival."),
            "record": _operation("receive", "accepted", "Into `workflow-messages`."),
            "beat": _operation("send", "heartbeats", "Bodies with `agent_name` and `status`."),
            "wait": _operation("send", "outbound", "What is sent by HTTP waits here for the broker."),
            "queue": _operation(
                "send", "queued", "What clients of the STOMP door send to a queue, until it is consumed."
            ),
            "keepFor": _operation("send", "durable", "What waits for a durable subscription of the STOMP door."),
            "park": _operation("send", "dead", "What nobody can use, with its reason."),
            "keep": _operation("receive", "dead", "For `/api/dlq/`."),
        },
        "components": {
            "messages": {
                "body": {"title": "A workflow message as its sender writes it", "payload": _body()},
                "message": {
                    "title": "An accepted workflow message",
                    "headers": _headers(
                        {
                            ID: "UUID of the message, and of its row in `workflow-messages`",
                            DESTINATION: "Where it was sent, percent-encoded",
                            AT: "When it came, ISO 8601 in UTC",
                        },
                        {REPLAYED: "Only on what was told before"},
                    ),
                    "payload": _body(),
                },
                "sent": {
                    "title": "A message on its way to the broker",
                    "headers": _headers(
                        {ID: "UUID of the message"}, {HEADERS: "Headers for the broker, a JSON object in ASCII"}
                    ),
                    "payload": {"type": "object"},
                },
                "sentFrame": {
                    "title": "The same as the broker hands it on",
                    "headers": _headers({SLUICE_ID: "UUID of the message"}, {}),
                    "payload": {"type": "object"},
                },
                "heartbeat": {
                    "title": "A heartbeat of an agent that has no HTTP",
                    "payload": {
                        "type": "object",
                        "required": ["agent_name", "status"],
                        "properties": {"agent_name": TEXT, "status": TEXT, "namespace": TEXT},
                    },
                },
                "dead": {
                    "title": "What could not be processed",
                    "headers": _headers(
                        {REASON: "Why", SUBJECT: "Where it was", TIME: "When it was parked"},
                        {
                            STREAM: "In which stream it was",
                            SEQUENCE: "At which place",
                            TRUNCATED: "Bytes that it had, where not all are kept",
                        },
                    ),
                    "payload": {},
                },
            }
        },
    }


def _channel(stream: Stream, address: str, message: str, parameters: dict[str, str]) -> dict[str, Any]:
    return {
        "address": address,
        "description": f"Stream `{stream.name}`, {stream.retention}, for {stream.max_age / 86400:g} days.",
        "servers": [{"$ref": "#/servers/nats"}],
        "parameters": {name: {"description": text} for name, text in parameters.items()},
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _headers(required: dict[str, str], others: dict[str, str]) -> dict[str, Any]:
    properties = {name: {**TEXT, "description": text} for name, text in {**required, **others}.items()}
    return {"type": "object", "required": list(required), "properties": properties}


def _body() -> dict[str, Any]:
    """Describe a workflow message (contract 7.4); any further key is its sender's own."""
    named = {
        name: {"type": ["string", "number", "boolean", "null"], "maxLength": most} for name, most in LONGEST.items()
    }
    return {
        "type": "object",
        "required": ["msg_type"],
        "properties": {"msg_type": {**TEXT, "maxLength": LONGEST_TYPE}, **named},
    }
