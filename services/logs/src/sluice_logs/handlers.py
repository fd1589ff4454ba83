"""``GET /api/logs/summary/`` (contract 3.2)."""

import msgspec

from sluice_core.database import Database
from sluice_core.rest import Endpoint, Reply, Request
from sluice_logs.service import RECENT, Logs

__all__ = ["endpoints"]


def endpoints(database: Database, logs: Logs) -> tuple[Endpoint, ...]:
    """Return what the log service answers beyond its resource."""

    async def summary(_: Request) -> Reply:
        # Encoded in the same thread: there may be many instances, and their errors may be long.
        return Reply(200, await database.run(lambda: msgspec.json.encode(logs.summary())))

    return (Endpoint("/api/logs/summary/", {"GET": summary}, auth="read", openapi={"get": _document()}),)


def _document() -> dict[str, object]:
    texts = ("levelname", "message", "module", "funcname")
    error = {
        "type": "object",
        "properties": {
            "timestamp": {"type": "string", "format": "date-time", "description": "In UTC, with `Z`."},
            **{name: {"type": "string"} for name in texts},
            "lineno": {"type": "integer"},
        },
    }
    instance = {
        "type": "object",
        "properties": {
            "error_counts": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "Records of each `levelname`, all of them and not only errors.",
            },
            "recent_errors": {"type": "array", "maxItems": RECENT, "items": error},
        },
    }
    apps = {
        "type": "object",
        "description": "By app name, and in it by instance name.",
        "additionalProperties": {"type": "object", "additionalProperties": instance},
    }
    return {
        "tags": ["logs"],
        "operationId": "logs_summary",
        "summary": "Counts by level and newest errors of every instance",
        "responses": {
            "200": {"description": "The summary", "content": {"application/json": {"schema": apps}}},
            "403": {"description": "A bad credential, or none where reads are closed"},
            "503": {"description": "The database cannot be reached"},
        },
    }
