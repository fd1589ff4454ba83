"""What every answer has in common, in one pass: request id, headers, metrics, and no exception gets out."""

import itertools
import re
import secrets
from collections.abc import Awaitable
from time import perf_counter

import structlog
from opentelemetry import trace
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_core.audit import Note, Place, Trail, begin
from sluice_core.database import DatabaseAway
from sluice_core.http.pages import HTML, page
from sluice_core.http.prefix import PUBLIC_URL
from sluice_core.http.source import Networks, client_address
from sluice_core.logging import RequestContext, request_context
from sluice_core.metrics import OTHER, Metrics

__all__ = ["ROUTE", "SECURITY", "STREAM", "Envelope"]

ROUTE = "sluice.route"
"""Scope key under which an inner application leaves the template of the route that answered."""

STREAM = "sluice.stream"
"""Scope key that an inner application sets before an endless answer, which is no slow request."""

SECURITY = (
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""Headers of every answer (contract section 1)."""

AWAY_BODY = b'{"detail":"The database is not available at the moment."}'
RETRY_AFTER = "2"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# The client went away, or the process stopped, before there was an answer.
_UNANSWERED = 499

log = structlog.get_logger(__name__)


class Envelope:
    """The outermost layer of a service. A WebSocket gets the request id that its log lines have, and nothing else.

    Parameters
    ----------
    app
        Tells the template of its route in ``scope["sluice.route"]``, or as Starlette does in ``scope["route"]``.
    metrics
        Where requests are counted.
    service
        Its name, for the log.
    public_url
        ``SLUICE_PUBLIC_URL``, for `absolute_url`.
    trail
        Gets the audit records; None: there are none.
    trusted
        Proxies that tell where a request comes from.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        *,
        service: str = "",
        public_url: str = "",
        trail: Trail | None = None,
        trusted: Networks = (),
    ) -> None:
        self.app = app
        self._metrics = metrics
        self._service = service
        self._public_url = public_url
        self._trail = trail
        self._trusted = trusted
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        metrics = self._metrics
        request_id, traceparent = self._identify(scope)
        # Every request has a task of its own and with it its own context: nothing to reset.
        request_context.set(RequestContext(request_id.decode(), traceparent, self._service))
        noted = begin()
        noted.place = lambda: self._place(scope, noted, request_id)
        if self._public_url:
            scope[PUBLIC_URL] = self._public_url
        if scope["type"] == "websocket":
            try:
                await self.app(scope, receive, send)
            finally:
                self._record(scope, noted, "WEBSOCKET", None)
            return
        status = 0

        def send_in_envelope(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if status != 301:  # contract 18.1
                    headers += SECURITY
                message["headers"] = headers
                if "fastapi.telemetry" in scope and ROUTE in scope:
                    _name_span(scope["method"], scope[ROUTE])
                if STREAM in scope:
                    metrics.streams += 1
                    metrics.in_flight -= 1
                    metrics.route(_route(scope), scope["method"], status).started()
            return send(message)

        metrics.in_flight += 1
        try:
            await self.app(scope, receive, send_in_envelope)
        except ClientDisconnect:
            pass
        except DatabaseAway as exc:
            log.warning("database away", reason=str(exc), route=_route(scope))
            if status:
                raise
            headers = {"Content-Type": "application/json", "Retry-After": RETRY_AFTER}
            await _answer(send_in_envelope, 503, AWAY_BODY, headers)
        except Exception:
            if status:
                # The server logs it and aborts the connection: a broken answer must not look like a whole one.
                raise
            log.exception("request failed", method=scope["method"], route=_route(scope))
            await _answer(send_in_envelope, 500, page(500), {"Content-Type": HTML})
        finally:
            if STREAM in scope and status:
                metrics.streams -= 1
            else:
                metrics.in_flight -= 1
                metrics.route(_route(scope), scope["method"], status or _UNANSWERED).done(perf_counter() - began)
            self._record(scope, noted, scope["method"], status)

    def _record(self, scope: Scope, noted: Note, method: str, status: int | None) -> None:
        if self._trail is not None and noted.matters(method, status, known=_route(scope) != OTHER):
            self._trail.request(noted, status)

    def _place(self, scope: Scope, noted: Note, request_id: bytes) -> Place:
        return Place(
            method=scope.get("method", "WEBSOCKET"),
            route=_route(scope),
            words=noted.words or "/".join(map(str, scope.get("path_params", {}).values())),
            request_id=request_id.decode(),
            source=client_address(scope, self._trusted),
        )

    def _identify(self, scope: Scope) -> tuple[bytes, str | None]:
        request_id, traceparent = b"", None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                request_id = value
            elif name == b"traceparent" and _TRACEPARENT.fullmatch(value):
                traceparent = value.decode()
        return request_id or b"%s-%x" % (self._process.encode(), next(self._numbers)), traceparent


def _name_span(method: str, route: str) -> None:
    # FastAPI makes the span of a request, but knows its own routes only.
    span = trace.get_current_span()
    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)


def _route(scope: Scope) -> str:
    return str(scope.get(ROUTE) or getattr(scope.get("route"), "path", OTHER))


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
