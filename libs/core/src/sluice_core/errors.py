"""Refusals of new endpoints: RFC 9457 bodies (DECISIONS 24).

Endpoints that existed before keep the shapes of their contract; those come from `sluice_core.rest`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sluice_core.database import DatabaseAway
from sluice_core.http.pages import error_page

__all__ = ["Invalid", "Problem", "Unavailable", "install", "problem_response"]

PROBLEM_TYPE = "application/problem+json"

_CODES = {
    400: ("bad_request", "Bad request"),
    401: ("unauthenticated", "Authentication is required"),
    403: ("forbidden", "Not allowed"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    406: ("not_acceptable", "Not acceptable"),
    409: ("conflict", "Conflict"),
    413: ("too_large", "Body too large"),
    415: ("unsupported_media_type", "Unsupported media type"),
    429: ("too_many_requests", "Too many requests"),
}


class Problem(Exception):
    """A refusal that the caller can act on; a service subclasses it once for each reason.

    Parameters
    ----------
    detail
        What is wrong with this very request.
    headers
        Further headers of the answer.
    **members
        Extension members of the body (RFC 9457 section 3.2).

    Examples
    --------
    >>> class AgentUnknown(Problem):
    ...     status, code, title = 404, "agent_unknown", "No such agent"
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "Bad request"

    def __init__(self, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers = dict(headers or {})
        self.members = members


class Invalid(Problem):
    """Input that does not fit; ``errors`` names each field.

    Parameters
    ----------
    errors
        ``{"field": ..., "message": ...}`` for each bad field.
    """

    status, code, title = 400, "validation", "The request is not valid"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__("; ".join(f"{error['field']}: {error['message']}" for error in errors[:3]), errors=errors)


class Unavailable(Problem):
    """Something that the answer needs is away; the same request may succeed later."""

    status, code, title = 503, "unavailable", "Not available at the moment"


def problem_response(request: Request, problem: Problem) -> Response:
    """Return the answer for a refusal."""
    return _response(request, problem.status, problem.code, problem.title, problem.detail, problem)


def _response(request: Request, status: int, code: str, title: str, detail: str, extra: Problem | None) -> Response:
    body = {
        "type": f"urn:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": quote(request.scope["path"]),
    }
    if extra is not None:
        body |= extra.members
    headers = extra.headers if extra is not None else None
    return Response(msgspec.json.encode(body), status, headers, PROBLEM_TYPE)


async def _on_problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Problem)
    return problem_response(request, exc)


async def _on_invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    # 20 are enough to mend a request; a body of a million bad rows must not become an answer of a million errors.
    # "Value error, " is pydantic's mark of what our own validators say.
    errors = [
        {"field": _field(error["loc"]), "message": error["msg"].removeprefix("Value error, ")}
        for error in exc.errors()[:20]
    ]
    return problem_response(request, Invalid(errors))


def _field(location: Sequence[int | str]) -> str:
    """Name a field as the caller wrote it: without the leading ``body`` or ``query``."""
    inner = location[1:]
    if not inner or (location[0] == "body" and isinstance(inner[0], int) and len(inner) == 1):
        return str(location[0])
    return ".".join(map(str, inner))


async def _on_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if exc.status_code == 404 and "endpoint" not in request.scope:
        return error_page(404)  # no route at all: contract 2.1
    code, title = _CODES.get(exc.status_code, (f"http_{exc.status_code}", "Refused"))
    problem = Problem(headers=exc.headers)
    return _response(request, exc.status_code, code, title, str(exc.detail), problem)


async def _on_database_away(request: Request, _exc: Exception) -> Response:
    return problem_response(request, Unavailable(headers={"Retry-After": "2"}))


def install(app: FastAPI) -> None:
    """Let an application answer RFC 9457 bodies for every refusal, its own and those of FastAPI."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DatabaseAway, _on_database_away)
