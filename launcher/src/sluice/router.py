"""The path table: which service answers which path."""

import re
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["PathRouter"]


class PathRouter:
    """ASGI application that hands each request to the service that declared the longest matching prefix.

    ``/api/logs`` is the prefix of ``/api/logs``, ``/api/logs/…`` and ``/api/logs.json``, not of ``/api/logsheets/``.

    Parameters
    ----------
    apps
        Applications by service.
    routes
        ``ROUTES`` by service.
    default
        The service that gets what nobody claims.
    prefix
        ``SLUICE_BASE_PATH``; it stands before all routes, and is left to the service to take away.

    Raises
    ------
    ValueError
        Two services claim one prefix.
    """

    def __init__(
        self, apps: Mapping[str, ASGIApp], routes: Mapping[str, Sequence[str]], *, default: str, prefix: str = ""
    ) -> None:
        self._table: dict[str, ASGIApp] = {}
        self._default = apps[default]
        self._skip = len(prefix)
        owners: dict[str, str] = {}
        for service, declared in routes.items():
            for route in declared:
                key = route.rstrip("/")
                if key in owners:
                    raise ValueError(f"{service} and {owners[key]} both claim {route}")
                owners[key] = service
                self._table[key] = apps[service]
        longest_first = sorted(map(re.escape, self._table), key=len, reverse=True)
        self._match = re.compile(f"(?:{'|'.join(longest_first)})(?=[/.]|$)").match

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError("services have lifespans of their own")
        found = self._match(scope["path"], self._skip)
        await (self._table[found[0]] if found else self._default)(scope, receive, send)
