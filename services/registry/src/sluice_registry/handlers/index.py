"""``GET /api/`` (contract 4.1)."""

from sluice_core.rest import Endpoint, Reply, Request

__all__ = ["endpoints"]

# Of all services; the order is the contract's.
NAMES = (
    "systemagents",
    "logs",
    "workflows",
    "workflow-stages",
    "workflow-messages",
    "runs",
    "stf-files",
    "subscribers",
    "fastmon-files",
    "workflow-definitions",
    "workflow-executions",
    "tf-slices",
    "workers",
    "run-states",
    "system-state-events",
)


def endpoints() -> tuple[Endpoint, ...]:
    """Return the index."""

    async def get(request: Request) -> Reply:
        return Reply(200, {name: request.url(f"/api/{name}/") for name in NAMES})

    urls = {name: {"type": "string", "format": "uri"} for name in NAMES}
    answer = {"application/json": {"schema": {"type": "object", "required": list(NAMES), "properties": urls}}}
    operation = {
        "tags": ["index"],
        "operationId": "index",
        "summary": "Where the resources are",
        "responses": {"200": {"description": "The URL of each list", "content": answer}},
    }
    return (Endpoint("/api/", {"GET": get}, auth="ignored", openapi={"get": operation}),)
