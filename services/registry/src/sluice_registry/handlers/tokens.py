"""Tokens and keys below ``/api/auth/``, and the public keys (ARCHITECTURE, Identity; decision 5)."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from sluice_core.auth import ROLES, Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_core.http.answers import NO_NUL, Key, Limit, Line, json_response, page_response
from sluice_core.settings import Duration
from sluice_registry.service.identity import Grant, OldToken, TokenIssuer

__all__ = ["Role", "router"]

PATH = "/api/auth/tokens/"
MOST_IMPORTED = 1000


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
Namespaces = Annotated[
    list[Line] | None,
    Field(min_length=1, max_length=50, description="The only ones whose rows it may write; all when absent"),
]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
# What every time zone and clock can still show.
Instant = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 2, tzinfo=UTC), le=datetime(9000, 1, 1, tzinfo=UTC))]
Kind = Literal["signed", "opaque", "session"]


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Line = Field(description="What people call it")
    subject: Subject | None = Field(None, description="User name that it speaks for; the name when absent")
    roles: list[Role] = Field([], max_length=50)
    scopes: list[Scope] = Field([], max_length=50, description="Rights beyond those of the roles")
    namespaces: Namespaces = None
    expires_in: Life | None = Field(
        None, description="Such as `90d`, `12h` or a number of seconds; as the site says when absent, usually 90 days"
    )


class ImportedToken(BaseModel):
    """An opaque token of an older system; the token itself stays where it is."""

    model_config = ConfigDict(extra="forbid")

    subject: Subject = Field(description="User name that it speaks for")
    sha256: Digest = Field(description="SHA-256 of the token, in hex")
    name: Line = Field("imported", description="What people call it")
    roles: list[Role] = Field([], max_length=50)
    scopes: list[Scope] = Field([], max_length=50)
    namespaces: Namespaces = None
    expires_at: Instant | None = Field(None, description="Never when absent")


class Imported(BaseModel):
    """What became of tokens that were imported."""

    imported: int
    present: int = Field(description="Those that were there before, which stay as they are")


class Token(BaseModel):
    """A token as it is listed, without itself."""

    id: str = Field(description="The `jti` by which it is revoked")
    name: str
    kind: Kind
    subject: str
    roles: list[str]
    scopes: list[str]
    namespaces: list[str] | None
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
    namespaces: list[str] | None
    token: str
    expires_at: datetime


class Rotation(BaseModel):
    """A new key."""

    kid: str
    not_before: datetime = Field(description="It signs nothing before; all services know it by then")


def router(issuer: TokenIssuer, *, lifetime: timedelta) -> APIRouter:
    """Return everything about tokens and keys.

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
        responses=REFUSALS | {409: {"description": "The user is switched off"}},
    )
    async def create(body: NewToken, caller: Annotated[Identity, admin]) -> Response:
        grant = Grant(
            name=body.name,
            subject=body.subject or body.name,
            roles=sorted(set(body.roles)),
            scopes=_scopes(body.scopes),
            lifetime=body.expires_in or lifetime,
            namespaces=_sorted(body.namespaces),
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
        subject: Annotated[Key | None, Query(description="Only those of this user name")] = None,
        active: Annotated[
            bool | None, Query(description="Only those that are good, or only those that were revoked or expired")
        ] = None,
        kind: Annotated[Kind | None, Query(description="Only this kind; without it all but sessions")] = None,
    ) -> Response:
        kinds = [kind] if kind else ["signed", "opaque"]
        rows = await issuer.tokens(after, limit + 1, subject=subject, kinds=kinds, active=active)
        return page_response(request, rows, limit, key="id")

    @routes.delete(
        f"{PATH}{{token_id}}/",
        status_code=204,
        summary="Revoke a token or a session",
        description="At once, everywhere. Everybody may revoke his own; those of others need the scope tokens:admin.",
        operation_id="tokens_revoke",
        response_description="It is worth nothing any more",
        responses=REFUSALS | {404: {"description": "No such token"}},
    )
    async def revoke(token_id: Key, caller: Annotated[Identity, require()]) -> Response:
        await issuer.revoke(token_id, caller)
        return Response(status_code=204)

    @routes.post(
        f"{PATH}import/",
        summary="Take over opaque tokens of an older system",
        description="All or none. Those that are there already stay as they are, so it can be repeated.",
        operation_id="tokens_import",
        response_description="How many are new",
        response_model=Imported,
        responses=REFUSALS,
    )
    async def take_over(
        body: Annotated[list[ImportedToken], Field(max_length=MOST_IMPORTED)], caller: Annotated[Identity, admin]
    ) -> Response:
        tokens = [
            OldToken(
                name=each.name,
                subject=each.subject,
                sha256=each.sha256,
                roles=sorted(set(each.roles)),
                scopes=_scopes(each.scopes),
                namespaces=_sorted(each.namespaces),
                # PostgreSQL reads no offset as odd as pydantic does.
                expires_at=each.expires_at and each.expires_at.astimezone(UTC),
            )
            for each in body
        ]
        done = await issuer.take_over(tokens, caller)
        return json_response({"imported": done.imported, "present": done.present})

    @routes.post(
        "/api/auth/keys/rotate",
        summary="Let a new key sign",
        description="It is told to all services first. Tokens of the old key stay good until they expire.",
        operation_id="keys_rotate",
        response_description="The new key",
        response_model=Rotation,
        responses=REFUSALS,
    )
    async def rotate(caller: Annotated[Identity, require(Scope.ADMIN)]) -> Response:
        rotation = await issuer.rotate(caller)
        return json_response({"kid": rotation.kid, "not_before": rotation.not_before})

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


def _scopes(scopes: list[Scope]) -> list[str]:
    return sorted({str(scope) for scope in scopes})


def _sorted(namespaces: list[str] | None) -> list[str] | None:
    return None if namespaces is None else sorted(set(namespaces))
