"""OpenAPI: the document of a service, with the contract's resources and the new endpoints in one; and that of all."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sluice_core.auth import ROLES, Scope
from sluice_core.rest import Endpoint, Resource
from sluice_core.rest import openapi as rest

__all__ = ["API_TITLE", "API_VERSION", "document", "merge"]

Node = dict[str, Any]

# Of the document of all services (contract 4.5).
API_TITLE = "SWF Monitor API"
API_VERSION = "1.0.0"

SCOPES = "x-scopes"
"""Key of the rights that operations ask for: what each is, and which roles hold it."""

PROBLEM: Node = {
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


def document(app: FastAPI, resources: Sequence[Resource], endpoints: Sequence[Endpoint]) -> Node:
    """Return the OpenAPI 3.1 document of an application made by `sluice_core.service.build`."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    new_paths: Node = found.get("paths", {})
    for item in new_paths.values():
        for method, operation in item.items():
            _as_answered(operation["responses"])
            for kind in operation.get("security", []):
                operation["security"] = rest.security(kind["bearer"], method)
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
    found[SCOPES] = _scopes(found["paths"])
    return found


def _scopes(paths: Node) -> Node:
    """Describe the scopes that operations ask for."""
    operations = [each for item in paths.values() for each in item.values() if isinstance(each, dict)]
    named = {
        scope for each in operations for kind in each.get("security", ()) for word in kind.values() for scope in word
    }
    return {
        scope: {
            "description": Scope(scope).description,
            "roles": [role for role, scopes in ROLES.items() if scopes & {scope, Scope.ADMIN}],
        }
        for scope in sorted(named)
    }


def _as_answered(responses: Node) -> None:
    """Put what `sluice_core.errors` answers in the place of what FastAPI documents."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if responses.pop("422", None) is not None:
        responses.setdefault("400", {"description": "Bad input; `errors` names each field"})
    responses.setdefault("503", {"description": "The database cannot be reached"})
    for status, response in responses.items():
        if status.startswith(("4", "5")):
            response.setdefault("content", problem)


def merge(documents: Mapping[str, Node]) -> Node:
    """Return one document of all services.

    Parameters
    ----------
    documents
        Of each service, by its name.

    Returns
    -------
    dict
        What services call the same and mean the same is there once; where they mean different things, each has the
        service's name before its own.

    Raises
    ------
    ValueError
        Two services answer one path, or mean different things by one security scheme.
    """
    apart = _apart(documents)
    paths: Node = {}
    components: dict[str, Node] = {}
    scopes: Node = {}
    for service, found in documents.items():
        own = _pointed(found, {ref: _own_name(ref, service) for ref in apart})
        if twice := sorted(paths.keys() & own["paths"].keys()):
            raise ValueError(f"{service} is not the only service that answers {', '.join(twice)}")
        paths |= own["paths"]
        scopes |= own.get(SCOPES, {})
        for ref, node in _components(own):
            _, _, kind, name = (_own_name(ref, service) if ref in apart else ref).split("/")
            components.setdefault(kind, {})[name] = node
    return {
        "openapi": "3.1.0",
        "info": {"title": API_TITLE, "version": API_VERSION},
        "paths": paths,
        "components": {kind: dict(sorted(components[kind].items())) for kind in sorted(components)},
        SCOPES: dict(sorted(scopes.items())),
    }


def _apart(documents: Mapping[str, Node]) -> set[str]:
    """Return the references by which different services mean different things."""
    meanings: dict[str, list[Node]] = {}
    for found in documents.values():
        for ref, node in _components(found):
            meanings.setdefault(ref, []).append(node)
    apart = {ref for ref, nodes in meanings.items() if any(node != nodes[0] for node in nodes)}
    if schemes := sorted(ref for ref in apart if ref.startswith("#/components/securitySchemes/")):
        raise ValueError(f"services differ in {', '.join(schemes)}")
    # Two equal schemas mean different things if they refer to such.
    while more := {ref for ref, nodes in meanings.items() if len(nodes) > 1 and _refs(nodes[0]) & apart} - apart:
        apart |= more
    return apart


def _components(found: Node) -> Iterator[tuple[str, Node]]:
    """Yield each component of a document with the reference to it."""
    for kind, members in found.get("components", {}).items():
        for name, node in members.items():
            yield f"#/components/{kind}/{name}", node


def _own_name(ref: str, service: str) -> str:
    before, _, name = ref.rpartition("/")
    return f"{before}/{service.capitalize()}{name}"


def _refs(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*map(_refs, node.values()))
    return set().union(*map(_refs, node)) if isinstance(node, list) else set()


def _pointed(node: Any, names: Mapping[str, str]) -> Any:
    """Return a copy whose references have other names."""
    if isinstance(node, dict):
        return {
            key: names.get(value, value) if key == "$ref" and isinstance(value, str) else _pointed(value, names)
            for key, value in node.items()
        }
    return [_pointed(each, names) for each in node] if isinstance(node, list) else node
