"""What the newer endpoints have in common: their query parameters, and problems as RFC 9457 has them (decision 24)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request as StarletteRequest

from sluice_core import errors
from sluice_core.rest import Filter, Invalid, Reply, Request
from sluice_logs.resources import LOGS

__all__ = ["FILTERS", "Handler", "answer", "operation", "parameter", "refusing"]

Handler = Callable[[Request], Awaitable[Reply]]


def parameter(each: Filter) -> dict[str, Any]:
    """Describe a query parameter."""
    schema = {key: value for key, value in each.field.schema().items() if key in ("type", "format", "anyOf", "minimum")}
    found = {"name": each.name, "in": "query", "required": False, "schema": schema}
    return found | ({"description": each.field.help} if each.field.help else {})


FILTERS = [parameter(each) for each in LOGS.filtering]


def refusing(handler: Handler) -> Handler:
    """Let a handler refuse with problems."""

    async def answer(request: Request) -> Reply:
        try:
            return await handler(request)
        except Invalid as exc:
            named = [{"field": name, "message": " ".join(texts)} for name, texts in exc.errors.items()]
            problem: errors.Problem = errors.Invalid(named)
        except errors.Problem as exc:
            problem = exc
        response = errors.problem_response(StarletteRequest(request.scope), problem)
        return Reply(response.status_code, bytes(response.body), problem.headers, errors.PROBLEM_TYPE)

    return answer


def answer(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of ``responses``: what is answered in which media types."""
    return {"description": description, "content": {media: {"schema": schema} for media, schema in content.items()}}


def operation(name: str, summary: str, parameters: list[dict[str, Any]], success: dict[str, Any]) -> dict[str, Any]:
    """Return the operation object of an endpoint that reads."""
    return {
        "tags": ["logs"],
        "operationId": f"logs_{name}",
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": success,
            "400": answer("A parameter that cannot be read", {errors.PROBLEM_TYPE: {"type": "object"}}),
            "403": {"description": "A bad credential, or none where reads are closed"},
            "503": {"description": "The database cannot be reached"},
        },
    }
