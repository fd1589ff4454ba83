"""``GET /api/auth/audit/``."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from sluice_core.audit import Outcome
from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_registry.handlers.answers import Key, Limit, page_response
from sluice_registry.handlers.tokens import Instant
from sluice_registry.service.audit import Audit

__all__ = ["router"]


class AuditRecord(BaseModel):
    """What somebody did, or tried."""

    id: UUID
    at: datetime
    service: str = Field(description="Which one was asked")
    action: str = Field(description="Such as `token.created`; `request` where method and route say it")
    user: str = Field(description="Empty when nobody knows")
    token_id: str | None = Field(description="Of the token or session that was sent")
    method: str = Field(description="Empty for what nobody asked for, such as the end of an old key")
    route: str = Field(description="As a template")
    key: str = Field(description="The object; empty when there is none, or none was found")
    outcome: Outcome
    status: int | None = Field(
        description="HTTP status; null for a WebSocket, without an answer, and for what was stored before the answer"
    )
    request_id: str
    source: str = Field(description="Address that it came from")
    detail: dict[str, Any] | None


def router(audit: Audit) -> APIRouter:
    """Return the list of audit records."""
    routes = APIRouter(tags=["auth"])

    @routes.get(
        "/api/auth/audit/",
        summary="Who did what, the newest first",
        description="Every request to any service that changed something or tried to, and every refused credential; "
        "of heartbeats and logs only what was refused. What concerns identity is here once it is answered, the rest "
        "about a second later. Records are deleted at the age that the site has set, 90 days by default.",
        operation_id="audit_list",
        response_description="A page of records",
        response_model=list[AuditRecord],
        responses=REFUSALS,
    )
    async def find(
        request: Request,
        _: Annotated[Identity, require(Scope.TOKENS_ADMIN)],
        limit: Limit = 100,
        after: Annotated[UUID | None, Query(description="Only those older than the record with this id")] = None,
        user: Annotated[Key | None, Query(description="Only what this user did")] = None,
        token: Annotated[
            Key | None, Query(description="Only what was done with the token or session of this id")
        ] = None,
        service: Annotated[Key | None, Query(description="Only at this service")] = None,
        since: Annotated[Instant | None, Query(description="The first instant")] = None,
        until: Annotated[Instant | None, Query(description="The first instant that is too late")] = None,
        outcome: Annotated[Outcome | None, Query(description="Only what ended so")] = None,
    ) -> Response:
        rows = await audit.newest(
            after,
            limit + 1,
            since=since,
            until=until,
            username=user,
            token_id=token,
            service=service,
            outcome=outcome,
        )
        return page_response(request, rows, limit, key="id")

    return routes
