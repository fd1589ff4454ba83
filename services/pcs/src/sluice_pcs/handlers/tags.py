"""Tags: creation, lock, deletion (contract 5.3, 10), and what is new beside them."""

from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sluice_core import rest
from sluice_core.audit import note
from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Reader, require
from sluice_core.http import absolute_url
from sluice_core.rest import ApiError, Boolean, Endpoint, FieldError, Invalid, Reply
from sluice_core.rest.body import parse
from sluice_core.rest.openapi import paths
from sluice_pcs.handlers.answers import document, json_response, key, problem
from sluice_pcs.kinds import KINDS, Kind
from sluice_pcs.service.tags import Tags

__all__ = ["endpoints", "router"]

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of the tag")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most; the `Link` header leads to the rest")]
After = Annotated[int, Query(ge=0, le=2**63 - 1, description="Only changes behind this one")]

UNIQUE = Boolean("unique", default=False)


class Copy(BaseModel):
    """What shall be otherwise in the copy."""

    model_config = ConfigDict(extra="forbid")

    # The defaults are never written.
    category: int = Field(0, description="Digit; physics tags only")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


def endpoints(tags: Tags) -> tuple[Endpoint, ...]:
    """Return what the contract has beside the resources."""
    return tuple(endpoint for kind in KINDS for endpoint in _of(kind, tags))


def _of(kind: Kind, tags: Tags) -> tuple[Endpoint, ...]:
    resource = tags.resources[kind.letter]
    detail = f"{resource.path}{{tag_number}}/"

    async def create(request: rest.Request) -> Reply:
        try:
            unique = UNIQUE.convert(request.query.get("unique") or "false", None)  # type: ignore[arg-type]
        except FieldError as exc:
            raise Invalid({"unique": list(exc.args)}) from None
        body = partial(parse, request.header("content-type"), await request.body())
        row = await tags.create(kind, body, request.identity, unique=unique)
        note().key = str(row["tag_number"])
        return Reply(201, row)

    async def lock(request: rest.Request) -> Reply:
        return Reply(200, await tags.lock(kind, number(request), request.identity))

    async def delete(request: rest.Request) -> Reply:
        row = await tags.delete(kind, number(request), request.identity)
        return Reply(200, {"detail": f"Tag {row['tag_label']} deleted."})

    def number(request: rest.Request) -> int:
        return key(request.arguments["tag_number"], kind.model)

    described = dict(paths([resource], [])[resource.path]["post"])
    described["parameters"] = [
        {
            "name": "unique",
            "in": "query",
            "schema": {"type": "boolean"},
            "description": "Refuse it when a tag of this kind has these parameters",
        }
    ]
    described["responses"] = described["responses"] | {
        "409": {
            "description": "A tag with these parameters exists, or the category is full",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}},
        }
    }
    at = {"tag_number": {"type": "integer"}}
    name = f"{kind.name}_tags"
    refusals = {"400": "It is locked", "403": "Somebody else's, or no right", "404": "No such tag"}
    row = {"$ref": f"#/components/schemas/{kind.model}"}
    gone = {"type": "object", "properties": {"detail": {"type": "string"}}}
    return (
        Endpoint(
            resource.path,
            {"POST": create},
            auth="session",
            scope=Scope.PCS_WRITE,
            openapi={"post": described},
            body_limit=resource.body_limit,
        ),
        Endpoint(
            f"{detail}lock/",
            {"POST": lock},
            auth="session",
            scope=Scope.PCS_LOCK,
            openapi={
                "post": document(
                    resource.name,
                    f"{name}_lock",
                    "Make a draft unchangeable for ever",
                    {"200": "Locked", **refusals},
                    path=at,
                    answer=row,
                )
            },
        ),
        Endpoint(
            f"{detail}delete/",
            {"POST": delete},
            auth="session",
            scope=Scope.PCS_WRITE,
            openapi={
                "post": document(
                    resource.name,
                    f"{name}_delete",
                    "Delete a draft of one's own",
                    {"200": "Gone", **refusals, "409": "A dataset uses it"},
                    path=at,
                    answer=gone,
                )
            },
        ),
    )


def router(tags: Tags) -> APIRouter:
    """Return copy, history and comparison of tags."""
    routes = APIRouter()
    for kind in KINDS:
        _add(routes, kind, tags)
    return routes


def _add(routes: APIRouter, kind: Kind, tags: Tags) -> None:
    resource = tags.resources[kind.letter]
    detail = f"{resource.path}{{tag_number}}/"
    named = {"tags": [resource.name]}
    name = f"{kind.name}_tags"
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such tag"}}
    closed: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}

    @routes.post(
        f"{detail}copy/",
        summary="A draft of one's own with what this tag has",
        operation_id=f"{name}_copy",
        status_code=201,
        responses=REFUSALS | unknown,
        **named,  # type: ignore[arg-type]
    )
    async def copy(
        tag_number: Number, caller: Annotated[Identity, require(Scope.PCS_WRITE)], body: Copy | None = None
    ) -> Response:
        given = {} if body is None else body.model_dump(exclude_unset=True)
        try:
            row = await tags.copy(kind, tag_number, given, caller)
        except ApiError as exc:
            raise problem(exc) from None
        note().key = str(row["tag_number"])
        return json_response(row, 201)

    @routes.get(
        f"{detail}history/",
        summary="Who did what to this tag, oldest first",
        operation_id=f"{name}_history",
        responses=closed | unknown,
        **named,  # type: ignore[arg-type]
    )
    async def history(
        request: Request, tag_number: Number, _: Reader, limit: Limit = 100, after: After = 0
    ) -> Response:
        try:
            rows = await tags.history(kind, tag_number, after, limit + 1)
        except ApiError as exc:
            raise problem(exc) from None
        reply = json_response(rows[:limit])
        if len(rows) > limit:
            query = urlencode({"limit": limit, "after": rows[limit - 1]["id"]})
            path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
            reply.headers["Link"] = f'<{absolute_url(request.scope, path)}?{query}>; rel="next"'
        return reply

    @routes.get(
        f"{detail}diff/{{other}}/",
        summary="In what two tags differ",
        operation_id=f"{name}_diff",
        responses=closed | unknown,
        **named,  # type: ignore[arg-type]
    )
    async def diff(tag_number: Number, other: Number, _: Reader) -> Response:
        try:
            return json_response(await tags.diff(kind, tag_number, other))
        except ApiError as exc:
            raise problem(exc) from None
