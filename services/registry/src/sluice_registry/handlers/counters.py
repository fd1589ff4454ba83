"""``/api/state/next-…/`` (contract 4.2)."""

from collections.abc import Awaitable, Callable

from sluice_core.auth import Scope
from sluice_core.database import Database
from sluice_core.rest import Endpoint, Reply, Request
from sluice_registry.service.counters import AGENT_ID, RUN_NUMBER, WORKFLOW_EXECUTION_ID, Counter, Counters

__all__ = ["endpoints"]


def endpoints(database: Database, counters: Counters) -> tuple[Endpoint, ...]:
    """Return the three counters; two of them challenge for a token, as the original does."""

    def post(counter: Counter, key: str) -> Callable[[Request], Awaitable[Reply]]:
        async def handler(_: Request) -> Reply:
            return Reply(200, {key: await database.run(counters.take, counter), "status": "success"})

        return handler

    def document(counter: Counter, key: str) -> dict[str, dict[str, object]]:
        properties = {key: {"type": "integer", "example": counter.first}, "status": {"const": "success"}}
        schema = {"type": "object", "required": [key, "status"], "properties": properties}
        answers = {
            "200": {"description": "Taken", "content": {"application/json": {"schema": schema}}},
            "401": {"description": "No token, or a bad one"},
            "403": {"description": "Not the scope"},
        }
        text = "Counts up by one, also when the answer is lost. The body is ignored."
        return {
            "post": {
                "tags": ["state"],
                "operationId": f"next_{key}",
                "summary": f"Next {key.replace('_', ' ')}",
                "description": text,
                "responses": answers,
            }
        }

    return (
        Endpoint(
            "/api/state/next-run-number/",
            {"POST": post(RUN_NUMBER, "run_number")},
            auth="token",
            scope=Scope.IDS_WRITE,
            openapi=document(RUN_NUMBER, "run_number"),
        ),
        Endpoint(
            "/api/state/next-agent-id/",
            {"POST": post(AGENT_ID, "agent_id")},
            auth="token",
            scope=Scope.IDS_WRITE,
            openapi=document(AGENT_ID, "agent_id"),
        ),
        Endpoint(
            "/api/state/next-workflow-execution-id/",
            {"POST": post(WORKFLOW_EXECUTION_ID, "sequence")},
            auth="session",
            scope=Scope.IDS_WRITE,
            openapi=document(WORKFLOW_EXECUTION_ID, "sequence"),
        ),
    )
