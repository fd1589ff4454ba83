"""The HTTP door of all resources and endpoints of one service.

One dispatcher serves every method of a path, because the order of checks is part of the contract (18.2, 18.10):
representation, credentials, method, row, body, values. A router that matches methods, or a framework that parses
bodies before it asks who is calling, answers in another order.
"""

import asyncio
import html
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import lru_cache, partial
from typing import Literal, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_core.audit import note
from sluice_core.auth import Identity, Refused, Throttled, Undecided
from sluice_core.database import Database, DatabaseAway
from sluice_core.http import BodyTooLarge
from sluice_core.http.envelope import STREAM
from sluice_core.rest.body import parse
from sluice_core.rest.errors import NOT_PROVIDED, ApiError, denied, unauthenticated, unauthenticated_stream
from sluice_core.rest.listing import Listing
from sluice_core.rest.negotiate import Format, negotiate
from sluice_core.rest.operations import Operations
from sluice_core.rest.options import describe, describe_resource
from sluice_core.rest.request import JSON, Reply, Request
from sluice_core.rest.resource import Endpoint, Resource, Row
from sluice_core.rest.tags import tag

__all__ = ["Authenticates", "Door"]

SAFE = ("GET", "HEAD", "OPTIONS")
VARY = (b"vary", b"Accept, Cookie")
SUFFIXES = ("json", "api")
# Kinds of endpoints that look at one kind of credential only.
ONLY: Mapping[str, Literal["token", "session"]] = {"token": "token", "browser": "session"}


class Authenticates(Protocol):
    """Whoever can tell who sent a request; see `sluice_core.auth.Authenticator`."""

    async def identify(self, scope: Scope, *, only: Literal["token", "session"] | None = None) -> Identity | None:
        """Return the caller, or None without a credential; raise `Refused` for a bad one.

        `Undecided` where nobody can say now which it is.
        """


@dataclass(frozen=True)
class _Found:
    """Where a path leads."""

    target: "_Rows | Endpoint | None"
    """None: the same path with a slash."""
    template: str = ""
    key: str | None = None
    suffix: str | None = None
    arguments: tuple[str, ...] = ()
    allow: Mapping[str, str] | None = None


class _Rows:
    """One resource with what serves it."""

    def __init__(self, resource: Resource, database: Database, zone: tzinfo) -> None:
        self.resource = resource
        self.operations = Operations(resource, database, zone)
        self.listing = Listing(resource, self.operations.store, database, zone)
        self.detail = f"{resource.path}{{{resource.key}}}/"
        self.on_list = {"Allow": ", ".join(("GET", *resource.on_list, "HEAD", "OPTIONS"))}
        self.on_detail = {"Allow": ", ".join(("GET", *resource.on_detail, "HEAD", "OPTIONS"))}
        self.taken: dict[str, _Found] = {}
        """Methods of the list's path that an endpoint answers."""


