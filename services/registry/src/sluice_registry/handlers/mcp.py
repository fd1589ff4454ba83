"""``/api/mcp/``: the message control protocol by HTTP (contract 8, decision 10)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from uuid import uuid4

from sluice_core.auth import Scope
from sluice_core.rest import ApiError, Endpoint, FieldError, Invalid, Reply, Request, Text
from sluice_core.rest.validate import REQUIRED, mapping
from sluice_registry.service.mcp import (
    CAPABILITIES,
    COMMANDS,
    HEARTBEAT,
    LIVENESS,
    REPORT_FIELDS,
    Code,
    MessageControl,
    MessageRefused,
    malformed,
    unknown_command,
)

__all__ = ["UNSUPPORTED", "VERSION", "Message", "answer", "endpoints", "known_id", "refusal"]

PATH = "/api/mcp/"
VERSION = "1.0"
UNSUPPORTED = f"Unsupported MCP version. Server supports {VERSION}."
# As the messages of the WebSocket.
BODY_LIMIT = 64 * 1024

MCP_VERSION = Text("mcp_version")
MESSAGE_ID = Text("message_id", max_length=100)
COMMAND = Text("command")


@dataclass(frozen=True)
class Message:
    """One message of a client."""

    id: str
    command: str
    payload: Any


def answer(payload: Mapping[str, str], in_reply_to: str) -> dict[str, Any]:
    """Return the envelope of an answer."""
    return {
        "mcp_version": VERSION,
        "message_id": str(uuid4()),
        "in_reply_to": in_reply_to,
        "status": "success",
        "payload": payload,
    }


def refusal(exc: MessageRefused, in_reply_to: str | None) -> dict[str, Any]:
    """Return the envelope of an error.

    Parameters
    ----------
    in_reply_to
        Id of the message, where it has one.
    """
    return {
        "mcp_version": VERSION,
        "message_id": str(uuid4()),
        "status": "error",
        "error": {"code": exc.code, "message": str(exc)},
        **({"in_reply_to": in_reply_to} if in_reply_to else {}),
    }


def known_id(data: Any) -> str | None:
    """Return the id of what may be a message; None when it has none, or none that is allowed."""
    try:
        found: str = MESSAGE_ID.parse(data.get("message_id"), UTC) if isinstance(data, dict) else ""
    except FieldError:
        return None
    return found or None


def endpoints(control: MessageControl) -> tuple[Endpoint, ...]:
    """Return the commands, each with a path of its own."""

    def endpoint(path: str, command: str, operation: dict[str, Any], scope: Scope | None = None) -> Endpoint:
        async def post(request: Request) -> Reply:
            assert request.identity is not None
            in_reply_to = None
            try:
                data = await _data(request)
                in_reply_to = known_id(data)
                message = _read(data, command)
                payload = await control.run(command, message.payload, request.identity)
            except MessageRefused as exc:
                return Reply(500 if exc.code is Code.INTERNAL else 400, refusal(exc, in_reply_to))
            # A heartbeat is answered without the envelope (contract 8).
            return Reply(200, {"status": "success"} if command == HEARTBEAT else answer(payload, message.id))

        return Endpoint(
            f"{PATH}{path}/",
            {"POST": post},
            auth="session",
            scope=scope,
            audited=False,
            openapi={"post": operation},
            body_limit=BODY_LIMIT,
        )

    return (
        endpoint("heartbeat", HEARTBEAT, _heartbeat_document(), Scope.AGENTS_WRITE),
        endpoint("discover-capabilities", CAPABILITIES, _document(CAPABILITIES)),
        endpoint("agent-liveness", LIVENESS, _document(LIVENESS)),
    )


async def _data(request: Request) -> Any:
    try:
        return await request.data()
    except ApiError as exc:
        if exc.status != 400:
            raise
        raise malformed(exc.content) from None


def _read(data: Any, command: str) -> Message:
    """Check the envelope of a message.

    Decision 10 goes beyond the contract: an unsupported version and an unknown command have codes of their own here
    too. A known command at the path of another one is still not minded (contract 8): the path says what is wanted.
    """
    try:
        data = mapping(data)
    except Invalid as exc:
        raise malformed(exc.errors) from None
    values = {MCP_VERSION.name: VERSION, COMMAND.name: command}
    errors: dict[str, list[str]] = {}
    for field in (MCP_VERSION, MESSAGE_ID, COMMAND):
        try:
            if field.name in data:
                values[field.name] = field.parse(data[field.name], UTC)
            elif field is MESSAGE_ID:
                errors[field.name] = [REQUIRED]
        except FieldError as exc:
            errors[field.name] = list(exc.args)
    if values[MCP_VERSION.name] != VERSION:
        raise malformed({MCP_VERSION.name: [UNSUPPORTED]}, Code.UNSUPPORTED_VERSION)
    if command == HEARTBEAT and "payload" not in data:
        errors["payload"] = [REQUIRED]
    if errors:
        raise malformed(errors)
    if values[COMMAND.name] not in COMMANDS:
        raise unknown_command(values[COMMAND.name])
    return Message(values[MESSAGE_ID.name], command, data.get("payload"))


def _heartbeat_document() -> dict[str, Any]:
    properties = {field.name: field.schema() for field in REPORT_FIELDS}
    payload = {"type": "object", "required": list(properties), "properties": properties}
    answer = {"type": "object", "required": ["status"], "properties": {"status": {"const": "success"}}}
    found = _document(HEARTBEAT, payload, answer)
    found["description"] = (
        "Sets the status and the last heartbeat of an agent that exists, the latter to the given time. "
        "Agents use `/api/systemagents/heartbeat/`, which says more and registers them."
    )
    return found


def _document(
    command: str, payload: dict[str, Any] | None = None, success: dict[str, Any] | None = None
) -> dict[str, Any]:
    envelope = {"mcp_version": {"const": VERSION}, "message_id": {"type": "string", "format": "uuid"}}
    body = {
        "type": "object",
        "required": ["message_id", *(["payload"] if payload else [])],
        "properties": {
            "mcp_version": {"const": VERSION, "default": VERSION},
            "message_id": MESSAGE_ID.schema(),
            "command": {"type": "string", "enum": list(COMMANDS)},
            "payload": payload or {},
        },
    }
    success = success or {
        "type": "object",
        "required": [*envelope, "in_reply_to", "status", "payload"],
        "properties": envelope
        | {
            "in_reply_to": {"type": "string"},
            "status": {"const": "success"},
            "payload": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "enum": [int(code) for code in Code]},
            "message": {"type": "string"},
        },
    }
    failure = {
        "type": "object",
        "required": [*envelope, "status", "error"],
        "properties": envelope | {"status": {"const": "error"}, "error": error, "in_reply_to": {"type": "string"}},
    }

    def json(schema: dict[str, Any]) -> dict[str, Any]:
        return {"application/json": {"schema": schema}}

    return {
        "tags": ["mcp"],
        "operationId": f"mcp_{command}",
        "summary": COMMANDS[command],
        "description": "The same commands are spoken over the WebSocket `/ws/mcp/`, one JSON text a message.",
        "requestBody": {"required": True, "content": json(body)},
        "responses": {
            "200": {"description": "Done", "content": json(success)},
            "400": {
                "description": "4000 malformed, or no such agent; 4002 another version; 4004 no such command",
                "content": json(failure),
            },
            "403": {"description": "No credential, a bad one, or not the scope"},
            "413": {"description": f"Longer than {BODY_LIMIT} bytes"},
            "415": {"description": "Not JSON"},
            "500": {"description": "5000, a failure of the server", "content": json(failure)},
            "503": {"description": "The database cannot be reached; try again"},
        },
    }
