"""How a browser gets a session and loses it, and where it goes then."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from fastapi import Request, Response

from sluice_core.auth.sessions import CSRF_COOKIE, SESSION_COOKIE, cookie
from sluice_core.http import absolute_url
from sluice_registry.service.logins import Opened

__all__ = ["hand_out", "is_secure", "root_path", "safe_path", "take_back"]


def root_path(request: Request) -> str:
    """Return the prefix of all paths."""
    root: str = request.scope.get("root_path", "")
    return root


def is_secure(request: Request) -> bool:
    """Whether browsers reach us by TLS, so that cookies need not go any other way."""
    return absolute_url(request.scope, "").startswith("https:")


def hand_out(request: Request, answer: Response, opened: Opened) -> Response:
    """Give the browser a session, new or renewed; scripts can read the second cookie only."""
    left = int((opened.expires_at - datetime.now(UTC)) / timedelta(seconds=1))
    csrf = opened.csrf or cookie(request.scope["headers"], CSRF_COOKIE)
    path, secure = f"{root_path(request)}/", is_secure(request)
    answer.set_cookie(SESSION_COOKIE, opened.cookie, left, path=path, secure=secure, httponly=True, samesite="lax")
    if csrf:
        answer.set_cookie(CSRF_COOKIE, csrf, left, path=path, secure=secure, samesite="lax")
    answer.headers["Cache-Control"] = "no-store"
    return answer


def take_back(request: Request, answer: Response) -> Response:
    """Make the browser forget its session."""
    path, secure = f"{root_path(request)}/", is_secure(request)
    answer.delete_cookie(SESSION_COOKIE, path=path, secure=secure, httponly=True, samesite="lax")
    answer.delete_cookie(CSRF_COOKIE, path=path, secure=secure, samesite="lax")
    return answer


def safe_path(target: str, otherwise: str) -> str:
    """Return where to go after the login: a path of this site, and nothing that a browser takes for another one."""
    if not re.fullmatch(r"/(?![/\\])[^\x00-\x20\x7f\\]*", target):
        return otherwise
    return quote(target, safe="/?#%&=+,;:@!$'()*~[]-._")
