"""Login and logout, for programs in pages and by form, and who one is (contract 5.3)."""

import hmac
import html
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from sluice_core.auth import Authenticator, Identity, PasswordsAway, Refused, Throttled, digest
from sluice_core.auth.fastapi import REFUSALS, Browser, Forbidden, TooManyTries, require
from sluice_core.auth.sessions import CSRF_COOKIE, CSRF_HEADER, SESSION_COOKIE, cookie
from sluice_core.database import DatabaseAway
from sluice_core.errors import Invalid, Unavailable
from sluice_core.http import absolute_url, client_address
from sluice_core.http.answers import json_response
from sluice_core.rest import ApiError
from sluice_core.rest.body import parse
from sluice_registry.errors import WrongPassword
from sluice_registry.handlers.cookies import hand_out, is_secure, root_path, safe_path, take_back
from sluice_registry.service.logins import Logins, Opened

__all__ = ["router"]

PAGE = "/accounts/login/"
CROSS_SITE = "CSRF Failed: a page of another site asks."
NO_COOKIE = "CSRF Failed: CSRF cookie not set."
NO_TOKEN = "CSRF Failed: CSRF token missing."  # noqa: S105 - a sentence
WRONG_TOKEN = "CSRF Failed: CSRF token from POST incorrect."  # noqa: S105 - a sentence
WRONG = "Please enter a correct username and password."
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sluice"'}

Trusted = Sequence[IPv4Network | IPv6Network]


class Credentials(BaseModel):
    """Who comes in; what else a form sends is ignored."""

    model_config = ConfigDict(extra="ignore")

    username: Annotated[str, StringConstraints(min_length=1, max_length=150)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class SessionShown(BaseModel):
    """A session."""

    id: str
    expires_at: datetime = Field(description="Unless it is renewed by then, which whoami does once half of it is over")


class Caller(BaseModel):
    """Who calls."""

    subject: str
    scopes: list[str]
    token_id: str | None
    namespaces: list[str] | None = Field(description="The only ones whose rows he may write; null: all")
    session: SessionShown | None


def router(logins: Logins, trusted: Trusted, *, facility: bool = False) -> APIRouter:
    """Return login, logout and whoami.

    Parameters
    ----------
    trusted
        Proxies that tell where a request comes from.
    facility
        Whether the form leads to the facility's login too.
    """
    routes = APIRouter()
    page = partial(_page, facility=facility)

    async def open_session(request: Request, credentials: Credentials) -> Opened:
        source = client_address(request.scope, trusted)
        try:
            return await logins.log_in(credentials.username, credentials.password.get_secret_value(), source)
        except Refused as exc:
            raise WrongPassword(exc.detail, headers=CHALLENGE) from None
        except Throttled as exc:
            raise TooManyTries(str(exc), headers={"Retry-After": str(exc.wait)}) from None
        except PasswordsAway as exc:
            raise Unavailable(str(exc), headers={"Retry-After": "2"}) from None

    @routes.post(
        "/api/auth/login",
        tags=["auth"],
        summary="Log in by user name and password",
        description=f"Sets the cookies `{SESSION_COOKIE}` and `{CSRF_COOKIE}`. A request that changes something sends "
        f"the second one in the header `{CSRF_HEADER}` too. Wrong passwords cost time: the more of them, the more.",
        operation_id="login",
        response_description="Who is logged in",
        response_model=Caller,
        responses={
            400: {"description": "No user name, or no password"},
            401: {"description": "They do not belong together"},
            403: {"description": "A page of another site asks"},
            415: {"description": "Neither JSON nor a form"},
            429: {"description": "Too many wrong ones came before"},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    media: {"schema": Credentials.model_json_schema()}
                    for media in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
                },
            }
        },
    )
    async def login(request: Request) -> Response:
        _insist_on_own_site(request)
        opened = await open_session(request, _credentials(await _data(request)))
        return hand_out(request, json_response(_shown(opened.identity, opened.expires_at)), opened)

    @routes.post(
        "/api/auth/logout",
        tags=["auth"],
        status_code=204,
        summary="Log out",
        description="Ends the session of the request everywhere; without one there is nothing to end.",
        operation_id="logout",
        response_description="Nobody is logged in",
        responses={403: REFUSALS[403]},
    )
    async def logout(request: Request, session: Browser) -> Response:
        if session is not None:
            await logins.log_out(session)
        return take_back(request, Response(status_code=204))

    @routes.get(
        "/api/auth/whoami",
        tags=["auth"],
        summary="Who I am and what I may",
        description="Renews a session once half of its life is over.",
        operation_id="whoami",
        response_description="The caller",
        response_model=Caller,
        responses={401: REFUSALS[401]},
    )
    async def whoami(request: Request, caller: Annotated[Identity, require()]) -> Response:
        auth: Authenticator = request.app.state.service.auth
        session = auth.session(request.scope["headers"]) if caller.by == "session" else None
        if session is None:
            return json_response(_shown(caller, None))
        with suppress(DatabaseAway):  # then it is renewed the next time
            if opened := await logins.renew(session):
                return hand_out(request, json_response(_shown(opened.identity, opened.expires_at)), opened)
        return json_response(_shown(caller, datetime.fromtimestamp(session.expires, UTC)))

    @routes.get(PAGE, include_in_schema=False)
    async def form(request: Request) -> Response:
        return page(request, next_path=request.query_params.get("next", ""))

    @routes.post(PAGE, include_in_schema=False)
    async def form_sent(request: Request) -> Response:
        _insist_on_own_site(request)
        data = await _data(request)
        texts = data.items() if isinstance(data, dict) else ()
        sent = {name: value for name, value in texts if isinstance(value, str)}
        next_path = sent.get("next") or request.query_params.get("next", "")
        if problem := _form_csrf(request, sent.get("csrfmiddlewaretoken", "")):
            return page(request, problem, status=403, next_path=next_path)
        try:
            opened = await open_session(request, _credentials(sent))
        except (Invalid, WrongPassword):
            return page(request, WRONG, status=401, next_path=next_path, headers=CHALLENGE)
        except (TooManyTries, Unavailable) as exc:
            return page(request, exc.detail, status=exc.status, next_path=next_path, headers=exc.headers)
        answer = Response(status_code=302, headers={"Location": safe_path(next_path, f"{root_path(request)}/")})
        return hand_out(request, answer, opened)

    return routes


