"""``/api/auth/oidc/``: login by the facility's OpenID provider."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request, Response
from pydantic import StringConstraints

from sluice_core.auth import PasswordsAway
from sluice_core.auth.provider import ProviderAway
from sluice_core.auth.sessions import CSRF_COOKIE, SESSION_COOKIE, cookie
from sluice_core.errors import Unavailable
from sluice_core.http import absolute_url
from sluice_registry.errors import LoginFailed, NoFacility
from sluice_registry.handlers.cookies import hand_out, is_secure, root_path, safe_path
from sluice_registry.service.facility import LIFETIME, NOT_BEGUN, FacilityLogins

__all__ = ["router"]

PATH = "/api/auth/oidc/"
CALLBACK = f"{PATH}callback"
COOKIE = "facilitylogin"
MAX_COOKIE = 4096
# What a browser keeps beside it in one cookie.
MAX_NEXT = 1500
AWAY = "The facility's login does not answer. Try again."

Text = Annotated[str, StringConstraints(max_length=4096)]

log = structlog.get_logger(__name__)


def router(logins: FacilityLogins | None) -> APIRouter:
    """Return the way to the provider and back.

    Parameters
    ----------
    logins
        None where no provider is configured.
    """
    routes = APIRouter(tags=["auth"])

    def configured() -> FacilityLogins:
        if logins is None:
            raise NoFacility
        return logins

    def leave_attempt(request: Request, answer: Response, content: str) -> Response:
        age = int(LIFETIME.total_seconds()) if content else 0
        path, secure = f"{root_path(request)}{PATH}", is_secure(request)
        answer.set_cookie(COOKIE, content, age, path=path, secure=secure, httponly=True, samesite="lax")
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @routes.get(
        f"{PATH}login",
        status_code=302,
        summary="Log in with an account of the facility",
        description="Sends the browser to the facility's OpenID provider, and from there to `next`, a path of this "
        "site. Another tab that is on the same way must begin anew.",
        operation_id="oidc_login",
        response_class=Response,
        response_description="The way to the provider",
        responses={404: {"description": "No provider is configured"}, 503: {"description": "It does not answer"}},
    )
    async def login(
        request: Request, next_path: Annotated[Text, Query(alias="next", description="Where to go then")] = ""
    ) -> Response:
        own, home = configured(), f"{root_path(request)}/"
        target = safe_path(next_path, home)
        try:
            url, attempt = await own.begin(
                absolute_url(request.scope, CALLBACK), target if len(target) <= MAX_NEXT else home
            )
        except ProviderAway as exc:
            raise _away(exc) from None
        return leave_attempt(request, Response(status_code=302, headers={"Location": url}), attempt)

    @routes.get(
        CALLBACK,
        status_code=302,
        summary="Come back from the facility",
        description=f"Sets the cookies `{SESSION_COOKIE}` and `{CSRF_COOKIE}`, as a login by password. The user is "
        "made when he comes for the first time, and has the roles of his groups from each login on.",
        operation_id="oidc_callback",
        response_class=Response,
        response_description="The way to where the login was begun",
        responses={
            400: {"description": "Not begun in this browser, or the provider does not stand for its user"},
            404: {"description": "No provider is configured"},
            503: {"description": "It does not answer"},
        },
    )
    async def callback(request: Request, state: Text = "", code: Text = "") -> Response:
        own = configured()
        attempt = cookie(request.scope["headers"], COOKIE)
        if not attempt or len(attempt) > MAX_COOKIE or not attempt.isascii():
            raise LoginFailed(NOT_BEGUN)
        try:
            opened, target = await own.finish(
                attempt,
                state,
                code,
                redirect_uri=absolute_url(request.scope, CALLBACK),
            )
        except ProviderAway as exc:
            raise _away(exc) from None
        except PasswordsAway:
            raise Unavailable(AWAY, headers={"Retry-After": "2"}) from None
        answer = hand_out(request, Response(status_code=302, headers={"Location": target}), opened)
        return leave_attempt(request, answer, "")

    return routes


def _away(why: ProviderAway) -> Unavailable:
    log.warning("nobody can log in by the facility", why=str(why))
    return Unavailable(AWAY, headers={"Retry-After": "30"})
