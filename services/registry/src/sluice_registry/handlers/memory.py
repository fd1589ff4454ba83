"""``/api/ai-memory/`` (contract 4.4, decision 12).

A token is needed, and any will do for any user name: the hooks of a machine share one token and send the name of who
is logged in. So whoever has a token of the site can read its dialogues.
"""

import asyncio
from datetime import UTC
from typing import Any, Literal

import msgspec

from sluice_core.rest import ApiError, Endpoint, FieldError, Reply, Request, Text
from sluice_registry.service.memory import MOST_BYTES, MOST_TURNS, Memory

__all__ = ["endpoints"]

PATH = "/api/ai-memory/"
BODY_LIMIT = 2**20
TURNS = 20
ROLES = ("user", "assistant")

ROLE = Text("role")
REQUIRED = (
    Text("username", max_length=100),
    Text("session_id", max_length=255),
    ROLE,
    Text("content", trim=False),
)
# What is looked for may be longer than what is ever kept.
WHOSE, WHERE = Text("username"), Text("namespace", blank=True)
OPTIONAL = (Text("namespace", max_length=100, blank=True), Text("project_path", max_length=500, blank=True))


def endpoints(memory: Memory, *, is_open: bool) -> tuple[Endpoint, ...]:
    """Return both paths.

    Parameters
    ----------
    is_open
        Nobody is asked for a token.
    """

    async def record(request: Request) -> Reply:
        number = await memory.record(_read(await request.data()))
        return Reply(200, {"id": number, "status": "success"})

    async def recall(request: Request) -> Reply:
        username, namespace = request.query.get("username"), request.query.get("namespace")
        if not username:
            raise ApiError(400, {"error": "username query parameter is required"})
        items = await memory.recall(
            _text(WHOSE, username),
            _text(WHERE, namespace) if namespace else None,
            _turns(request.query.get("turns", "")),
        )
        # Of many megabytes at worst.
        return Reply(200, await asyncio.to_thread(msgspec.json.encode, {"items": items, "count": len(items)}))

    auth: Literal["ignored", "session"] = "ignored" if is_open else "session"
    return (
        Endpoint(
            f"{PATH}record/",
            {"POST": record},
            auth=auth,
            openapi={"post": _record_document()},
            body_limit=BODY_LIMIT,
        ),
        Endpoint(PATH, {"GET": recall}, auth=auth, openapi={"get": _recall_document()}),
    )


def _read(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _refused("the body must be an object")
    if not all(data.get(field.name) for field in REQUIRED):
        raise _refused("username, session_id, role, and content are required")
    role = _text(ROLE, data["role"])
    if role not in ROLES:
        raise _refused(f"Invalid role '{role}'. Must be 'user' or 'assistant'.")
    given = [field for field in (*REQUIRED, *OPTIONAL) if data.get(field.name)]
    return dict.fromkeys((field.name for field in OPTIONAL), None) | {
        field.name: _text(field, data[field.name]) for field in given
    }


def _turns(text: str) -> int:
    try:
        turns = int(text)
    except ValueError:
        return TURNS
    if turns < 0:
        raise _refused("turns must not be negative")
    return turns


def _text(field: Text, raw: Any) -> str:
    try:
        value: str = field.parse(raw, UTC)
    except FieldError as exc:
        raise _refused(f"{field.name}: {' '.join(exc.args)}") from None
    return value


def _refused(error: str) -> ApiError:
    return ApiError(400, {"error": error})


def _record_document() -> dict[str, Any]:
    properties = {field.name: field.schema() for field in (*REQUIRED, *OPTIONAL)} | {"role": {"enum": list(ROLES)}}
    body = {"type": "object", "required": [field.name for field in REQUIRED], "properties": properties}
    answer = {
        "type": "object",
        "required": ["id", "status"],
        "properties": {"id": {"type": "integer"}, "status": {"const": "success"}},
    }
    return {
        "tags": ["ai-memory"],
        "operationId": "ai_memory_record",
        "summary": "Record one utterance of a dialogue",
        "description": "Any token will do for any user name: the hooks of a machine share one.",
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {"200": {"description": "Recorded", "content": _json(answer)}}
        | REFUSALS
        | {
            "413": {"description": f"Longer than {BODY_LIMIT} bytes"},
            "415": {"description": "Neither JSON nor a form"},
        },
    }


def _recall_document() -> dict[str, Any]:
    texts = {"content": {"type": "string"}, "session_id": {"type": "string"}}
    item = {
        "type": "object",
        "required": ["role", "content", "created_at", "session_id"],
        "properties": texts | {"role": {"enum": list(ROLES)}, "created_at": {"type": "string", "format": "date-time"}},
    }
    answer = {
        "type": "object",
        "required": ["items", "count"],
        "properties": {"items": {"type": "array", "items": item}, "count": {"type": "integer"}},
    }
    turns = {"type": "integer", "minimum": 0, "default": TURNS}
    return {
        "tags": ["ai-memory"],
        "operationId": "ai_memory_recall",
        "summary": "The newest utterances of a user's dialogues, oldest first",
        "description": "Dialogues are deleted at the age that the site has set, a year by default.",
        "parameters": [
            {"name": "username", "in": "query", "required": True, "schema": {"type": "string"}},
            {
                "name": "turns",
                "in": "query",
                "schema": turns,
                "description": f"Two utterances each; at most {MOST_TURNS}, and {MOST_BYTES // 2**20} MiB of text.",
            },
            {"name": "namespace", "in": "query", "schema": {"type": "string"}, "description": "Only of this one."},
        ],
        "responses": {"200": {"description": "The utterances", "content": _json(answer)}} | REFUSALS,
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


REFUSALS = {
    "400": {
        "description": "Bad values",
        "content": _json(
            {
                "type": "object",
                "description": "Or `detail` for a body that cannot be read.",
                "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
            }
        ),
    },
    "403": {"description": "No token, or a bad one"},
    "503": {"description": "The database cannot be reached; try again"},
}
