"""The OpenAPI document of a service: the contract's resources and the new endpoints in one."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sluice_core.rest import Endpoint, Resource
from sluice_core.rest import openapi as rest

__all__ = ["document"]

PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457. `type` is `urn:problem:<word>`; `errors` names each bad field.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                "required": ["field", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance"],
}


def document(app: FastAPI, resources: Sequence[Resource], endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an application made by `sluice_core.service.build`."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    new_paths: dict[str, Any] = found.get("paths", {})
    for item in new_paths.values():
        for operation in item.values():
            _as_answered(operation["responses"])
    components = rest.components(resources)
    for kind, members in found.get("components", {}).items():
        components.setdefault(kind, {}).update(members)
    schemas = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if new_paths:
        schemas["Problem"] = PROBLEM
    found["paths"] = rest.paths(resources, endpoints) | new_paths
    found["components"] = components
    return found


def _as_answered(responses: dict[str, Any]) -> None:
    """Put what `sluice_core.errors` answers in the place of what FastAPI documents."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if responses.pop("422", None) is not None:
        responses.setdefault("400", {"description": "Bad input; `errors` names each field"})
    responses.setdefault("503", {"description": "The database cannot be reached"})
    for status, response in responses.items():
        if status.startswith(("4", "5")):
            response.setdefault("content", problem)