def _shown(caller: Identity, session_ends: datetime | None) -> dict[str, Any]:
    return {
        "subject": caller.subject,
        "scopes": sorted(caller.scopes),
        "token_id": caller.token_id,
        "namespaces": None if caller.namespaces is None else sorted(caller.namespaces),
        "session": None if session_ends is None else {"id": caller.token_id, "expires_at": session_ends},
    }


async def _data(request: Request) -> Any:
    try:
        return parse(request.headers.get("content-type", ""), await request.body())
    except ApiError as exc:
        said = exc.content.get("detail") or exc.content.get("non_field_errors", ["Bad request"])[0]
        raise HTTPException(exc.status, said) from None


def _credentials(data: Any) -> Credentials:
    try:
        return Credentials.model_validate(data)
    except ValidationError as exc:
        # Without what was sent: it may be a password.
        raise Invalid(
            [{"field": ".".join(map(str, each["loc"])) or "body", "message": each["msg"]} for each in exc.errors()]
        ) from None


# Nobody is logged in by a page of somebody else


def _insist_on_own_site(request: Request) -> None:
    """Refuse a login that a page of another site has sent; programs that are no browser send neither header.

    Raises
    ------
    Forbidden
        One did.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        own = site in ("same-origin", "none")
    else:
        origin = request.headers.get("origin")
        hosts = {request.headers.get("host", ""), urlsplit(absolute_url(request.scope, "")).netloc}
        own = origin is None or urlsplit(origin).netloc in hosts
    if not own:
        raise Forbidden(CROSS_SITE)


def _form_csrf(request: Request, field: str) -> str | None:
    """Say what is wrong with the proof that the form is ours."""
    known = cookie(request.scope["headers"], CSRF_COOKIE)
    sent = field or request.headers.get(CSRF_HEADER, "")
    if not known:
        return NO_COOKIE
    if not sent:
        return NO_TOKEN
    return None if hmac.compare_digest(digest(sent), digest(known)) else WRONG_TOKEN


def _page(
    request: Request,
    problem: str = "",
    *,
    status: int = 200,
    next_path: str = "",
    headers: Mapping[str, str] | None = None,
    facility: bool = False,
) -> Response:
    """Show the form; its texts and its look are those of a later page."""
    csrf = cookie(request.scope["headers"], CSRF_COOKIE) or secrets.token_urlsafe(24)
    hidden = {"csrfmiddlewaretoken": csrf, "next": next_path}
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in hidden.items()
    )
    said = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    other = ""
    if facility:
        target = html.escape(f"{root_path(request)}/api/auth/oidc/login?{urlencode({'next': next_path})}")
        other = f'<p><a href="{target}">Log in with your account of the facility</a></p>'
    body = (
        f'<!doctype html><html lang="en"><title>Log in</title><h1>Log in</h1>{said}<form method="post">{fields}'
        '<p><label>User name <input name="username" autocomplete="username" maxlength="150" required></label></p>'
        '<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
        f"</p><p><button>Log in</button></p></form>{other}</html>\n"
    )
    answer = Response(body, status, dict(headers or {}), "text/html; charset=utf-8")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Content-Security-Policy"] = "default-src 'none'; form-action 'self'; frame-ancestors 'none'"
    answer.set_cookie(CSRF_COOKIE, csrf, path=f"{root_path(request)}/", secure=is_secure(request), samesite="lax")
    return answer
