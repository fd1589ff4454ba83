"""``/api/auth/`` and the public keys (ARCHITECTURE, Identity; decision 5)."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from sluice_core.auth import ROLES, Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_core.settings import Duration
from sluice_registry.handlers.answers import NO_NUL, Key, Limit, Line, json_response, page_response
from sluice_registry.service.identity import Grant, TokenIssuer

__all__ = ["router"]

PATH = "/api/auth/tokens/"


def _known_role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(f"there is no role {role!r}; there are {', '.join(ROLES)}")
    return role


Role = Annotated[str, AfterValidator(_known_role), Field(json_schema_extra={"enum": list(ROLES)})]
Life = Annotated[
    Duration,
    Field(ge=timedelta(seconds=1), le=timedelta(days=3650)),
    WithJsonSchema({"anyOf": [{"type": "string", "examples": ["90d", "12h"]}, {"type": "number", "minimum": 1}]}),
]
Subject = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=150, pattern=NO_NUL)]


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Line = Field(description="What people call it")
    subject: Subject | None = Field(None, description="User name that it speaks for; the name when absent")
    roles: list[Role] = Field([], max_length=50)
    scopes: list[Scope] = Field([], max_length=50, description="Rights beyond those of the roles")
    expires_in: Life | None = Field(
        None, description="Such as `90d`, `12h` or a number of seconds; as the site says when absent, usually 90 days"
    )


class Token(BaseModel):
    """A token as it is listed, without itself."""

    id: str = Field(description="The `jti` by which it is revoked")
    name: str
    subject: str
    roles: list[str]
    scopes: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None


class CreatedToken(BaseModel):
    """A new token, shown this once."""

    id: str
    name: str
    subject: str
    roles: list[str]
    scopes: list[str]
    token: str
    expires_at: datetime


class Caller(BaseModel):
    """Who calls."""

    subject: str
    scopes: list[str]
    token_id: str | None


def router(issuer: TokenIssuer, *, lifetime: timedelta) -> APIRouter:
    """Return everything about tokens.

    Parameters
    ----------
    lifetime
        Of a token whose request names none.
    """
    routes = APIRouter(tags=["auth"])
    admin = require(Scope.TOKENS_ADMIN)

    @routes.post(
        PATH,
        status_code=201,
        summary="Make a token",
        description="The token is in this answer and nowhere else. Nobody can grant more than he may.",
        operation_id="tokens_create",
        response_description="The token, this once",
        response_model=CreatedToken,
        responses=REFUSALS,
    )
    async def create(body: NewToken, caller: Annotated[Identity, admin]) -> Response:
        grant = Grant(
            name=body.name,
            subject=body.subject or body.name,
            roles=sorted(set(body.roles)),
            scopes=sorted({str(scope) for scope in body.scopes}),
            lifetime=body.expires_in or lifetime,
        )
        token, row = await issuer.create(grant, caller)
        shown = {key: row[key] for key in CreatedToken.model_fields if key in row}
        return json_response(shown | {"token": token}, 201, {"Cache-Control": "no-store"})

    @routes.get(
        PATH,
        summary="Tokens, the newest first",
        operation_id="tokens_list",
        response_description="A page of tokens",
        response_model=list[Token],
        responses=REFUSALS,
    )
    async def find(
        request: Request,
        _: Annotated[Identity, admin],
        limit: Limit = 100,
        after: Annotated[Key | None, Query(description="Only those older than the token with this id")] = None,
    ) -> Response:
        return page_response(request, await issuer.tokens(after, limit + 1), limit, key="id")

    @routes.get(
        "/api/auth/whoami",
        summary="Who I am and what I may",
        operation_id="whoami",
        response_description="The caller",
        response_model=Caller,
        responses={401: REFUSALS[401]},
    )
    async def whoami(caller: Annotated[Identity, require()]) -> Response:
        known = {"subject": caller.subject, "scopes": sorted(caller.scopes), "token_id": caller.token_id}
        return json_response(known)

    @routes.get(
        "/.well-known/jwks.json",
        summary="Public keys that verify tokens",
        description="A JWK set (RFC 7517).",
        operation_id="jwks",
        response_description="The keys",
        response_model=dict[str, list[dict[str, Any]]],
    )
    async def jwks() -> Response:
        return json_response(issuer.jwks(), headers={"Cache-Control": "public, max-age=300"})

    return routes
