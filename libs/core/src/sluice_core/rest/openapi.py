"""OpenAPI of declared resources and endpoints."""

from collections.abc import Sequence
from typing import Any

from sluice_core.auth.sessions import CSRF_COOKIE, CSRF_HEADER, SAFE, SESSION_COOKIE
from sluice_core.rest.body import MEDIA_TYPES
from sluice_core.rest.fields import Choice, Field
from sluice_core.rest.resource import Endpoint, Filter, Resource

__all__ = ["components", "paths", "security"]

Node = dict[str, Any]

DETAIL: Node = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
FIELD_ERRORS: Node = {
    "type": "object",
    "description": "Each bad field with its messages, or `detail` for a body that cannot be read.",
    "additionalProperties": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]},
}


SCHEMES: Node = {
    "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Token <token>`"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": f"What the cookie `{CSRF_COOKIE}` holds; only beside a session, where something changes.",
    },
}


def security(scopes: Sequence[str], method: str, *, tokens_only: bool = False) -> list[Node]:
    """Return the credentials of which an operation takes any one, each with the scopes that it must bring.

    Parameters
    ----------
    method
        In any case.
    """
    named = list(scopes)
    kinds: list[Node] = [{"token": named}, {"bearer": named}]
    if not tokens_only:
        proof: Node = {} if method.upper() in SAFE else {"csrf": []}
        kinds += [{"session": named, **proof}, {"basic": named}]
    return kinds


def components(resources: Sequence[Resource]) -> Node:
    """Return the ``components`` object."""
    schemas: Node = {"Detail": DETAIL, "FieldErrors": FIELD_ERRORS}
    for resource in resources:
        schemas[resource.model] = _object(resource.fields, required=True)
        required = [each.name for each in resource.writable if each.required]
        for name, needed in ((f"{resource.model}Write", required), (f"{resource.model}Patch", [])):
            schemas[name] = _object(resource.writable) | ({"required": needed} if needed else {})
    return {
        "schemas": schemas,
        "securitySchemes": SCHEMES,
    }


def paths(resources: Sequence[Resource], endpoints: Sequence[Endpoint]) -> Node:
    """Return the ``paths`` object."""
    found: Node = {}
    for resource in resources:
        found[resource.path] = _list(resource)
        found[f"{resource.path}{{{resource.key}}}/"] = _detail(resource)
    for endpoint in endpoints:
        own = {method: {**operation, **_secured(endpoint, method)} for method, operation in endpoint.openapi.items()}
        found.setdefault(endpoint.path, {}).update(own)
    return found


def _object(fields: Sequence[Field], *, required: bool = False) -> Node:
    found: Node = {"type": "object", "properties": {each.name: _schema(each, shown=required) for each in fields}}
    if required:
        found["required"] = [each.name for each in fields]
    return found


def _schema(field: Field, *, shown: bool = False) -> Node:
    found = dict(field.schema())
    if shown and isinstance(field, Choice):
        # What heartbeats brought may lie outside of the list (contract 3.1).
        found.pop("enum")
    if not field.writable:
        found["readOnly"] = True
    if field.help:
        found["description"] = field.help
    if field.null and "type" in found:
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
        if "anyOf" in found:
            found["anyOf"] = [*found["anyOf"], {"type": "null"}]
    if field.default is not None and not callable(field.default):
        found["default"] = field.default
    return found


def _ref(name: str) -> Node:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Node) -> Node:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _secured(endpoint: Endpoint, method: str) -> Node:
    if endpoint.auth in ("open", "read", "browser", "ignored"):
        return {}
    scopes = [endpoint.scope] if endpoint.scope else []
    return {"security": security(scopes, method, tokens_only=endpoint.auth == "token")}


def _body(name: str) -> Node:
    return {"required": True, "content": {media: {"schema": _ref(name)} for media in MEDIA_TYPES}}


