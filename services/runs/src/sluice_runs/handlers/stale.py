"""``GET /api/runs/stale/`` (decision 19)."""

from typing import Any

import msgspec

from sluice_core.database import Database
from sluice_core.rest import Endpoint, Reply, Request
from sluice_runs.service.stale import MOST, Stale

__all__ = ["endpoint"]


def endpoint(database: Database, stale: Stale) -> Endpoint:
    """Return what lists the executions, run states and STF files that are stale.

    An old-style endpoint, since a resource would take its path for that of a run.
    """

    async def listed(_: Request) -> Reply:
        return Reply(200, await database.run(lambda: msgspec.json.encode(stale.listed())))

    fields: dict[str, Any] = {
        **{name: {"type": "string"} for name in ("kind", "key", "reason")},
        **{name: {"type": ["string", "null"]} for name in ("execution_id", "namespace")},
        **{name: {"type": "string", "format": "date-time"} for name in ("since", "noticed_at")},
        "run_number": {"type": ["integer", "null"]},
    }
    rows = {"type": "array", "maxItems": MOST, "items": {"type": "object", "properties": fields}}
    document = {
        "tags": ["runs"],
        "operationId": "runs_stale",
        "summary": "Executions without a runner, runs that are stuck, STF files that nobody processes",
        "responses": {
            "200": {"description": "The longest first", "content": {"application/json": {"schema": rows}}},
            "403": {"description": "A bad credential, or none where reads are closed"},
        },
    }
    return Endpoint("/api/runs/stale/", {"GET": listed}, auth="read", openapi={"get": document})
