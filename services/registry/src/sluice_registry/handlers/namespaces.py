"""``/api/namespaces/``: ``ensure/`` of the contract (4.3), and what is new beside it."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from starlette.convertors import Convertor, register_url_convertor

from sluice_core import rest
from sluice_core.audit import note
from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Forbidden, Reader, require
from sluice_core.rest import ApiError, Endpoint, FieldError, Json, Reply, Text
from sluice_registry.handlers.answers import NO_NUL, Key, Limit, Line, json_response, page_response
from sluice_registry.service.namespaces import Namespaces

__all__ = ["endpoints", "router"]

PATH = "/api/namespaces/"

NAME = Text("name", max_length=100)
OWNER = Text("owner", max_length=100)
DESCRIPTION = Text("description", blank=True)
METADATA = Json("metadata", null=True)


class _NameConvertor(Convertor[str]):
    """What stands in a path for a namespace: any characters, a slash and a line break too."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("namespace", _NameConvertor())


def _metadata(value: Any) -> Any:
    try:
        return METADATA.parse(value, UTC)
    except FieldError as exc:
        raise ValueError(" ".join(exc.args)) from None


class Namespace(BaseModel):
    """A namespace."""

    name: str
    owner: str
    description: str
    metadata: Any = Field(description="Any JSON value, or null")
    created_at: datetime
    updated_at: datetime


class NamespaceChange(BaseModel):
    """What may change; what is absent stays."""

    model_config = ConfigDict(extra="forbid")

    # The defaults are never written.
    owner: Line = Field(default_factory=str)
    description: Annotated[str, StringConstraints(pattern=NO_NUL)] = Field(default_factory=str)
    metadata: Annotated[Any, AfterValidator(_metadata)] = Field(None, description="Any JSON value, or null")


def router(namespaces: Namespaces) -> APIRouter:
    """Return the list, one namespace, and its change."""
    routes = APIRouter(tags=["namespaces"])
    unauthenticated: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such namespace"}}

    @routes.get(
        PATH,
        summary="Namespaces by name",
        operation_id="namespaces_list",
        response_description="A page of namespaces",
        response_model=list[Namespace],
        responses=unauthenticated,
    )
    async def find(
        request: Request,
        _: Reader,
        limit: Limit = 100,
        after: Annotated[Key, Query(description="Only names behind this one")] = "",
    ) -> Response:
        return page_response(request, await namespaces.after(after, limit + 1), limit, key="name")

    @routes.get(
        f"{PATH}{{name:namespace}}/",
        summary="One namespace",
        operation_id="namespaces_read",
        response_description="The namespace",
        response_model=Namespace,
        responses=unauthenticated | unknown,
    )
    async def read(name: Key, _: Reader) -> Response:
        return json_response(await namespaces.get(name))

    @routes.patch(
        f"{PATH}{{name:namespace}}/",
        summary="Change owner, description or metadata",
        operation_id="namespaces_change",
        response_description="The namespace as it is now",
        response_model=Namespace,
        responses=REFUSALS | unknown,
    )
    async def change(
        name: Key, body: NamespaceChange, caller: Annotated[Identity, require(Scope.NAMESPACES_WRITE)]
    ) -> Response:
        if not caller.within(name):
            raise Forbidden(f"You may not write in the namespace {name!r}.")
        return json_response(await namespaces.change(name, body.model_dump(exclude_unset=True)))

    return routes


def endpoints(namespaces: Namespaces) -> tuple[Endpoint, ...]:
    """Return ``ensure/``."""

    async def post(request: rest.Request) -> Reply:
        data = await request.data()
        if not isinstance(data, dict):
            raise _refused("the body must be an object")
        # Only a truthy name is one, and it is asked for before the owner.
        name, owner = (_text(field, data.get(field.name) or "") for field in (NAME, OWNER))
        description = _text(DESCRIPTION, data.get("description", ""))
        if request.identity is not None and not request.identity.within(name):
            raise rest.denied()
        found = await namespaces.ensure(name, owner, description)
        note().key = name
        answer = {key: found.row[key] for key in ("name", "owner", "description")}
        return Reply(200, {**answer, "created": found.created, "status": "success"})

    return (
        Endpoint(
            f"{PATH}ensure/",
            {"POST": post},
            auth="session",
            scope=Scope.NAMESPACES_WRITE,
            openapi={"post": _document()},
        ),
    )


def _text(field: Text, raw: Any) -> str:
    try:
        value: str = field.parse(raw, UTC)
    except FieldError as exc:
        missing = exc.args == ("This field may not be blank.",)
        raise _refused(f"{field.name} is required" if missing else f"{field.name}: {' '.join(exc.args)}") from None
    return value


def _refused(error: str) -> ApiError:
    return ApiError(400, {"error": error, "status": "error"})


def _document() -> dict[str, object]:
    fields = (NAME, OWNER, DESCRIPTION)
    body = {
        "type": "object",
        "required": ["name", "owner"],
        "properties": {field.name: field.schema() for field in fields}
        | {"description": {"type": "string", "default": ""}},
    }
    texts: dict[str, object] = {field.name: {"type": "string"} for field in fields}
    answer = {
        "type": "object",
        "required": ["name", "owner", "description", "created", "status"],
        "properties": texts | {"created": {"type": "boolean"}, "status": {"const": "success"}},
    }
    refusal = {
        "type": "object",
        "description": "Or `detail` for a body that cannot be read.",
        "properties": {"error": {"type": "string"}, "status": {"const": "error"}, "detail": {"type": "string"}},
    }
    return {
        "tags": ["namespaces"],
        "operationId": "namespaces_ensure",
        "summary": "Create a namespace unless it exists",
        "description": "One that exists is answered as it is: its owner and description win.",
        "requestBody": {
            "required": True,
            "content": {media: {"schema": body} for media in ("application/json", "application/x-www-form-urlencoded")},
        },
        "responses": {
            "200": {"description": "It is there", "content": {"application/json": {"schema": answer}}},
            "400": {"description": "Bad values", "content": {"application/json": {"schema": refusal}}},
            "403": {"description": "No credential, a bad one, or not the scope"},
            "415": {"description": "Neither JSON nor a form"},
        },
    }
