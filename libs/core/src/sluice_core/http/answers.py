"""What answers of the new endpoints have in common."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import Query, Request, Response
from pydantic import StringConstraints

from sluice_core.http.prefix import absolute_url

__all__ = ["Key", "Limit", "Line", "json_response", "page_response"]

# PostgreSQL keeps no NUL.
NO_NUL = r"^[^\x00]*$"

Key = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
"""A text that is looked for; nothing so long is ever kept."""

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=NO_NUL)]
"""A short text."""

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most; the `Link` header leads to the rest")]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON, date-times as everywhere else.

    FastAPI's own way through a response model fails on metadata that is nested deeper than its serializer goes.
    """
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def page_response(request: Request, rows: Sequence[Mapping[str, Any]], limit: int, *, key: str) -> Response:
    """Return one page of a list, with the way to the next one in its ``Link`` header (RFC 8288).

    Parameters
    ----------
    rows
        One more than ``limit`` where there is a next page.
    key
        Of a row, after which the next page begins.
    """
    page = rows[:limit]
    if len(rows) == len(page):
        return json_response(page)
    query = urlencode({**request.query_params, "limit": limit, "after": page[-1][key]})
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return json_response(page, headers={"Link": f'<{absolute_url(request.scope, path)}?{query}>; rel="next"'})
