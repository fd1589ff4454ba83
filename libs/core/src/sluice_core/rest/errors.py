"""Refusals in the shapes of the original (contract 2.2, 2.6, 5.2)."""

from collections.abc import Mapping
from typing import Any

__all__ = ["NOT_PROVIDED", "ApiError", "Invalid", "denied", "not_found", "unauthenticated", "unauthenticated_stream"]

NOT_PROVIDED = "Authentication credentials were not provided."


class ApiError(Exception):
    """An answer other than success.

    Parameters
    ----------
    status
        HTTP status.
    content
        The body, encoded as JSON.
    headers
        Further headers.
    """

    def __init__(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, content)
        self.status = status
        self.content = content
        self.headers = dict(headers or {})


class Invalid(ApiError):
    """A body or a query that breaks rules: 400, each bad field with its messages."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(400, dict(errors))
        self.errors = dict(errors)


def not_found(model: str | None = None) -> ApiError:
    """Return the 404 for a row of ``model`` that is absent, or for a key that cannot be one (None)."""
    return ApiError(404, {"detail": f"No {model} matches the given query." if model else "Not found."})


def unauthenticated(detail: str = NOT_PROVIDED, *, challenge: bool = False) -> ApiError:
    """Return the refusal of a missing or bad credential: 403, or 401 with a challenge (contract 5.2)."""
    if challenge:
        return ApiError(401, {"detail": detail}, {"WWW-Authenticate": "Token"})
    return ApiError(403, {"detail": detail})


def unauthenticated_stream() -> ApiError:
    """Return the refusal of a stream: one text for a missing and for a bad credential, no challenge, and a space."""
    return ApiError(401, b'{"detail": "%b"}' % NOT_PROVIDED.encode())


def denied() -> ApiError:
    """Return the refusal of a known caller without the scope (decision 5)."""
    return ApiError(403, {"detail": "You do not have permission to perform this action."})
