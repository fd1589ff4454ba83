"""``/.well-known/oauth-protected-resource`` (contract 4.6)."""

from fastapi import APIRouter, Request, Response

from sluice_core.http import absolute_url
from sluice_core.http.answers import json_response

__all__ = ["router"]

PATH = "/.well-known/oauth-protected-resource"


def router(domain: str) -> APIRouter:
    """Return the path.

    Parameters
    ----------
    domain
        Host of the OAuth server; empty where there is none.
    """
    routes = APIRouter(tags=["auth"])

    @routes.head(PATH, include_in_schema=False)
    @routes.get(
        PATH,
        summary="Which OAuth server knows the users of the MCP endpoint",
        description="Metadata of RFC 9728.",
        operation_id="oauth_protected_resource",
        response_class=Response,
        responses={
            200: {"description": "The metadata", "content": {"application/json": {"schema": METADATA}}},
            503: {"description": "No OAuth server is configured"},
        },
    )
    async def metadata(request: Request) -> Response:
        if not domain:
            # To the byte as the contract has it.
            return Response(b'{"error": "OAuth not configured"}', 503, media_type="application/json")
        return json_response(
            {
                "resource": absolute_url(request.scope, "/mcp"),
                "authorization_servers": [f"https://{domain}/"],
                "scopes_supported": ["openid", "profile", "email"],
                "bearer_methods_supported": ["header"],
            }
        )

    return routes


_TEXTS = {"type": "array", "items": {"type": "string"}}
METADATA = {
    "type": "object",
    "required": ["resource", "authorization_servers", "scopes_supported", "bearer_methods_supported"],
    "properties": {
        "resource": {"type": "string", "format": "uri"},
        "authorization_servers": {"type": "array", "items": {"type": "string", "format": "uri"}},
        "scopes_supported": _TEXTS,
        "bearer_methods_supported": _TEXTS,
    },
}