REFUSED: Node = {
    "403": _json("No credential, a bad one, or not the scope", _ref("Detail")),
    "503": _json("The database cannot be reached", _ref("Detail")),
}
UNREADABLE: Node = {
    "400": _json("Bad values", _ref("FieldErrors")),
    "413": _json("The body is too long", _ref("Detail")),
    "415": _json("Not a media type for bodies", _ref("Detail")),
}
ABSENT: Node = {"404": _json("No such row", _ref("Detail"))}


def _operation(
    resource: Resource, verb: str, summary: str, answers: Node, *, scope: str | None = None, body: str | None = None
) -> Node:
    found: Node = {
        "operationId": f"{resource.name.replace('-', '_')}_{verb}",
        "tags": [resource.name],
        "summary": summary,
        "responses": {**answers, **REFUSED},
    }
    if scope:
        # Only what changes something asks for a scope.
        found["security"] = security([scope], "POST")
    if body:
        found["requestBody"] = _body(body)
        found["responses"] = {**answers, **UNREADABLE, **REFUSED}
    return found


def _filter(each: Filter) -> Node:
    schema = {key: value for key, value in each.field.schema().items() if key in ("type", "format", "anyOf")}
    found = {"name": each.name, "in": "query", "required": False, "schema": schema}
    return found | ({"description": each.field.help} if each.field.help else {})


def _list(resource: Resource) -> Node:
    row, write = _ref(resource.model), f"{resource.model}Write"
    rows: Node = {"type": "array", "items": row}
    page: Node = {
        "type": "object",
        "properties": {
            "count": {"type": ["integer", "null"]},
            "next": {"type": ["string", "null"]},
            "previous": {"type": ["string", "null"]},
            "results": rows,
        },
    }
    read = _operation(
        resource,
        "list",
        "All rows, or a page of them with `limit`",
        {"200": _json("The rows", {"anyOf": [rows, page]}), "400": _json("Bad parameters", _ref("FieldErrors"))},
    )
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10000}}
    cursor = {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "From `next`."}
    read["parameters"] = [*map(_filter, resource.filtering), limit, cursor]
    if not resource.count:
        count = {"name": "count", "in": "query", "schema": {"type": "boolean"}}
        read["parameters"].append({**count, "description": "Count the rows too, which takes its time."})
    create = _operation(
        resource,
        "create",
        f"Create one {resource.label}",
        {"201": _json("The new row", row)},
        scope=None if resource.create_open else resource.create or resource.write,
        body=write,
    )
    return {"get": read, **({"post": create} if "POST" in resource.on_list else {})}


IF_MATCH: Node = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "An `ETag` of the row, several, or `*`; the write is refused where none of them is the row's.",
}


def _detail(resource: Resource) -> Node:
    row = {"200": _json("The row", _ref(resource.model)), **ABSENT}
    kept: Node = {}
    if resource.tagged:
        row["200"]["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "Of this state of the row."}}
        kept = {"412": _json("The row is not what `If-Match` names", _ref("Detail"))}
    written = {**row, **kept}
    key = {"name": resource.key, "in": "path", "required": True, "schema": resource.field(resource.key).schema()}
    write, label = resource.write, resource.label
    found: Node = {
        "parameters": [key],
        "get": _operation(resource, "read", f"One {label}", row),
        "put": _operation(
            resource, "replace", f"Replace one {label}", written, scope=write, body=f"{resource.model}Write"
        ),
        "patch": _operation(
            resource, "change", f"Change one {label}", written, scope=write, body=f"{resource.model}Patch"
        ),
        "delete": _operation(
            resource, "delete", f"Delete one {label}", {"204": {"description": "Gone"}, **ABSENT, **kept}, scope=write
        ),
    }
    if resource.tagged:
        for method in ("put", "patch", "delete"):
            found[method]["parameters"] = [IF_MATCH]
    offered = ("parameters", "get", *(each.lower() for each in resource.on_detail))
    return {name: each for name, each in found.items() if name in offered}