class Door:
    """ASGI middleware: answers the paths that were declared and passes on all others.

    Parameters
    ----------
    app
        Gets what is not ours.
    database
        Where the resources are.
    resources, endpoints
        What is served. An endpoint wins over a row of the same path; one on the path of a list answers its own
        methods there, and the resource the others.
    authenticator
        Who reads credentials.
    zone
        The server's time zone (contract 2.3).
    anonymous_read
        Whether reads need no credential (decision 1).
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        database: Database,
        resources: Sequence[Resource] = (),
        endpoints: Sequence[Endpoint] = (),
        authenticator: Authenticates,
        zone: tzinfo,
        anonymous_read: bool = True,
    ) -> None:
        self._app = app
        self._database = database
        self._authenticator = authenticator
        self._anonymous_read = anonymous_read
        self._exact: dict[str, _Found] = {}
        self._patterns: list[tuple[tuple[str, ...], Endpoint]] = []
        self._rows: dict[str, _Rows] = {}
        for resource in resources:
            rows = _Rows(resource, database, zone)
            self._rows[resource.path] = rows
            self._declare(resource.path, rows)
        for endpoint in endpoints:
            if "{" in endpoint.path:
                self._patterns.append((tuple(endpoint.path.split("/")), endpoint))
            elif taken := self._rows.get(endpoint.path):
                own = _Found(endpoint, endpoint.path, allow=taken.on_list)
                taken.taken.update(dict.fromkeys(endpoint.methods, own))
            else:
                self._declare(endpoint.path, endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # Keys may hold an encoded slash, which only the raw path still tells from a separator (decision 13).
        path = scope["raw_path"].partition(b"?")[0].decode("latin-1").removeprefix(scope.get("root_path", ""))
        found = self._exact.get(path) or self._match(path)
        if found is None:
            return await self._app(scope, receive, send)
        if found.target is None:
            return await _redirect(scope, send)
        if isinstance(found.target, _Rows) and found.key is None:
            found = found.target.taken.get(scope["method"], found)
        scope["sluice.route"] = found.template
        await self._answer(found, scope, receive, send)

    def _declare(self, path: str, target: "_Rows | Endpoint") -> None:
        """Make a path known, without its slash and with each suffix (contract 2.1)."""
        self._exact[path] = _Found(target, path)
        self._exact[path[:-1]] = _Found(None)
        for suffix in SUFFIXES:
            for end in ("", "/"):
                self._exact[f"{path[:-1]}.{suffix}{end}"] = _Found(target, path, suffix=suffix)

    def _match(self, path: str) -> _Found | None:
        segments = path.split("/")
        for pattern, endpoint in self._patterns:
            for end in ((), ("",)):
                if found := _fit(pattern, (*segments, *end)):
                    return _Found(None) if end else _Found(endpoint, endpoint.path, arguments=found)
        closed = segments[-1] == ""
        *base, key = segments[:-1] if closed else segments
        rows = self._rows.get("/".join((*base, "")))
        if rows is None or not key:
            return None
        text = unquote_to_bytes(key).decode("utf-8", "replace")
        name, dot, suffix = text.rpartition(".")
        if dot and suffix in SUFFIXES and name:
            return _Found(rows, rows.detail, key=text, suffix=suffix)
        return _Found(rows, rows.detail, key=text) if closed else _Found(None)

    async def _answer(self, found: _Found, scope: Scope, receive: Receive, send: Send) -> None:
        allow: Mapping[str, str] = {}
        wanted: Format = "json"
        target = found.target
        assert target is not None
        limit = target.body_limit if isinstance(target, Endpoint) else target.resource.body_limit
        request = Request(scope, receive, body_limit=limit)
        try:
            if isinstance(target, Endpoint):
                allow = found.allow or {"Allow": target.allow}
                if target.negotiated and target.auth != "stream":
                    wanted = _format(request, found.suffix)
                reply = await self._endpoint(target, found, request)
            else:
                allow = target.on_detail if found.key is not None else target.on_list
                named = found.suffix if found.key is None else None
                if found.key is not None and found.suffix:
                    named = await self._database.run(self._suffix, target, found)
                wanted = _format(request, named)
                reply = await self._resource(target, found, request, named, wanted)
        except ApiError as exc:
            reply = Reply(exc.status, exc.content, exc.headers)
        except Refused as exc:
            refusal = _refusal(target, exc.detail)
            reply = Reply(refusal.status, refusal.content, refusal.headers)
        except Throttled as exc:
            reply = Reply(429, {"detail": str(exc)}, {"Retry-After": str(exc.wait)})
        except Undecided as exc:
            reply = Reply(503, {"detail": str(exc)}, {"Retry-After": "2"})
        except BodyTooLarge:
            reply = Reply(413, {"detail": f"Request body exceeds {limit} bytes."}, {"Connection": "close"})
        except DatabaseAway:
            reply = Reply(503, {"detail": "The database cannot be reached. Try again."}, {"Retry-After": "1"})
        await _send(reply, allow, wanted, request, send)

    # Endpoints

    async def _endpoint(self, endpoint: Endpoint, found: _Found, request: Request) -> Reply:
        noted = note()
        noted.routine = not endpoint.audited
        noted.words = "/".join(found.arguments)
        if endpoint.auth != "ignored":
            request.identity = await self._authenticator.identify(request.scope, only=ONLY.get(endpoint.auth))
            is_open = endpoint.auth in ("open", "browser") or (endpoint.auth == "read" and self._anonymous_read)
            if not is_open:
                if request.identity is None:
                    raise _refusal(endpoint)
                if endpoint.scope is not None and not request.identity.may(endpoint.scope):
                    raise denied()
        method = "GET" if request.method == "HEAD" else request.method
        handler: Callable[[Request], Awaitable[Reply]] | None = endpoint.methods.get(method)
        if handler is None:
            if method == "OPTIONS":
                words = endpoint.path.strip("/").rpartition("/")[2].replace("-", " ")
                return Reply(200, describe(words.capitalize()))
            raise _not_allowed(request.method)
        if found.arguments:
            names = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
            request.arguments = dict(zip(names, found.arguments, strict=True))
        return await handler(request)

    # Resources

    async def _resource(
        self, rows: _Rows, found: _Found, request: Request, suffix: str | None, wanted: Format
    ) -> Reply:
        resource, method = rows.resource, request.method
        noted = note()
        key = "" if found.key is None else found.key.removesuffix(f".{suffix}") if suffix else found.key
        noted.words = key
        noted.routine = found.key is None and method == "POST" and not resource.create_audited
        await self._admit(resource, request)
        if found.key is not None:
            return await self._detail(rows, key, request)
        if method in ("GET", "HEAD"):
            return await self._list(rows, request, wanted)
        if method in resource.on_list:
            body = partial(parse, request.header("content-type"), await request.body())
            row = await self._database.run(rows.operations.create, body, request.identity)
            noted.key = str(row[resource.key])
            return Reply(201, row)
        if method == "OPTIONS":
            return Reply(200, describe_resource(resource, detail=False, writes=_may_write(request, resource)))
        raise _not_allowed(method)

    async def _admit(self, resource: Resource, request: Request) -> None:
        creating = request.method == "POST"
        if creating and resource.create_open:
            # What is open to everybody is still not open to a page of somebody else (contract 5.3).
            request.identity = await self._authenticator.identify(request.scope, only="session")
            return
        request.identity = await self._authenticator.identify(request.scope)
        safe = request.method in SAFE
        if request.identity is None:
            is_open = self._anonymous_read if resource.read_open is None else resource.read_open
            if not (safe and is_open):
                raise unauthenticated()
        elif not safe and not request.identity.may((creating and resource.create) or resource.write):
            raise denied()

    async def _detail(self, rows: _Rows, key: str, request: Request) -> Reply:
        do, method = rows.operations, request.method
        if method in ("GET", "HEAD"):
            return _row(rows.resource, await self._database.run(do.read, key))
        if method != "OPTIONS" and method not in rows.resource.on_detail:
            raise _not_allowed(method)
        match = request.header("if-match") if rows.resource.tagged else ""
        if method in ("PUT", "PATCH"):
            body = partial(parse, request.header("content-type"), await request.body())
            change = partial(do.change, key, body, request.identity, partial=method == "PATCH", match=match)
            return _row(rows.resource, await self._database.run(change))
        if method == "DELETE":
            await self._database.run(partial(do.delete, key, request.identity, match=match))
            return Reply(204)
        if method == "OPTIONS":
            writes = _may_write(request, rows.resource)
            if writes:
                await self._database.run(do.read, key)
            return Reply(200, describe_resource(rows.resource, detail=True, writes=writes))
        raise _not_allowed(method)

    def _suffix(self, rows: _Rows, found: _Found) -> str | None:
        """Return the format that ends a path, unless a row has that whole name (decision 13)."""
        try:
            rows.operations.read(found.key or "")
        except ApiError:
            return found.suffix
        return None

    async def _list(self, rows: _Rows, request: Request, wanted: Format) -> Reply:
        listing, query = rows.listing, request.query
        paged = "limit" in query or "offset" in query or wanted == "html"
        if not paged and (sought := listing.exact(query)) is not None:
            return Reply(200, await listing.one(*sought))
        where = listing.where(query)
        if paged:
            # A person gets a page with links, never a million rows.
            query.setdefault("limit", "100")
            return Reply(200, await self._database.run(listing.limited, query, where, request.url(rows.resource.path)))
        first = await listing.first(where, query)
        if first.following is None:
            return Reply(200, first.text + b"]")
        return Reply(200, listing.chain(first))


def _refusal(target: "_Rows | Endpoint", detail: str = NOT_PROVIDED) -> ApiError:
    """Return how a missing or bad credential is refused here (contract 5.2)."""
    auth = target.auth if isinstance(target, Endpoint) else "session"
    return unauthenticated_stream() if auth == "stream" else unauthenticated(detail, challenge=auth == "token")


def _fit(pattern: tuple[str, ...], segments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of the placeholders, or nothing when the path is another one."""
    if len(pattern) != len(segments):
        return ()
    values = []
    for part, segment in zip(pattern, segments, strict=True):
        if part.startswith("{") and segment:
            values.append(unquote_to_bytes(segment).decode("utf-8", "replace"))
        elif part != segment:
            return ()
    return tuple(values)


