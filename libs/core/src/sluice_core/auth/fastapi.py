"""Who calls, for FastAPI routes: new endpoints, which refuse with RFC 9457 problems (DECISIONS 1, 24).

Not imported by `sluice_core.auth`, so that what only verifies tokens needs no web framework.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from sluice_core.auth.authenticator import Authenticator
from sluice_core.auth.identity import Identity, Refused, Throttled, Undecided
from sluice_core.auth.sessions import CsrfFailed, Session
from sluice_core.errors import Problem, Unavailable

__all__ = ["REFUSALS", "Browser", "Forbidden", "Reader", "TooManyTries", "Unauthenticated", "require"]

NOT_PROVIDED = "Authentication credentials were not provided."

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No credential, or a bad one"},
    403: {"description": "Not the scope, or a session without its CSRF token"},
    503: {"description": "Nobody can say yet whether the credential is good; `Retry-After` says when to try again"},
}
"""What a route with `require` answers beside its own; for its ``responses``."""


class Unauthenticated(Problem):
    """No credential, or one that is not good."""

    status, code, title = 401, "unauthenticated", "Authentication is required"


class Forbidden(Problem):
    """A known caller who may not do this."""

    status, code, title = 403, "forbidden", "Not allowed"


class TooManyTries(Problem):
    """Too many wrong passwords came before this one."""

    status, code, title = 429, "too_many_tries", "Too many tries"


async def _identify(request: Request) -> Identity | None:
    auth: Authenticator = request.app.state.service.auth
    try:
        return await auth.identify(request.scope)
    except CsrfFailed as exc:
        raise Forbidden(exc.detail) from None
    except Refused as exc:
        raise Unauthenticated(
            exc.detail, headers={"WWW-Authenticate": 'Bearer realm="sluice", error="invalid_token"'}
        ) from None
    except Throttled as exc:
        raise TooManyTries(str(exc), headers={"Retry-After": str(exc.wait)}) from None
    except Undecided as exc:
        raise _away(exc) from None


def _away(exc: Undecided) -> Unavailable:
    return Unavailable(str(exc), headers={"Retry-After": "2"})


def _missing() -> Unauthenticated:
    return Unauthenticated(NOT_PROVIDED, headers={"WWW-Authenticate": 'Bearer realm="sluice"'})


class _Required(SecurityBase):
    """A dependency that OpenAPI shows as the scheme which `sluice_core.rest` declares."""

    model = HTTPBearer()
    scheme_name = "bearer"

    def __init__(self, scopes: Sequence[str]) -> None:
        self.scopes = scopes

    async def __call__(self, request: Request) -> Identity:
        identity = await _identify(request)
        if identity is None:
            raise _missing()
        for scope in self.scopes:
            if not identity.may(scope):
                raise Forbidden(f"This needs the scope {scope}.")
        return identity


def require(*scopes: str) -> Any:
    """Let in only who holds all of these scopes; without any, whoever has a good credential.

    Raises
    ------
    Unauthenticated, Forbidden
        When a request comes.

    Examples
    --------
    >>> @router.delete("/{name}")
    ... def remove(name: str, caller: Annotated[Identity, require(Scope.AGENTS_WRITE)]) -> None: ...
    """
    return Security(_Required(scopes), scopes=scopes)


async def _reader(request: Request) -> Identity | None:
    identity = await _identify(request)
    if identity is None and not request.app.state.service.settings.shared.anonymous_read:
        raise _missing()
    return identity


async def _browser(request: Request) -> Session | None:
    auth: Authenticator = request.app.state.service.auth
    try:
        known = await auth.identify(request.scope, only="session")
    except CsrfFailed as exc:
        raise Forbidden(exc.detail) from None
    except Undecided as exc:
        raise _away(exc) from None
    return None if known is None else auth.session(request.scope["headers"])


Browser = Annotated[Session | None, Depends(_browser)]
"""Parameter of a route that is about the session itself; no other credential is looked at."""

Reader = Annotated[Identity | None, Depends(_reader)]
"""Parameter of a route that reads: open to all where the deployment says so, though never to a bad credential."""
