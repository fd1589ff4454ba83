"""``/api/schema/``: one OpenAPI document of all services, and two ways to read it (contract 4.5).

Nothing here leads out of the site: the pages and all they load come from the wheel of `fastapi-offline`, and a
Content-Security-Policy forbids the rest (ReDoc would fetch its maker's logo).
"""

import asyncio
import base64
import hashlib
import html
import json
from functools import lru_cache
from importlib.resources import files

import yaml
from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

from sluice_core.http import absolute_url
from sluice_core.http.answers import json_response
from sluice_core.openapi import API_TITLE
from sluice_core.rest import ApiError
from sluice_core.rest.negotiate import Offers, choose

__all__ = ["router"]

PATH = "/api/schema/"
JSON = "application/vnd.oai.openapi+json"
YAML = "application/vnd.oai.openapi"
OFFERS: Offers[str] = (
    (YAML, "application", "vnd.oai.openapi", "yaml"),
    ("application/yaml", "application", "yaml", "yaml"),
    (JSON, "application", "vnd.oai.openapi+json", "json"),
    ("application/json", "application", "json", "json"),
)
DETAIL = {"application/json": {"schema": {"$ref": "#/components/schemas/Detail"}}}

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title}</title>
  <link rel="icon" href="../static/favicon.png">
  {head}
</head>
<body style="margin: 0">
  {body}
</body>
</html>
"""
# Relative, so that a prefix makes no difference. No validator: it is a web site.
START = """SwaggerUIBundle({
    url: "../?format=json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null
  })"""
SWAGGER_UI = PAGE.format(
    title=html.escape(API_TITLE),
    head='<link rel="stylesheet" href="../static/swagger-ui.css">',
    body=f'<div id="swagger-ui"></div>\n  <script src="../static/swagger-ui-bundle.js"></script>\n'
    f"  <script>{START}</script>",
)
REDOC = PAGE.format(
    title=html.escape(API_TITLE),
    head="",
    body='<redoc spec-url="../?format=json"></redoc>\n  <script src="../static/redoc.standalone.js"></script>',
)
_HASH = base64.b64encode(hashlib.sha256(START.encode()).digest()).decode()
POLICY = (
    f"default-src 'self'; script-src 'self' 'sha256-{_HASH}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src blob:"
)


def router() -> APIRouter:
    """Return the document, its pages, and what they load."""
    routes = APIRouter(tags=["schema"])
    static = StaticFiles(packages=[("fastapi_offline", "static")])

    @routes.head(PATH, include_in_schema=False)
    @routes.get(
        PATH,
        summary="This document",
        description="YAML, or JSON with `?format=json` or when `Accept` says so.",
        operation_id="schema",
        response_class=Response,
        responses={
            200: {"description": "OpenAPI 3.1", "content": {YAML: {}, JSON: {}, "application/json": {}}},
            404: {"description": "No such format", "content": DETAIL},
            406: {"description": "`Accept` allows neither", "content": DETAIL},
        },
    )
    async def schema(request: Request, format: str | None = None) -> Response:
        try:
            media_type = choose(request.headers.get("accept", ""), format or None, OFFERS)
        except ApiError as exc:
            return json_response(exc.content, exc.status)
        # The first rendering takes some ten milliseconds.
        body = await asyncio.to_thread(_rendered, media_type.endswith("json"))
        url = json.dumps(absolute_url(request.scope, ""))
        if media_type.endswith("json"):
            body = b'{"servers":[{"url":%s}],' % url.encode() + body.removeprefix(b"{")
        else:
            body += b"servers:\n- url: %s\n" % url.encode()
        return Response(body, media_type=media_type, headers={"Vary": "Accept"})

    @routes.head(f"{PATH}swagger-ui/", include_in_schema=False)
    @routes.get(f"{PATH}swagger-ui/", include_in_schema=False)
    async def swagger_ui() -> Response:
        return _page(SWAGGER_UI)

    @routes.head(f"{PATH}redoc/", include_in_schema=False)
    @routes.get(f"{PATH}redoc/", include_in_schema=False)
    async def redoc() -> Response:
        return _page(REDOC)

    @routes.head(f"{PATH}static/{{name}}", include_in_schema=False)
    @routes.get(f"{PATH}static/{{name}}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return await static.get_response(name, request.scope)

    @routes.get(PATH.rstrip("/"), include_in_schema=False)
    @routes.get(f"{PATH}swagger-ui", include_in_schema=False)
    @routes.get(f"{PATH}redoc", include_in_schema=False)
    async def slash(request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        return Response(status_code=301, headers={"Location": f"{request.scope['path']}/{query}"})

    return routes


@lru_cache(2)
def _rendered(as_json: bool) -> bytes:
    text = files("sluice_registry").joinpath("openapi.json").read_bytes()
    document = json.loads(text)
    if as_json:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True).encode()


def _page(text: str) -> Response:
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": POLICY})
