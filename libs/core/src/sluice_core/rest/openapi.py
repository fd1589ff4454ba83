"""OpenAPI of declared resources and endpoints."""

from collections.abc import Sequence
from typing import Any

from sluice_core.rest.body import MEDIA_TYPES
from sluice_core.rest.fields import Choice, Field
from sluice_core.rest.resource import Endpoint, Filter, Resource

__all__ = ["components", "paths"]

Node = dict[str, Any]

DETAIL: Node = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
FIELD_ERRORS: Node = {
    "type": "object",
    "description": "Each bad field with its messages, or `detail` for a body that cannot be read.",
    "additionalProperties": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]},
}


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
        "securitySchemes": {
            "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Token <token>`"},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
    }


def paths(resources: Sequence[Resource], endpoints: Sequence[Endpoint]) -> Node:
    """Return the ``paths`` object."""
    found: Node = {}
    for resource in resources:
        found[resource.path] = _list(resource)
        found[f"{resource.path}{{{resource.key}}}/"] = _detail(resource)
    for endpoint in endpoints:
        secured: Node = {} if endpoint.auth in ("open", "read", "ignored") else {"security": _security(endpoint.scope)}
        own = {method: {**operation, **secured} for method, operation in endpoint.openapi.items()}
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


def _security(scope: str | None) -> list[Node]:
    return [{"token": [scope] if scope else []}, {"bearer": [scope] if scope else []}]


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
        found["security"] = _security(scope)
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
    return {"get": read, "post": create}


def _detail(resource: Resource) -> Node:
    row = {"200": _json("The row", _ref(resource.model)), **ABSENT}
    key = {"name": resource.key, "in": "path", "required": True, "schema": resource.field(resource.key).schema()}
    write, label = resource.write, resource.label
    return {
        "parameters": [key],
        "get": _operation(resource, "read", f"One {label}", row),
        "put": _operation(resource, "replace", f"Replace one {label}", row, scope=write, body=f"{resource.model}Write"),
        "patch": _operation(resource, "change", f"Change one {label}", row, scope=write, body=f"{resource.model}Patch"),
        "delete": _operation(
            resource, "delete", f"Delete one {label}", {"204": {"description": "Gone"}, **ABSENT}, scope=write
        ),
    }
