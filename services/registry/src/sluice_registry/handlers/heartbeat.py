"""``POST /api/systemagents/heartbeat/`` (contract 3.1, decision 9)."""

from datetime import tzinfo
from functools import lru_cache

import msgspec

from sluice_core.auth import Scope
from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.rest.body import parse
from sluice_core.rest.validate import mapping
from sluice_registry.service.heartbeats import FIELDS, NAME, Beat, Heartbeats, read_beat

__all__ = ["endpoints"]

# Heartbeats that are known by their bytes, and the longest of them: 4 MB at the most.
REMEMBERED, SHORT = 4096, 1024


def endpoints(heartbeats: Heartbeats, zone: tzinfo) -> tuple[Endpoint, ...]:
    """Return the heartbeat door."""

    def read(content_type: str, body: bytes) -> Beat:
        return read_beat(mapping(parse(content_type, body)), zone)

    read_again = lru_cache(REMEMBERED)(read)

    async def post(request: Request) -> Reply:
        content_type, body = request.header("content-type"), await request.body()
        # An agent that is well sends the same bytes every minute; not reading them again saves a tenth of the work.
        beat = (read_again if len(body) <= SHORT else read)(content_type, body)
        outcome = await heartbeats.beat(msgspec.structs.replace(beat, sender=request.identity))
        return Reply(201 if outcome.created else 200, outcome.json)

    return (
        Endpoint(
            "/api/systemagents/heartbeat/",
            {"POST": post},
            auth="session",
            scope=Scope.AGENTS_WRITE,
            audited=False,
            openapi={"post": _document()},
        ),
    )


def _document() -> dict[str, object]:
    properties = {NAME.name: NAME.schema(), **{name: field.schema() for name, field in FIELDS.items()}}
    agent = {"application/json": {"schema": {"$ref": "#/components/schemas/SystemAgent"}}}
    errors = {"application/json": {"schema": {"$ref": "#/components/schemas/FieldErrors"}}}
    body = {"type": "object", "required": [NAME.name], "properties": properties}
    return {
        "tags": ["systemagents"],
        "operationId": "systemagents_heartbeat",
        "summary": "Register or refresh one agent",
        "description": "What is absent keeps its value. Answered once it is stored.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "Refreshed", "content": agent},
            "201": {"description": "New", "content": agent},
            "400": {"description": "Bad values", "content": errors},
            "403": {"description": "No credential, a bad one, or not the scope"},
            "503": {"description": "Not stored; try again"},
        },
    }
