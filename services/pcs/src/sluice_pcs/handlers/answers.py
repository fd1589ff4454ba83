"""What answers have in common: keys in paths, documents, refusals of new endpoints."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

from sluice_core import errors
from sluice_core.auth.fastapi import Forbidden
from sluice_core.rest import ApiError
from sluice_core.rest.errors import not_found

__all__ = ["Conflict", "NotFound", "document", "json_response", "key", "problem", "text_of"]

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)


class NotFound(errors.Problem):
    """What the path names is not there."""

    status, code, title = 404, "not_found", "Not found"


class Conflict(errors.Problem):
    """What is there already stands in the way."""

    status, code, title = 409, "conflict", "Conflict"


def key(text: str, model: str, *, bits: int = 32) -> int:
    """Turn a segment of a path into the key of a row.

    Raises
    ------
    ApiError
        404, as no row can have that key.
    """
    if not _WHOLE.fullmatch(text):
        raise not_found()
    value = int(text)
    if value >= 2 ** (bits - 1):
        raise not_found(model)
    return value


def problem(refusal: ApiError) -> errors.Problem:
    """Return a refusal of the contract's shape in that of new endpoints (decision 24)."""
    content = refusal.content
    if refusal.status == 400 and "detail" not in content:
        return errors.Invalid([{"field": name, "message": " ".join(messages)} for name, messages in content.items()])
    kind = {403: Forbidden, 404: NotFound, 409: Conflict}.get(refusal.status, errors.Problem)
    more = {name: value for name, value in content.items() if name != "detail"}
    return kind(content["detail"], **more)


def json_response(content: Any, status: int = 200) -> Response:
    """Return an answer in JSON, date-times as everywhere else."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def text_of(data: Any, name: str, *, most: int) -> str | None:
    """Return an optional text of a body, trimmed; None when it is absent.

    Raises
    ------
    ApiError
        400 that names it.
    """
    raw = data.get(name) if isinstance(data, dict) else None
    if raw is None:
        return None
    value = raw.strip() if isinstance(raw, str) else ""
    if not value:
        message = "This field may not be blank." if isinstance(raw, str) else "Not a valid string."
        raise ApiError(400, {name: [message]})
    if len(value) > most:
        raise ApiError(400, {name: [f"Ensure this field has no more than {most} characters."]})
    if not value.isprintable():
        raise ApiError(400, {name: ["Only printable characters are allowed."]})
    return value


def document(
    tag: str,
    operation: str,
    summary: str,
    answers: Mapping[str, str],
    *,
    body: Mapping[str, Any] | None = None,
    path: Mapping[str, Mapping[str, Any]] | None = None,
    query: Mapping[str, Mapping[str, Any]] | None = None,
    answer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an OpenAPI operation.

    Parameters
    ----------
    answers
        Status -> what it means.
    body
        JSON schema of the body.
    path, query
        JSON schemas of the parameters.
    answer
        JSON schema of a success.
    """
    found: dict[str, Any] = {"tags": [tag], "operationId": operation, "summary": summary, "responses": {}}
    for status, meaning in answers.items():
        success = status.startswith("2")
        schema = (answer or {}) if success else {"$ref": "#/components/schemas/Detail"}
        found["responses"][status] = {"description": meaning, "content": {"application/json": {"schema": schema}}}
    parameters = [
        {"name": name, "in": where, "required": where == "path", "schema": schema}
        for where, named in (("path", path or {}), ("query", query or {}))
        for name, schema in named.items()
    ]
    if parameters:
        found["parameters"] = parameters
    if body is not None:
        found["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return found
