"""Prefixes before all paths, and absolute URLs that carry them."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_core.http.pages import error_page

__all__ = ["PUBLIC_URL", "BasePath", "absolute_url"]

PUBLIC_URL = "sluice.public_url"
"""Scope key of the configured ``SLUICE_PUBLIC_URL``, where there is one."""

_HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,255}")


class BasePath:
    """Serve an application below a prefix; outside of it nothing is found.

    As ASGI has it, ``path`` keeps the prefix and ``root_path`` names it; routers look at what comes after.

    Parameters
    ----------
    prefix
        Such as ``/swf-monitor``.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix
        self._inside = f"{prefix}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] in ("http", "websocket"):
            if not scope["path"].startswith(self._inside):
                if scope["type"] == "http":
                    await error_page(404)(scope, receive, send)
                else:
                    await send({"type": "websocket.close", "code": 1000})
                return
            scope["root_path"] = self.prefix
        await self.app(scope, receive, send)


def absolute_url(scope: Scope, path: str) -> str:
    """Return the absolute URL of a path of this deployment.

    Parameters
    ----------
    path
        Without the prefix, such as ``/api/logs/``.

    Returns
    -------
    str
        Below ``SLUICE_PUBLIC_URL`` where that is set, else below the scheme and ``Host`` of the request and the prefix.
    """
    public: str | None = scope.get(PUBLIC_URL)
    if public:
        return public + path
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not _HOST.fullmatch(host):
        name, port = scope.get("server") or ("localhost", None)
        host = f"[{name}]" if ":" in name else name
        host = f"{host}:{port}" if port else host
    return f"{scope['scheme']}://{host}{scope.get('root_path', '')}{path}"