def _format(request: Request, suffix: str | None) -> Format:
    return negotiate(request.header("accept"), suffix or request.query.get("format") or None)


def _row(resource: Resource, row: Row) -> Reply:
    if not resource.tagged:
        return Reply(200, row)
    body = msgspec.json.encode(row)
    return Reply(200, body, {"ETag": tag(body)})


def _may_write(request: Request, resource: Resource) -> bool:
    return request.identity is not None and request.identity.may(resource.write)


def _not_allowed(method: str) -> ApiError:
    return ApiError(405, {"detail": f'Method "{method}" not allowed.'})


async def _redirect(scope: Scope, send: Send) -> None:
    """Send to the same path with a slash; none of the other headers (contract 18.1)."""
    path, _, _ = scope["raw_path"].partition(b"?")
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    headers = [(b"location", path + b"/" + query), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 301, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@lru_cache(1024)
def _raw(name: str, value: str) -> tuple[bytes, bytes]:
    return name.lower().encode(), value.encode("latin-1")


async def _send(reply: Reply, allow: Mapping[str, str], wanted: Format, request: Request, send: Send) -> None:
    headers = [VARY, *(_raw(*each) for each in allow.items() if each[0] not in reply.headers)]
    if reply.headers:
        headers += [_raw(*each) for each in reply.headers.items()]
    if reply.stream is not None and request.method != "HEAD":
        headers.append(_raw("Content-Type", reply.media_type))
        request.scope[STREAM] = True
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        return await reply.stream(request.scope, request.receive, send)
    if isinstance(reply.content, AsyncIterator):
        headers.append(_raw("Content-Type", reply.media_type))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if request.method == "HEAD":
            return await send({"type": "http.response.body", "body": b""})
        return await _stream(reply.content, request, send)
    body, media_type = reply.body, reply.media_type
    if wanted == "html" and media_type == JSON and body:
        body, media_type = _page(request, reply), "text/html; charset=utf-8"
    if reply.status != 204:
        headers.append(_raw("Content-Type", media_type))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


async def _stream(pieces: AsyncIterator[bytes], request: Request, send: Send) -> None:
    """Send piece by piece, and stop reading the database once nobody listens any more."""
    gone = asyncio.create_task(request.disconnected())
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if gone.done():
                return
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


def _page(request: Request, reply: Reply) -> bytes:
    """Show an answer to a person (decision 25): its JSON, escaped, and no forms."""
    title = html.escape(request.scope["path"])
    text = html.escape(msgspec.json.format(reply.body, indent=2).decode())
    return f"<!doctype html><title>{title}</title><h1>{title}</h1><pre>HTTP {reply.status}\n{text}</pre>\n".encode()
