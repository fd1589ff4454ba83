"""``/pcs/tags/{type}/param-defs/`` (contract 4.1)."""

from collections.abc import Awaitable, Callable
from typing import Any

from sluice_core.auth import Scope
from sluice_core.rest import ApiError, Endpoint, Reply, Request, denied
from sluice_pcs.handlers.answers import document
from sluice_pcs.kinds import BY_LETTER, Kind
from sluice_pcs.service.definitions import Definitions

__all__ = ["endpoints"]

PATH = "/pcs/tags/{type}/param-defs/"
BODY_LIMIT = 2**20


def endpoints(definitions: Definitions) -> tuple[Endpoint, ...]:
    """Return the definitions of a kind, and their replacement."""

    def kind(request: Request) -> Kind:
        found = BY_LETTER.get(request.arguments["type"])
        if found is None:
            raise _refused("Invalid tag type")
        return found

    async def get(request: Request) -> Reply:
        return Reply(200, {"defs": await definitions.get(kind(request))})

    async def post(request: Request) -> Reply:
        which = kind(request)
        caller = request.identity
        if caller is None:
            raise ApiError(403, {"error": "Login required"})
        if not caller.may(Scope.PCS_WRITE):
            raise denied()
        try:
            data = await request.data()
        except ApiError as exc:
            if exc.status != 400:
                raise
            raise _refused("Invalid JSON") from None
        defs = data.get("defs") if isinstance(data, dict) else None
        return Reply(200, {"ok": True, "defs": await definitions.replace(which, defs, caller)})

    async def other(request: Request) -> Reply:
        kind(request)
        if request.identity is None:
            raise ApiError(403, {"error": "Login required"})
        raise ApiError(405, {"error": "Method not allowed"}, {"Allow": "GET, POST, HEAD, OPTIONS"})

    methods: dict[str, Callable[[Request], Awaitable[Reply]]] = {"GET": get, "POST": post}
    methods |= dict.fromkeys(("PUT", "PATCH", "DELETE"), other)
    letters = {"type": {"type": "string", "enum": list(BY_LETTER)}}
    answer = {"type": "object", "properties": {"defs": {"type": "array", "items": DEFINITION}}}
    openapi = {
        "get": document(
            "tags",
            "param_defs_read",
            "Parameters that tags of a kind have",
            {"200": "In their order", "400": "No such kind"},
            path=letters,
            answer=answer,
        ),
        "post": document(
            "tags",
            "param_defs_replace",
            "Replace the parameters that tags of a kind have",
            {"200": "As they are now", "400": "Bad definitions", "403": "No credential, or not the scope"},
            path=letters,
            answer=answer,
            body={
                "type": "object",
                "required": ["defs"],
                "properties": {"defs": {"type": "array", "items": DEFINITION}},
            },
        ),
    }
    return (Endpoint(PATH, methods, auth="open", openapi=openapi, body_limit=BODY_LIMIT),)


DEFINITION: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "type": {"type": "string", "default": "string", "examples": ["string", "integer", "float", "boolean"]},
        "required": {"type": "boolean", "default": False},
        "required_categories": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Digits of the categories that it is required in; all when absent",
        },
        "choices": {"type": "array", "items": {"type": "string"}},
        "allow_other": {"type": "boolean", "default": True},
        "sort_order": {"type": "integer"},
    },
}


def _refused(error: str) -> ApiError:
    return ApiError(400, {"error": error})
